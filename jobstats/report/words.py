"""What all formats say alike: the period, and the signs and words of a status."""

from jobstats.report.cells import moment
from jobstats.report.model import Period, Status

STATUS_WORDS: dict[Status, str] = {"good": "Good", "caution": "Look here", "bad": "Bad", "unknown": "Not known"}
STATUS_SIGNS: dict[Status, str] = {"good": "✓", "caution": "!", "bad": "✗", "unknown": "?"}
SEVERITY_SIGNS = {"error": "✗", "warning": "!", "note": "·"}
SEVERITY_WORDS = {"error": "Cannot tell", "warning": "Caution", "note": "Note"}


def period_words(period: Period) -> str:
    """What a report is about, in words."""
    if period.since is None and period.until is None:
        if period.first is None or period.last is None:
            return "No run started"
        return f"{moment(period.first)} to {_last(period)} UTC"
    if period.since is None:
        return f"Up to {moment(period.until)} UTC"
    if period.until is None:
        return f"From {moment(period.since)} UTC on"
    return f"{moment(period.since)} to {moment(period.until)} UTC"


def _last(period: Period) -> str:
    """The end, without the day where it is that of the beginning."""
    if period.first and period.last and period.first.date() == period.last.date():
        return f"{period.last:%H:%M:%S}"
    return moment(period.last)
