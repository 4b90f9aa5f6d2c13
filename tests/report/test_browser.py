"""The report as a browser shows it: offline, in both lights, printed, without scripts, with hostile text."""

import base64
import functools
import gzip
import itertools
import json
import re
from collections import defaultdict
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import altair as alt
import pytest
import vl_convert

import jobstats as js
from jobstats.charts import theme
from jobstats.objectives import Objective
from jobstats.report import formats
from jobstats.report.building import Built, build
from jobstats.report.drawing import drawn
from jobstats.report.page import html

from .browsing import Visit, visiting

pytestmark = pytest.mark.skipif(
    formats.browser() is None, reason="no Chromium is found: install one, or name it in JOBSTATS_BROWSER"
)

OBJECTIVES = [
    Objective(name="Starts within a minute", kind="start", target=0.95, within="1m"),
    Objective(name="Succeeds", kind="success", target=0.999),
]
HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    "</style></svg><img src=x onerror=alert(3)>",
    "\" onmouseover=alert(4) onfocus='alert(5)' tabindex=1 x=\"",
    "' + alert(6) + '",
    "'];alert(7);//",
    "\\'+alert(8)+\\'",
    "constructor.constructor('alert(9)')()",
    "${alert(10)} {{alert(11)}} {% raw %}",
    "<!--<script>",
    "javascript:alert(12)",
    "line\u2028two\u2029three",
    "\u202eevil\u2066 \u200fmarks",
    "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "]]><svg/onload=alert(13)>",
    "a; b: c; n: 9",
    "&lt;b&gt; &#x27; &quot;",
]


class Pages(NamedTuple):
    built: Built
    live: Path
    plain: Path


