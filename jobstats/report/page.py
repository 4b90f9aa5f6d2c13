"""A report as one HTML file that needs no network, no script and nothing beside it."""

import base64
import hashlib
import os
import re
from collections.abc import Callable
from datetime import datetime
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import altair as alt
import jinja2
import polars as pl
import vl_convert
from markupsafe import Markup

from jobstats import charts
from jobstats.ingest.loading import Loaded
from jobstats.moments import Moment
from jobstats.parquet import replace_file
from jobstats.reasons import Rules
from jobstats.report.model import Report, build
from jobstats.spool import writing
from jobstats.wording import safe

_MOST_TABLE_ROWS = 100
_CELL_CHARACTERS = 120
_NOT_FOR_PEOPLE = ("n_orgs", "n_connector_days", "n_templates", "template", "cause_id", "template_id", "rule_id")


class _Picture(NamedTuple):
    alt: str
    svg: str
    width: str
    height: str
    columns: list[str]
    rows: list[list[str]]
    n_rows: int


class _Section(NamedTuple):
    id: str
    title: str
    text: str
    charts: list[_Picture]


def write_report(
    loaded: Loaded | pl.DataFrame,
    out: str | os.PathLike[str],
    *,
    since: Moment = None,
    until: Moment = None,
    rules: Rules = None,
) -> Path:
    """Write ``report.html`` into the folder ``out`` and return its path. The same data gives the same bytes.

    Args:
        loaded: What :func:`jobstats.load` or :func:`jobstats.read` returned, a jobs table, or a history.
        out: A folder, made when missing. A report that is there is replaced at once.
        since: Only runs at or after this; a datetime, ISO text or an age such as ``"7d"``.
        until: Only runs before this.
        rules: A file of rules of failure reasons on top of the shipped ones, or a set of rules.

    Raises:
        ArgumentError: A time that cannot be read, a rule that is wrong, or nothing to report on.
        SourceError: The folder cannot be written.
    """
    jobs, rejects = Loaded.of(loaded)
    return publish(build(jobs, rejects, since=since, until=until, rules=rules), out)


def publish(report: Report, out: str | os.PathLike[str]) -> Path:
    """Write a report that was built already.

    Raises:
        SourceError: The folder cannot be written.
    """
    page = html(report)
    target = Path(out) / "report.html"
    with writing(out):
        replace_file(target, lambda path: Path(path).write_text(page, encoding="utf-8", newline="\n"))
    return target


def html(report: Report) -> str:
    """The page."""
    resources = files("jobstats.report")
    style = resources.joinpath("style.css").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(resources.joinpath("template.html").read_text(encoding="utf-8"))
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return template.render(
        report=report,
        sections=_sections(report),
        style=Markup(style),  # noqa: S704  our own file; its hash is in the page's policy
        style_hash=digest,
        version=version("jobstats"),
    )


def _sections(report: Report) -> list[_Section]:
    tables = report.tables
    is_estimable = bool(tables.retries["is_estimable"].all())
    return [
        _Section(
            "latency",
            "Queue latency",
            "How long runs waited between being due and being started, by kind of connector and when they became due. "
            "Where n is below 59, the data bounds no p95: it is merely the longest waits seen.",
            [
                _picture("Queue latency by connector", charts.queue_latency, tables.latency, worst="p95_ms"),
                _picture("Queue latency over time", charts.queue_latency, tables.latency_over_time),
            ],
        ),
        _Section(
            "retries",
            "Retries and failures",
            "How many ended runs took more than one attempt, and how many failed for good, by when they started.",
            [
                _picture(
                    "Retried and failed runs by connector",
                    charts.retry_rates,
                    tables.retries,
                    worst="failure_rate_low" if is_estimable else "failure_rate_min",
                ),
                _picture("Retried and failed runs over time", charts.retry_rates, tables.retries_over_time),
            ],
        ),
        _Section(
            "reasons",
            "Failure reasons",
            "The causes of the last error of each failed run, by when it ended. Errors that a retry overcame are "
            "counted beside, not among them. Texts are redacted, and what differs from run to run is masked.",
            [_picture("Why runs failed", charts.failure_reasons, tables.reasons, hidden=_NOT_FOR_PEOPLE)],
        ),
    ]


def _picture(
    words: str,
    draw: Callable[[Any], alt.TopLevelMixin],
    table: pl.DataFrame,
    worst: str | None = None,
    hidden: tuple[str, ...] = (),
) -> _Picture:
    """A table drawn, and its first rows in words: the worst first, as they are drawn, or in its own order."""
    with alt.theme.enable("jobstats"):
        svg = vl_convert.vegalite_to_svg(
            draw(table).to_json(), vl_version=alt.VEGALITE_VERSION.removeprefix("v").rsplit(".", 1)[0]
        )
    size = re.search(r'width="([\d.]+)" height="([\d.]+)"', svg)
    width, height = (f"{float(x):.0f}" for x in size.groups()) if size else ("", "")
    table = table.sort(worst, descending=True, nulls_last=True, maintain_order=True) if worst else table
    table = table.drop(hidden)
    rows = [[_cell(value) for value in row] for row in table.head(_MOST_TABLE_ROWS).rows()]
    return _Picture(words, base64.b64encode(svg.encode()).decode(), width, height, table.columns, rows, len(table))


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else safe(value, _CELL_CHARACTERS)
