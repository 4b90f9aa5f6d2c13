"""A report as one HTML file: no network, a policy that allows nothing else, and readable with scripts blocked."""

import base64
import gzip
import hashlib
import json
from importlib.resources import files

import jinja2
import vl_convert
from markupsafe import Markup

from jobstats.report import sparkline
from jobstats.report.building import Built
from jobstats.report.cells import MOST_ROWS, heading, moment, said
from jobstats.report.definitions import DEFINITIONS
from jobstats.report.drawing import VEGA_LITE, drawn, svg
from jobstats.report.live import specs
from jobstats.report.model import Exhibit, Table
from jobstats.report.words import STATUS_SIGNS, STATUS_WORDS, period_words

_MOST_BYTES, _MOST_BYTES_LIVE = 600_000, 1_100_000
_MOST_ROWS = (MOST_ROWS, 10, 3)
"""Rows of data tables, the fewer the longer the page would be: ``report.json`` holds the rest."""


class _Tips:
    """What marks say when they are pointed at: each text once, as many marks of a row say the same."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}

    def place(self, text: str) -> str:
        """Where a text is in the list that the page holds."""
        return str(self.places.setdefault(text, len(self.places)))


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
    charts = {exhibit.id: drawn(exhibit, built.frames[exhibit.id]) for exhibit in _exhibits(built)}
    shown = {name: chart for name, chart in charts.items() if chart is not None}
    tips = _Tips()
    pictures = {name: Markup(svg(chart, name, tips.place)) for name, chart in shown.items()}  # noqa: S704  an XML serialiser escapes
    # Its stub asks for a snippet, which the function does not need.
    vega = vl_convert.javascript_bundle(vl_version=VEGA_LITE) if live else ""  # type: ignore[call-arg]
    known = {
        "report": built.report,
        "period": period_words(built.report.period),
        "pictures": pictures,
        "tips": _packed(json.dumps(list(tips.places), ensure_ascii=False)),
        "definitions": DEFINITIONS,
        "numeric": _numeric,
        "style": Markup(style),  # noqa: S704  our own file; its hash is in the page's policy
        "style_hash": _hash(style),
        "script": Markup(script),  # noqa: S704  the same
        "script_hashes": [_hash(script), *([_hash(vega)] if live else [])],
        "vega": _packed(vega) if live else None,
        "specs": _packed(specs(shown)) if live else None,
    }
    page = ""
    for most in _MOST_ROWS:
        page = template.render(**known, most_rows=most)
        if len(page.encode()) <= (_MOST_BYTES_LIVE if live else _MOST_BYTES):
            break
    return page


def _exhibits(built: Built) -> list[Exhibit]:
    return [exhibit for section in built.report.sections for exhibit in section.exhibits]


def _packed(text: str) -> str:
    """What the page unpacks when it is asked for, at a third of its size. The same in, the same out."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _numeric(table: Table) -> list[bool]:
    """Which columns are read from the right."""
    return [column.kind not in ("text", "flag", "time") for column in table.columns]