@pytest.fixture(scope="module")
def browser():
    """One for the module: while it runs, no other test could run an event loop."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=formats.browser())
        yield found
        found.close()


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    """Both pages of some runs. A chart that is in both is drawn once."""
    folder = tmp_path_factory.mktemp("pages")

    def written(name: str, loaded: js.Loaded, objectives=()) -> Pages:
        built = build(loaded.jobs, loaded.rejects, objectives=objectives)
        pages = Pages(built, folder / f"{name}-live.html", folder / f"{name}.html")
        for path, live in ((pages.live, True), (pages.plain, False)):
            path.write_text(html(built, live=live), encoding="utf-8", newline="\n")
        return pages

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vl_convert, "vegalite_to_svg", functools.cache(vl_convert.vegalite_to_svg))
        yield written


@pytest.fixture(scope="module")
def real(write, dump) -> Pages:
    return write("dump", dump, OBJECTIVES)


@pytest.fixture(scope="module")
def polled(write, polls) -> Pages:
    return write("polls", polls)


@pytest.fixture(scope="module")
def hostile(write, lines) -> Pages:
    """Real records in whose texts strangers wrote."""
    records = []
    for text, line in zip(itertools.cycle(HOSTILE), lines[:600], strict=False):
        record = json.loads(line)
        record["id"] = f"{text} {len(records)}"
        record["data"] |= {"connector": text, "orgId": text, "connectorId": f"{text} {len(records) % 7}"}
        if len(records) % 3:
            record |= {"state": "failed", "failedReason": text, "finishedOn": 1_795_443_306_000, "attemptsMade": 2}
        records.append(record)
    return write("hostile", js.load(records))


def pictures(pages: Pages) -> int:
    exhibits = [exhibit for section in pages.built.report.sections for exhibit in section.exhibits]
    return sum(drawn(exhibit, pages.built.frames[exhibit.id]) is not None for exhibit in exhibits)


def changed(pages: Pages, tmp_path: Path, old: str, new: str, *, live: bool = False) -> Path:
    """The page with one thing in it changed."""
    text = (pages.live if live else pages.plain).read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "changed.html"
    path.write_text(text.replace(old, new), encoding="utf-8", newline="\n")
    return path


# ---- what is on the page ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", ["real", "polled"])
def test_pages_open_in_silence_and_axe_finds_nothing(browser, request, name, dark):
    pages = request.getfixturevalue(name)
    with visiting(browser, pages.plain, dark=dark) as visit:
        assert visit.page.locator("figure .chart svg").count() == pictures(pages)
        assert visit.weak_texts() == []
        visit.page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true })")
        if name == "real":  # the polls' page holds less
            assert visit.violations(rules=["color-contrast"] if dark else None) == []


def test_without_scripts_nothing_is_missing(browser, real):
    with visiting(browser, real.live) as scripted, visiting(browser, real.live, java_script_enabled=False) as visit:
        assert visit.page.locator("figure .chart svg").count() == pictures(real)
        for visible in ("h1", "figure .chart >> nth=0", "#scorecard table", "summary >> nth=0"):
            assert visit.page.locator(visible).is_visible()
        visit.page.click("summary >> nth=0")
        assert visit.page.locator("figure table >> nth=0").is_visible()
        assert not visit.page.locator("button:visible").count()
        assert visit.page.text_content("main") == scripted.page.text_content("main")


def test_the_button_turns_the_light(browser, real):
    paper = {"light": "rgb(255, 255, 255)", "dark": "rgb(17, 22, 28)"}
    ink = {"light": "rgb(28, 36, 48)", "dark": "rgb(230, 234, 240)"}
    for dark in (False, True):
        with visiting(browser, real.plain, dark=dark) as visit:
            for mode in ("auto", "light", "dark", "auto"):
                assert visit.page.text_content("#light") == f"Theme: {mode}"
                seen = mode if mode != "auto" else "dark" if dark else "light"
                assert visit.colour("body", "backgroundColor") == paper[seen]
                assert visit.colour("figure svg text", "fill") == ink[seen]
                visit.page.click("#light")


@pytest.mark.parametrize("name", ["real", "polled", "hostile"])
def test_a_telephone_shows_the_page_without_scrolling_sideways(browser, request, name):
    with visiting(browser, request.getfixturevalue(name).plain, viewport={"width": 360, "height": 740}) as visit:
        visit.page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true })")
        assert visit.overflow() == 0


@pytest.mark.parametrize("is_live", [False, True])
def test_paper_is_white_and_cuts_nothing_off(browser, real, is_live):
    a4 = {"width": 718, "height": 1040}
    with visiting(browser, real.live if is_live else real.plain, dark=True, viewport=a4) as visit:
        visit.page.click("#light")
        visit.page.click("#light")
        if is_live:
            visit.make_live()
        visit.page.emulate_media(media="print")
        assert visit.colour("body", "backgroundColor") == "rgb(255, 255, 255)"
        assert visit.colour("body") == "rgb(0, 0, 0)"
        assert visit.weak_texts() == []
        assert visit.overflow() == 0
        cut = (
            "all => all.filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.getAttribute('aria-label'))"
        )
        assert visit.page.eval_on_selector_all(".scroll", cut) == []
        for selector in ("section", "figure", "figcaption", ".chart svg", ".figure", ".news li", "#scorecard tr"):
            shown = visit.page.eval_on_selector_all(selector, "all => all.every(one => one.getClientRects().length)")
            assert shown, selector
        assert not visit.page.locator("button:visible, nav:visible, .tip:visible").count()


# ---- numbers ---------------------------------------------------------------------------------------------------------


def quantile(values: list[float], q: float) -> float:
    values, place = sorted(values), q * (len(values) - 1)
    low, high = values[int(place)], values[min(int(place) + 1, len(values) - 1)]
    return low + (high - low) * (place - int(place))


def said(milliseconds: float) -> str:
    return f"{milliseconds:.3g} ms" if milliseconds < 999.5 else f"{milliseconds / 1000:.3g} s"


def chart_texts(visit: Visit, name: str) -> list[str]:
    return visit.page.eval_on_selector_all(f"#c-{name} text", "all => all.map(one => one.textContent)")


def test_numbers_are_those_of_the_records(browser, real, dump):
    waits, ends = defaultdict(list), defaultdict(list)
    for run in dump.jobs.to_dicts():
        if run["queue_latency_quality"] == "exact" and run["queue_latency_ms"] is not None:
            waits[run["connector"]].append(run["queue_latency_ms"])
        if run["state"] in ("completed", "failed"):
            ends[run["connector"]].append((run["attempts_made"] > 1, run["state"] == "failed"))
    every_wait, every_end = (list(itertools.chain(*found.values())) for found in (waits, ends))
    n_failed = sum(is_failed for _, is_failed in every_end)
    expected = {
        "Queue latency, median": said(quantile(every_wait, 0.5)),
        "Queue latency, p95": said(quantile(every_wait, 0.95)),
        "Retried runs": f"{100 * sum(is_retried for is_retried, _ in every_end) / len(every_end):.1f} %",
        "Failed runs": f"{100 * n_failed / len(every_end):.1f} %",
        "Succeeds": f"{100 * (1 - n_failed / len(every_end)):.1f} %",
    }
    with visiting(browser, real.plain) as visit:
        figures = dict(
            visit.page.eval_on_selector_all(
                ".figure",
                "all => all.map(one => [one.children[0].textContent, one.children[1].firstChild.data.trim()])",
            )
        )
        assert {name: figures[name] for name in expected} == expected
        texts = chart_texts(visit, "latency")
        for found in waits.values():
            assert " · ".join(said(quantile(found, q)) for q in (0.5, 0.9, 0.95, 0.99)) in texts
        texts = chart_texts(visit, "rates")
        for found in ends.values():
            retried, failed = (100 * sum(run[i] for run in found) / len(found) for i in (0, 1))
            assert f"{retried:.1f} % retried · {failed:.1f} % failed · n = {len(found)}" in texts
        assert any(f"n = {n_failed} failed runs" in text for text in chart_texts(visit, "reasons"))


# ---- live charts -----------------------------------------------------------------------------------------------------

TEXTS = "all => all.map(one => [...one.querySelectorAll('text')].map(text => text.textContent).filter(Boolean).sort())"
LABELS = "(all, name) => all.map(one => [...one.querySelectorAll(`[${name}]:not(g, [aria-roledescription='line mark'], [aria-roledescription='area mark'])`)].map(mark => mark.getAttribute(name)).sort())"
DRAWN = """() => {
  const count = mark => mark.marktype === "group" ? mark.items.flatMap(item => item.items).reduce((n, one) => n + count(one), 0)
    : ["line", "area", "trail"].includes(mark.marktype) ? +(mark.items.length > 0) : mark.items.length;
  return jobstatsViews.map(view => count(view.scenegraph().root));
}"""


def told(path: Path) -> list[str]:
    """What marks of drawings say, by the place that they name."""
    packed = re.search(r'id="tips">([^<]*)<', path.read_text(encoding="utf-8"))[1]
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def drawn_marks(path: Path) -> list[int]:
    """How many things each static drawing shows; a group's own path is its frame."""
    return [
        len(re.findall(r"<(?:path|text|line|rect|image)\b", picture))
        for picture in re.findall(r"(<svg xmlns=.*?</svg>)</div>", path.read_text(encoding="utf-8"), re.DOTALL)
    ]


