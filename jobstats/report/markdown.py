"""A report as Markdown: for a pull request, a wiki, or the summary of a job in CI."""

import re

from jobstats.report.cells import heading, moment, said
from jobstats.report.model import Report, Table
from jobstats.report.sparkline import blocks
from jobstats.report.words import SEVERITY_SIGNS, SEVERITY_WORDS, STATUS_SIGNS, STATUS_WORDS, period_words

_ROWS = 10
_COLUMNS = ("connector", "n", "failure_rate", "retry_rate", "p50_ms", "p95_ms", "on_time_rate", "n_stale")
_MARKS = re.compile(r"([\\`*_\[\]#|~$]|^[-+]|(?<=^\d)[.)](?=\s))")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "(at)", "://": "&#58;//", "www.": "www&#46;"}


def escaped(text: str) -> str:
    r"""Text from the data, which is no markup, names nobody and links nowhere.

    >>> escaped("*a* | <b> @c [d](https://e)")
    '\\*a\\* \\| &lt;b&gt; (at)c \\[d\\](https&#58;//e)'
    """
    for plain, entity in _ENTITIES.items():
        text = text.replace(plain, entity)
    # An entity has no mark but its number sign, which must not be escaped.
    return re.sub(r"&\\#", "&#", _MARKS.sub(r"\\\1", text))


def markdown(report: Report) -> str:
    """The report, with its first rows and without its charts."""
    verdict = report.verdict
    lines = [
        f"# {escaped(report.title)}",
        "",
        f"**{STATUS_SIGNS[verdict.status]} {STATUS_WORDS[verdict.status]}**: {escaped(verdict.headline)}",
        "",
        f"{period_words(report.period)} · {escaped(report.population)}",
        f"observed until {moment(report.period.observed)} UTC",
        "",
        "| | | |",
        "|---|--:|---|",
        *(f"| {escaped(f.name)} | **{f.text}** | {escaped(_detail(f.detail, f.target))} |" for f in report.figures),
        "",
        *_listed("New or broken", [item.message for item in report.attention]),
        *_listed("What changed", [f"{change.direction}: {change.message}" for change in report.changes]),
        *_scorecard(report),
    ]
    for section in report.sections:
        lines += [f"## {section.title}", ""]
        for exhibit in section.exhibits:
            lines += [f"**{exhibit.title}.** {escaped(exhibit.sentence)}", "", *_folded(exhibit.table)]
    findings = [f"{SEVERITY_SIGNS[f.severity]} {SEVERITY_WORDS[f.severity]}: {f.message}" for f in report.findings]
    lines += _listed("What the data can and cannot tell", findings)
    lines.append(f"jobstats {report.provenance.version} · windows of {report.period.every} · all times UTC")
    return "\n".join(lines) + "\n"


def _detail(detail: str, target: str | None) -> str:
    return f"target: {target}; {detail}" if target else detail


def _listed(title: str, items: list[str]) -> list[str]:
    return [f"## {title}", "", *(f"- {escaped(item)}" for item in items), ""] if items else []


def _scorecard(report: Report) -> list[str]:
    card = report.scorecard
    names = [column.name for column in card.table.columns]
    places = [names.index(name) for name in _COLUMNS if name in names]
    if not card.table.rows:
        return []
    head = [*(heading(names[place]) for place in places), "trend"]
    lines = ["## Connectors", "", _row(head), _row([":--", *("--:" for _ in head[1:])])]
    for row, trend in list(zip(card.table.rows, card.trends, strict=True))[:_ROWS]:
        cells = [escaped(said(card.table.columns[place].kind, row[place])) for place in places]
        lines.append(_row([*cells, f"`{blocks(trend)}`" if trend else ""]))
    return [*lines, *_more(card.table), ""]


def _folded(table: Table) -> list[str]:
    """A table behind a fold, as far as it is read."""
    if not table.rows:
        return []
    lines = ["<details><summary>Data</summary>", "", _row([heading(column.name) for column in table.columns])]
    lines.append(_row(["--:" if column.kind not in ("text", "time") else ":--" for column in table.columns]))
    for row in table.rows[:_ROWS]:
        cells = zip(table.columns, row, strict=True)
        lines.append(_row([escaped(said(column.kind, value)) for column, value in cells]))
    return [*lines, *_more(table), "", "</details>", ""]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _more(table: Table) -> list[str]:
    return ["", f"First {_ROWS} of {table.n_rows:,} rows."] if table.n_rows > _ROWS else []
