"""A report in some lines of plain text, for a terminal, a log or a letter."""

from collections import defaultdict
from itertools import count

from jobstats.report.model import Report, Table
from jobstats.report.words import SEVERITY_SIGNS, STATUS_SIGNS, STATUS_WORDS, period_words

_BAR = 24
_REASONS = 5
_NEWS = 8


def summary(report: Report) -> str:
    """What a report says, as plain text."""
    verdict = report.verdict
    lines = [
        f"{STATUS_SIGNS[verdict.status]} {STATUS_WORDS[verdict.status]}: {verdict.headline}",
        "",
        report.population,
        period_words(report.period),
        "",
    ]
    width = max(len(figure.name) for figure in report.figures)
    lines += [f"  {figure.name:<{width}}  {figure.text:>8}   {figure.detail}" for figure in report.figures]
    lines += ["", *(f"  {headline}" for headline in report.headlines)]
    lines += _listed("New or broken", _first_of_each(report))
    lines += _listed("What changed", [f"{change.direction}: {change.message}" for change in report.changes])
    lines += _reasons(report)
    if report.findings:
        lines += ["", "What the data cannot tell"]
        lines += [f"  {SEVERITY_SIGNS[finding.severity]} {finding.message}" for finding in report.findings]
    return "\n".join(lines)


def _listed(title: str, items: list[str]) -> list[str]:
    if not items:
        return []
    more = ["  … and more, told in the report"] if len(items) > _NEWS else []
    return ["", title, *(f"  {item}" for item in items[:_NEWS]), *more]


def _first_of_each(report: Report) -> list[str]:
    """What is new or broken, so that many of one kind do not hide the other kinds."""
    nth: defaultdict[str, count[int]] = defaultdict(count)
    ranked = sorted((next(nth[item.kind]), place) for place, item in enumerate(report.attention))
    order = [*sorted(place for _, place in ranked[:_NEWS]), *(place for _, place in ranked[_NEWS:])]
    return [report.attention[place].message for place in order]


def _reasons(report: Report) -> list[str]:
    exhibits = {exhibit.id: exhibit.table for section in report.sections for exhibit in section.exhibits}
    rows = [row for row in _dicts(exhibits["reasons"])[:_REASONS] if row["n"]]
    if not rows:
        return []
    most = int(str(rows[0]["n"]))
    lines = ["", "Why runs failed"]
    for row in rows:
        n = int(str(row["n"]))
        bar = "█" * max(1, round(_BAR * n / most))
        lines.append(f"  {n:>6,}  {bar:<{_BAR}}  {row['cause']} ({row['category']})")
    return lines


def _dicts(table: Table) -> list[dict[str, object]]:
    names = [column.name for column in table.columns]
    return [dict(zip(names, row, strict=True)) for row in table.rows]