@pytest.mark.parametrize("name", ["real", "polled"])
def test_live_charts_show_what_the_drawings_show(browser, request, name):
    pages = request.getfixturevalue(name)
    with visiting(browser, pages.live, viewport={"width": 360, "height": 740}) as visit:
        texts = visit.page.eval_on_selector_all(".chart", TEXTS)
        tips = told(pages.live)
        places = visit.page.eval_on_selector_all(".chart", LABELS, "data-t")
        labels = [sorted(tips[int(place)] for place in one) for one in places]
        visit.make_live()
        assert visit.page.evaluate("jobstatsViews.length") == pictures(pages) == len(texts) > 5
        assert visit.page.eval_on_selector_all(".chart", TEXTS) == texts
        assert visit.page.eval_on_selector_all(".chart", LABELS, "aria-label") == labels
        assert visit.page.evaluate(DRAWN) == drawn_marks(pages.live)
        assert visit.overflow() == 0


def test_live_charts_follow_the_light_and_the_pointer(browser, real):
    with visiting(browser, real.live) as visit:
        visit.make_live()
        assert visit.weak_texts() == []
        visit.page.emulate_media(color_scheme="dark")
        assert visit.colour("figure svg text", "fill") == "rgb(230, 234, 240)"
        assert visit.weak_texts() == []
        assert (
            visit.violations(rules=["color-contrast", "aria-allowed-attr", "aria-allowed-role", "aria-valid-attr"])
            == []
        )
        visit.page.hover("#c-rates_over_time [aria-label*='n: ']:not(g) >> nth=3", force=True)
        visit.page.wait_for_selector("#vg-tooltip-element.visible")
        assert re.search("from \\(UTC\\)\\s*Nov 23, 2026 14:", visit.page.inner_text("#vg-tooltip-element"))


def test_a_drawing_tells_its_numbers_to_the_pointer(browser, real):
    with visiting(browser, real.plain) as visit:
        assert visit.page.locator(".tip").is_hidden()
        visit.page.hover("#c-rates [data-t] >> nth=0", force=True)
        tip = visit.page.inner_text(".tip").splitlines()
        assert "group: Zoom" in tip
        assert "n: 27" in tip
        assert not [line for line in tip if "_" in line]
        box = visit.page.locator(".tip").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 1280
        visit.page.hover("h1")
        assert visit.page.locator(".tip").is_hidden()


# ---- hostile text ----------------------------------------------------------------------------------------------------

POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')


