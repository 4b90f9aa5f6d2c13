"""Charts as a report needs them: SVG that takes its colours from the page, PNG for mail, specs for live charts."""

import io
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from functools import partial
from typing import Any

import altair as alt
import polars as pl
import vl_convert
from PIL import Image

from jobstats import charts
from jobstats.charts.theme import Mode
from jobstats.report.model import Exhibit

VEGA_LITE = alt.VEGALITE_VERSION.removeprefix("v").rsplit(".", 1)[0]
"""Named whenever something is drawn: a renderer of another version would draw what Altair did not mean."""
_SVG = "{http://www.w3.org/2000/svg}"
_GROUP = f"{_SVG}g"
_GEOMETRY = ("d", "transform", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "width", "height", "points")
_SHARES = ("opacity", "fill-opacity", "stroke-opacity")
_NOISE = ("class", "role", "aria-roledescription", "aria-hidden", "pointer-events", "font-family", "style", "version")
_DEFAULTS = {
    **dict.fromkeys(("opacity", "fill-opacity", "stroke-opacity", "stroke-width"), "1"),
    **dict.fromkeys(("x2", "y2"), "0"),
    "text-anchor": "start",
}
_INHERITED = (
    *("fill", "fill-opacity", "font-size", "font-weight", "stroke", "stroke-dasharray"),
    *("stroke-linecap", "stroke-opacity", "stroke-width", "text-anchor"),
)
_OF_MANY = ("line mark", "area mark")
"""They would say the first of their values, wherever the pointer is."""
_NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?|-?\d+e-?\d+")
_TEXT = {"font-size": "11px", "fill": "var(--ink)", "font-weight": "normal"}
"""How most text looks, which the style of the page says once."""
_SCALE, _COLOURS = 2, 64


def drawn(exhibit: Exhibit, frame: pl.DataFrame) -> alt.TopLevelMixin | None:
    """The chart of an exhibit; None where there is nothing to draw."""
    if exhibit.chart is None:
        return None
    chart: alt.TopLevelMixin = getattr(charts, exhibit.chart)(frame)
    return chart


def spec(chart: alt.TopLevelMixin, mode: Mode = "light") -> str:
    """The Vega-Lite specification of a chart in the look of jobstats, as JSON."""
    with alt.theme.enable("jobstats", mode=mode):
        whole = chart.to_dict()
    _speak(whole)
    return json.dumps(whole, separators=(",", ":"), ensure_ascii=False)


def _speak(node: Any) -> None:
    """Let marks say what their tooltips say; Vega-Lite would add every field it draws, by the name it has inside."""
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for part in list(inner):
        _speak(part)
    if isinstance(node, dict) and isinstance(tooltips := node.get("encoding", {}).get("tooltip"), list):
        said = " + '; ' + ".join(
            f"{json.dumps(tooltip.get('title', tooltip['field']) + ': ')} + {_value(tooltip)}" for tooltip in tooltips
        )
        node["encoding"]["description"] = {"value": {"expr": said}}


def _value(tooltip: dict[str, Any]) -> str:
    """An expression of Vega for what a tooltip shows of a field. Every time is UTC."""
    field = f"datum[{json.dumps(tooltip['field'])}]"
    if tooltip["type"] == "temporal":
        return f"utcFormat({field}, '%b %d, %Y %H:%M:%S')"
    if tooltip["type"] == "quantitative":
        return f"(isValid({field}) ? format({field}, {json.dumps(tooltip.get('format', ''))}) : 'unknown')"
    return field


def theme() -> Any:
    """The look of live charts: they take their colours from the page, as drawings do."""
    with alt.theme.enable("jobstats", mode="auto"):
        return alt.theme.get()()["config"]  # type: ignore[misc]


def png(chart: alt.TopLevelMixin) -> bytes:
    """A picture, for what shows no SVG; of few colours, as letters should be small."""
    drawn = Image.open(io.BytesIO(vl_convert.vegalite_to_png(spec(chart), vl_version=VEGA_LITE, scale=_SCALE)))
    picture = io.BytesIO()
    drawn.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE).save(picture, "PNG", optimize=True)
    return picture.getvalue()


def svg(chart: alt.TopLevelMixin, name: str, tip: Callable[[str], str] = str) -> str:
    """A drawing to be put into a page: half the size, with ids of its own, in the colours of the page.

    What marks say aloud is kept as ``data-t``, for tooltips; ``tip`` may put something shorter in its place. The figure
    around it has a name and a sentence.
    """
    text: str = vl_convert.vegalite_to_svg(spec(chart, "auto"), vl_version=VEGA_LITE)
    ET.register_namespace("", _SVG[1:-1])
    root = ET.fromstring(text)  # noqa: S314  written by vl-convert just now
    _slimmed(root, tip)
    _joined(root)
    for node in root.iter():
        for key, value in node.attrib.items():
            node.set(key, value if key.startswith("data-") else _named(key, value, name))
    root.set("viewBox", f"0 0 {root.attrib['width']} {root.attrib['height']}")
    root.set("aria-hidden", "true")
    return ET.tostring(root, encoding="unicode")


def _slimmed(node: ET.Element, tip: Callable[[str], str]) -> None:
    for child in list(node):
        if _is_invisible(child):
            node.remove(child)
        else:
            _slimmed(child, tip)
    label = node.attrib.pop("aria-label", None)
    is_one = node.tag != _GROUP and node.attrib.get("aria-roledescription") not in _OF_MANY
    if label and is_one and node.attrib.get("role") == "graphics-symbol":
        node.set("data-t", tip(label))
    for key in _NOISE:
        node.attrib.pop(key, None)
    usual = _DEFAULTS | _TEXT if node.tag == f"{_SVG}text" else _DEFAULTS
    for key, value in usual.items():
        if node.attrib.get(key) == value:
            del node.attrib[key]
    for keys, places in ((_GEOMETRY, 1), (_SHARES, 3)):
        for key in keys:
            if key in node.attrib:
                node.set(key, _NUMBER.sub(partial(_rounded, places), node.attrib[key]))
    if node.attrib.get("transform") == "translate(0,0)":
        del node.attrib["transform"]


def _joined(node: ET.Element) -> None:
    """Groups that say nothing go, and what all parts of a group say it says for them."""
    parts = list(node)
    for part in parts:
        _joined(part)
    node[:] = [kept for part in parts for kept in (part if part.tag == _GROUP and not part.attrib else [part])]
    # One level up at most, where the style of the page still finds text that has the usual look.
    if node.tag != _GROUP or len(node) < 2 or any(part.tag == _GROUP for part in node):
        return
    for key in _INHERITED:
        said = {part.attrib.get(key) for part in node}
        if len(said) == 1 and (value := said.pop()):
            node.set(key, value)
            for part in node:
                del part.attrib[key]


def _is_invisible(node: ET.Element) -> bool:
    if node.attrib.get("display") == "none":
        return True
    is_frame = node.attrib.get("class") in ("background", "foreground")
    return is_frame and not ({"fill", "stroke"} & node.attrib.keys())


def _rounded(places: int, number: Any) -> str:
    return f"{float(number[0]):.{places}f}".rstrip("0").rstrip(".")


def _named(key: str, value: str, name: str) -> str:
    """Ids are of one drawing, and a page holds many."""
    if key == "id":
        return f"{name}-{value}"
    return re.sub(r"url\(#", f"url(#{name}-", value) if "url(#" in value else value
