"""Which time a report is about: whole days where it is asked for in days."""

import re
from datetime import datetime, timedelta

from jobstats.errors import ArgumentError
from jobstats.moments import LONGEST_MS, UNITS, Moment, length_ms, window

_DAYS = re.compile(r"[1-9]\d*[dw]")
_LENGTHS = ("1m", "5m", "15m", "1h", "6h", "1d", "1w", "4w", "12w", "52w", "520w")
_WINDOWS = 90


def cut(since: Moment, until: Moment, now: datetime | None) -> tuple[datetime | None, datetime | None]:
    """[since, until) as instants. Ages in days and weeks are whole days of UTC before the newest observation's day.

    So ``since="7d"`` means the same seven days whenever in the day the data was exported, and a report made again is
    the same report. Ages in hours and minutes, and dates, are taken as they are.

    Raises:
        ArgumentError: A time that cannot be read, or since is not before until.

    >>> from datetime import UTC
    >>> [f"{end:%a %d %b %H:%M}" for end in cut("7d", None, datetime(2026, 11, 23, 5, 10, tzinfo=UTC))]
    ['Mon 16 Nov 00:00', 'Mon 23 Nov 00:00']
    """
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) if now else None
    if _is_in_days(since) and until is None:
        until = midnight
    if midnight is not None:
        since, until = (_whole(end, midnight) for end in (since, until))
    return window(since, until, lambda: now)


def _is_in_days(end: Moment) -> bool:
    return isinstance(end, str) and _DAYS.fullmatch(end) is not None


def _whole(end: Moment, midnight: datetime) -> Moment:
    if not _is_in_days(end):
        return end
    try:
        return midnight - timedelta(milliseconds=length_ms(str(end), "since"))
    except OverflowError as error:
        raise ArgumentError(f"{end!r} before {midnight:%Y-%m-%d} is before the calendar") from error


def every(first: datetime | None, last: datetime | None) -> str:
    """The shortest usual window that cuts the span into a readable number of pieces."""
    span_ms = (last - first).total_seconds() * 1000 if first and last else 0
    return next((length for length in _LENGTHS if span_ms / length_ms(length, "every") <= _WINDOWS), _LENGTHS[-1])


def baseline(since: datetime | None, until: datetime | None) -> str | None:
    """The length of the period, as a length of the window before it; None where the period has no beginning."""
    if since is None or until is None:
        return None
    span_ms = int((until - since).total_seconds() * 1000)
    if span_ms > LONGEST_MS:
        return None
    for unit in ("w", "d", "h", "m", "s"):
        if span_ms >= UNITS[unit] and span_ms % UNITS[unit] == 0:
            return f"{span_ms // UNITS[unit]}{unit}"
    return None if span_ms < UNITS["s"] else f"{span_ms // UNITS['s']}s"
