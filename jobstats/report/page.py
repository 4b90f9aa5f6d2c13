"""A report as one HTML file: no network, a policy that allows nothing else, and readable with scripts blocked."""

import base64
import csv
import gzip
import hashlib
import io
import json
from importlib.resources import files
from math import isfinite
from typing import Any, NamedTuple

import jinja2
import vl_convert
from markupsafe import Markup

from jobstats.report import sparkline
from jobstats.report.building import Built
from jobstats.report.cells import heading, moment, said
from jobstats.report.definitions import DEFINITIONS
from jobstats.report.drawing import VEGA_LITE, drawn, spec, svg, theme
from jobstats.report.model import Exhibit, Table
from jobstats.report.words import STATUS_SIGNS, STATUS_WORDS, period_words


class _Picture(NamedTuple):
    svg: Markup
    spec: str | None


def html(built: Built, *, live: bool = False) -> str:
    """The page. With ``live``, charts can be made to answer to the pointer, by a packed copy of Vega in the page."""
    resources = files("jobstats.report")
    style, script = (resources.joinpath(name).read_text(encoding="utf-8").strip() for name in ("style.css", "page.js"))
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.update(
        said=said, heading=heading, moment=moment, signs=STATUS_SIGNS, words=STATUS_WORDS, spark=sparkline.path
    )
    template = environment.from_string(resources.joinpath("template.html").read_text(encoding="utf-8"))
    # Its stub asks for a snippet, which the function does not need.
    vega = vl_convert.javascript_bundle(vl_version=VEGA_LITE) if live else ""  # type: ignore[call-arg]
    page: str = template.render(
        report=built.report,
        period=period_words(built.report.period),
        pictures={exhibit.id: _picture(exhibit, built, live) for exhibit in _exhibits(built)},
        definitions=DEFINITIONS,
        numeric=_numeric,
        style=Markup(style),  # noqa: S704  our own file; its hash is in the page's policy
        style_hash=_hash(style),
        script=Markup(script),  # noqa: S704  the same
        script_hashes=[_hash(script), *([_hash(vega)] if live else [])],
        vega=_packed(vega) if live else None,
        theme=Markup(_in_script(theme())) if live else None,  # noqa: S704  escaped
    )
    return page


def _exhibits(built: Built) -> list[Exhibit]:
    return [exhibit for section in built.report.sections for exhibit in section.exhibits]


def _picture(exhibit: Exhibit, built: Built, live: bool) -> _Picture | None:
    chart = drawn(exhibit, built.frames[exhibit.id])
    if chart is None:
        return None
    text = Markup(svg(chart, exhibit.id))  # noqa: S704  written by an XML serialiser, which escapes
    return _Picture(text, Markup(_in_script(_unthemed(spec(chart)))) if live else None)  # noqa: S704  escaped


def _unthemed(text: str) -> str:
    """A specification without its look, which the page gives it when it is drawn."""
    found: dict[str, Any] = json.loads(text)
    found.pop("config", None)
    kinds: dict[str, dict[str, str]] = {}
    _take_formats(found, kinds)
    found["datasets"] = {name: _rows(text, kinds[name]) for name, text in found.get("datasets", {}).items()}
    return json.dumps(found, separators=(",", ":"), ensure_ascii=False)


def _take_formats(node: Any, kinds: dict[str, dict[str, str]]) -> None:
    """Data is no CSV any more: Vega compiles code to read it, which the policy of the page does not allow."""
    for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _take_formats(part, kinds)
    if isinstance(node, dict) and isinstance(data := node.get("data"), dict) and "name" in data and "format" in data:
        kinds[data["name"]] = data.pop("format").get("parse", {})


def _rows(text: str, kinds: dict[str, str]) -> dict[str, Any]:
    """A table as its names and rows, of which the page makes objects."""
    names, *rows = csv.reader(io.StringIO(text, newline=""))
    return {
        "names": names,
        "rows": [[_typed(kinds.get(n), v) for n, v in zip(names, row, strict=True)] for row in rows],
    }


def _typed(kind: str | None, value: str) -> str | float | bool | None:
    if value == "":
        return None
    if kind == "number":
        number = float(value)
        return int(number) if number.is_integer() else number if isfinite(number) else None
    return value == "true" if kind == "boolean" else value


def _in_script(text: str) -> str:
    """JSON as the content of a script element, where only these could end it or be taken for something else."""
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _packed(script: str) -> str:
    """A script that the page unpacks when it is asked for: a third of its size. The same script, the same text."""
    return base64.b64encode(gzip.compress(script.encode(), mtime=0)).decode()


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _numeric(table: Table) -> list[bool]:
    """Which columns are read from the right."""
    return [column.kind not in ("text", "flag", "time") for column in table.columns]