@pytest.mark.parametrize("has_policy", [True, False])
@pytest.mark.parametrize("is_live", [False, True])
def test_text_from_the_data_does_nothing(browser, hostile, tmp_path, is_live, has_policy):
    path = hostile.live if is_live else hostile.plain
    if not has_policy:
        text, n = POLICY.subn("", path.read_text(encoding="utf-8"))
        assert n == 1
        path = tmp_path / "open.html"
        path.write_text(text, encoding="utf-8", newline="\n")
    with visiting(browser, path) as visit:
        if is_live:
            visit.make_live()
        else:
            visit.page.hover("#c-rates [data-t] >> nth=0", force=True)
        assert visit.page.locator("main img, main script:not([data-chart]), [onmouseover], [onfocus]").count() == 0
        assert "alert(1)" in visit.page.text_content("#scorecard")
        seen = visit.page.text_content("body")
        assert not re.search("[\u2028\u2029\u202a-\u202e\u2066-\u2069\u200e\u200f]", seen)


# ---- planted faults --------------------------------------------------------------------------------------------------

PLANTED = {
    "image": '<img alt="" src="https://example.com/a.png">',
    "style": '<p style="color:red">red</p>',
    "script": "<script>document.title = 'ran'</script>",
    "handler": '<img alt="" src="data:," onerror="alert(1)">',
    "font": '<link rel="stylesheet" href="a.css">',
}


@pytest.mark.parametrize("fault", PLANTED)
def test_what_a_page_must_not_hold_is_found(browser, polled, tmp_path, fault):
    with visiting(browser, changed(polled, tmp_path, "</main>", PLANTED[fault] + "</main>"), is_faulty=True):
        pass


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("console.warn('hm')", "warning: hm"),
        ("console.error('oh')", "error: oh"),
        ("alert('me')", "error: ran: me"),
        ("throw Error('thrown')", "error: thrown"),
        ("fetch('https://example.com/').catch(() => 0)", "request: https://example.com/"),
    ],
)
def test_what_a_page_must_not_do_is_found(browser, tmp_path, script, message):
    path = tmp_path / "page.html"
    path.write_text(f"<!doctype html><title>x</title><p>x<script>{script}</script>")
    with visiting(browser, path, is_faulty=True) as visit:
        visit.page.wait_for_timeout(20)
        assert message in visit.faults


def test_what_a_page_must_not_look_like_is_found(browser, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(
        "<!doctype html><html lang=en><title>x</title><body style='background:#fff'><main><h1>x</h1><p style='color:#999;width:2000px'>weak</p>"
        "<img src='data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA='>"
        "<figure><svg role=img aria-label=x><text fill='#999'>weak</text><text>strong</text></svg></figure></main>"
    )
    with visiting(browser, path) as visit:
        assert {rule for _, rule, _ in visit.violations()} >= {"color-contrast", "image-alt"}
        assert visit.overflow() > 0
        assert [text for _, text in visit.weak_texts()] == ["weak"]


# ---- colours ---------------------------------------------------------------------------------------------------------

STYLE = files("jobstats.report").joinpath("style.css").read_text(encoding="utf-8")
MARKS = ("BLUE", "ORANGE", "GREEN", "PURPLE", "BROWN", "SLATE", "RED")


def papers() -> dict[str, dict[str, str]]:
    """The variables of the style, in each light."""
    blocks = re.findall(r"([^{}]*)\{(--[^}]*)\}", STYLE)
    named = {
        selector.split("}")[-1].strip(): dict(re.findall(r"--([\w]+):(#\w+)", block)) for selector, block in blocks
    }
    print_ = next(value for selector, value in named.items() if "," in selector)
    dark = [value for selector, value in named.items() if selector not in (":root",) and value is not print_]
    assert len(dark) == 2
    assert dark[0] == dark[1]
    return {"light": named[":root"], "dark": dark[0], "print": print_}


def contrast(one: str, other: str) -> float:
    def light(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", ["light", "dark", "print"])
def test_colours_are_told_from_the_paper(mode):
    found = papers()[mode]
    for paper in (found["paper"], found["tint"]):
        for text in ("ink", "quiet", "bad", "caution", "good", "link"):
            assert contrast(found[text], paper) >= 4.5, text
    for mark in (found["s"], *(getattr(theme, name) for name in MARKS)):
        assert contrast(mark, found["paper"]) >= 3, mark
    assert contrast("#fff", "#000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_charts_have_the_paper_and_the_inks_of_the_page(mode):
    found = papers()[mode]
    with alt.theme.enable("jobstats", mode=mode):
        config = alt.theme.get()()["config"]
    assert contrast(config["background"], found["paper"]) == 1
    for text in (config["text"]["color"], config["style"]["quiet"]["color"], config["axis"]["labelColor"]):
        assert contrast(text, found["paper"]) >= 4.5
