"""The list of all reports of a folder, newest first, with how the key figures ran."""

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files

import jinja2
from markupsafe import Markup

from jobstats.report import sparkline
from jobstats.report.model import Report
from jobstats.report.words import STATUS_SIGNS, STATUS_WORDS, period_words

_FIGURES = ("queue_latency_p50_ms", "queue_latency_p95_ms", "retry_rate", "failure_rate", "stale_connectors")
_MOST_TREND = 90


def index(reports: Sequence[tuple[str, Report]]) -> str:
    """The page, of reports and where they are to be read, newest first."""
    resources = files("jobstats.report")
    style = resources.joinpath("style.css").read_text(encoding="utf-8").strip()
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(resources.joinpath("index.html").read_text(encoding="utf-8"))
    rows = []
    for folder, report in reports:
        figures = {figure.id: figure for figure in report.figures}
        texts = [figures[name].text if name in figures else "–" for name in _FIGURES]
        rows.append((folder, report, period_words(report.period), texts))
    names = {figure.id: figure.name for _, report in reports for figure in report.figures}
    page: str = template.render(
        rows=rows,
        names=[names.get(name, name) for name in _FIGURES],
        trends=[_trend(reports, name) for name in _FIGURES],
        spark=sparkline.path,
        signs=STATUS_SIGNS,
        words=STATUS_WORDS,
        style=Markup(style),  # noqa: S704  our own file; its hash is in the page's policy
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
    )
    return page


def _trend(reports: Sequence[tuple[str, Report]], name: str) -> list[float | None]:
    """A figure through the reports, oldest first."""
    found = []
    for _, report in reversed(reports[:_MOST_TREND]):
        figures = {figure.id: figure.value for figure in report.figures}
        found.append(figures.get(name))
    return found
