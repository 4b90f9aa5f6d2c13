"""A browser that reads a page as a reader without a network would, and keeps what went wrong."""

import contextlib
import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

_TELL_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", event =>
  console.error("policy: " + event.violatedDirective + " " + event.blockedURI));
window.alert = message => console.error("ran: " + message);
"""
_AXE = """axe.run(document, {resultTypes: ["violations"], runOnly: %s}).then(found => JSON.stringify(
  found.violations.map(rule => [rule.impact, rule.id, rule.nodes.map(node => node.target.join(" "))])))"""
_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
# What is drawn with opacity is seen as mixed with the paper; with none, it is a label that gave way to another.
_CONTRASTS = """() => {
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const paper = numbers(getComputedStyle(document.body).backgroundColor).slice(0, 3);
  const light = rgb => rgb.map(c => c / 255).map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
  return [...document.querySelectorAll("figure svg text")].filter(text => text.textContent.trim()).map(text => {
    const style = getComputedStyle(text), [r, g, b, a = 1] = numbers(style.fill);
    const opacity = a * style.fillOpacity * style.opacity;
    const seen = light([r, g, b].map((c, i) => c * opacity + paper[i] * (1 - opacity))), under = light(paper);
    return opacity && [(Math.max(seen, under) + .05) / (Math.min(seen, under) + .05), text.textContent];
  }).filter(Boolean);
}"""


class Visit:
    """A page that is open, and the faults seen so far."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.faults: list[str] = []

    def violations(self, *, rules: list[str] | None = None) -> list[list[Any]]:
        """What axe-core calls serious or critical. The page's policy refuses its script, a world apart does not. Last in a visit."""
        session = self.page.context.new_cdp_session(self.page)
        frame = session.send("Page.getFrameTree")["frameTree"]["frame"]["id"]
        world = session.send("Page.createIsolatedWorld", {"frameId": frame, "worldName": "axe"})
        only = {"type": "rule", "values": rules} if rules else {"type": "tag", "values": _TAGS}
        axe = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
        found: dict[str, Any] = {}
        self.page.eval_on_selector_all("[aria-hidden] *", "all => all.forEach(one => one.remove())")  # half of the time
        for expression in (axe + ";0", _AXE % json.dumps(only)):
            found = session.send(
                "Runtime.evaluate",
                {
                    "expression": expression,
                    "contextId": world["executionContextId"],
                    "awaitPromise": True,
                    "returnByValue": True,
                },
            )
            assert "exceptionDetails" not in found, found["exceptionDetails"]
        return [rule for rule in json.loads(found["result"]["value"]) if rule[0] in ("serious", "critical")]

    def weak_texts(self) -> list[list[Any]]:
        """Texts of charts that are hard to read on the paper of the page; axe-core does not judge SVG."""
        return [found for found in self.page.evaluate(_CONTRASTS) if found[0] < 4.5]

    def overflow(self) -> int:
        """How far the page as a whole can be scrolled sideways."""
        return self.page.evaluate("document.documentElement.scrollWidth - innerWidth")

    def colour(self, selector: str, name: str = "color") -> str:
        return self.page.eval_on_selector(selector, f"node => getComputedStyle(node).{name}")

    def make_live(self) -> None:
        """Press the button, and wait until the last chart is drawn."""
        self.page.click("#live")
        self.page.wait_for_selector("#live:has-text('Charts are live')", timeout=20_000)


@contextlib.contextmanager
def visiting(
    browser: Browser, path: Path, *, dark: bool = False, is_faulty: bool = False, **options: Any
) -> Iterator[Visit]:
    """Open a page offline in New York. Any message, error, request or refusal by its policy fails the test.

    With ``is_faulty`` it fails where there is none.
    """
    scheme: Any = "dark" if dark else "light"
    options = {"viewport": {"width": 1280, "height": 900}} | options
    context = browser.new_context(offline=True, timezone_id="America/New_York", color_scheme=scheme, **options)
    context.set_default_timeout(10_000)
    try:
        context.add_init_script(_TELL_VIOLATIONS)
        page = context.new_page()
        visit = Visit(page)
        page.on("console", lambda message: _told(visit, message))
        page.on("pageerror", lambda error: visit.faults.append(f"error: {error}"))
        page.on("request", lambda request: _requested(visit, request.url, path.as_uri()))
        page.goto(path.as_uri())
        yield visit
        page.wait_for_timeout(20)  # what was asked for at last is heard of
        assert bool(visit.faults) == is_faulty, visit.faults
    finally:
        context.close()


# Vega-Lite says so of a timeline whose layers share a domain of times, and draws it as it should.
_KNOWN = ('WARN Conflicting scale property "domain', 'WARN Infinite extent for field "data"')


def _told(visit: Visit, message: Any) -> None:
    if message.type == "warning" and message.text.startswith(_KNOWN):
        return
    if message.type in ("error", "warning", "assert"):
        visit.faults.append(f"{message.type}: {message.text}")


def _requested(visit: Visit, url: str, own: str) -> None:
    if url.partition("#")[0] != own:
        visit.faults.append(f"request: {url[:200]}")
