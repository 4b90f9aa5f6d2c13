(() => {
  "use strict";
  const root = document.documentElement, light = document.getElementById("light"), modes = ["auto", "light", "dark"];
  light.hidden = false;
  light.addEventListener("click", () => {
    const mode = modes[(modes.indexOf(root.dataset.light || "auto") + 1) % 3];
    if (mode === "auto") delete root.dataset.light; else root.dataset.light = mode;
    light.textContent = "Theme: " + mode;
  });

  if (!("DecompressionStream" in window)) return;
  const unpacked = id => {
    const packed = Uint8Array.from(atob(document.getElementById(id).textContent), c => c.charCodeAt(0));
    return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  };
  let tips;
  unpacked("tips").then(text => { tips = JSON.parse(text); });
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);
  document.addEventListener("pointermove", event => {
    const mark = event.target.closest && event.target.closest("[data-t]");
    tip.hidden = !mark || !tips;
    if (tip.hidden) return;
    tip.textContent = tips[mark.dataset.t].split("; ").join("\n");
    const x = Math.min(event.clientX + 12, innerWidth - tip.offsetWidth - 8);
    const y = Math.min(event.clientY + 12, innerHeight - tip.offsetHeight - 8);
    tip.animate([{left: x + "px", top: y + "px"}], {duration: 0, fill: "forwards"});
  });

  const live = document.getElementById("live");
  if (!live) return;
  live.hidden = false;
  live.addEventListener("click", async () => {
    live.disabled = true;
    const script = document.createElement("script");
    script.textContent = await unpacked("vega");
    document.head.append(script);
    const {theme: config, charts} = JSON.parse(await unpacked("specs"));
    const views = [];
    for (const [name, spec] of Object.entries(charts)) {
      const place = document.getElementById("c-" + name);
      for (const [name, {names, rows}] of Object.entries(spec.datasets))
        spec.datasets[name] = rows.map(row => Object.fromEntries(names.map((column, i) => [column, row[i]])));
      place.replaceChildren();
      views.push((await vegaEmbed(place, spec, {
        mode: "vega-lite", renderer: "svg", actions: false, ast: true, defaultStyle: false, hover: false,
        tooltip: {disableDefaultStyle: true}, config
      })).view);
    }
    window.jobstatsViews = views;
    live.textContent = "Charts are live";
  });
})();
