"""A report in twenty lines of text, for a terminal or a log."""

from jobstats.report.model import Report
from jobstats.wording import safe

_BAR = 24
_REASONS = 5
_SIGNS = {"error": "✗", "warning": "!", "note": "·"}


def summary(report: Report) -> str:
    """What a report says, as plain text."""
    lines = [report.population, _period(report), ""]
    width = max(len(figure.name) for figure in report.figures)
    lines += [f"  {figure.name:<{width}}  {figure.value:>8}   {figure.detail}" for figure in report.figures]
    lines += ["", *(f"  {headline}" for headline in report.headlines)]
    reasons = [row for row in report.tables.reasons.head(_REASONS).to_dicts() if row["n"]]
    if reasons:
        lines += ["", "Why runs failed"]
        most = reasons[0]["n"]
        lines += [
            f"  {row['n']:>6,}  {'█' * max(1, round(_BAR * row['n'] / most)):<{_BAR}}  "
            f"{safe(row['cause'])} ({row['category']})"
            for row in reasons
        ]
    if report.findings:
        lines += ["", "What the data cannot tell"]
        lines += [f"  {_SIGNS[finding.severity]} {finding.message}" for finding in report.findings]
    return "\n".join(lines)


def _period(report: Report) -> str:
    if not (report.first and report.last):
        return "No run started in this period."
    same_day = report.first.date() == report.last.date()
    last = f"{report.last:%H:%M}" if same_day else f"{report.last:%Y-%m-%d %H:%M}"
    return f"Runs due from {report.first:%Y-%m-%d %H:%M} to {last} UTC"
