"""Points in time and lengths: as integers, and as callers write them."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

from jobstats.errors import ArgumentError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_MS = 253_402_300_799_999
"""The end of the year 9999, the last instant that every engine and Python can hold."""

Moment = datetime | date | timedelta | str | None

UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
"""Milliseconds of each unit of a length."""
_LENGTH = re.compile(r"([1-9]\d*)([smhdw])")
LONGEST_MS = 36_525 * UNITS["d"]


def in_utc(moment: datetime) -> datetime:
    """A moment in UTC; one without a zone is in UTC already, everywhere in jobstats.

    Raises:
        ArgumentError: It lies so near the ends of the calendar that it has no UTC.
    """
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (OverflowError, ValueError) as error:
        raise ArgumentError(f"{moment} cannot be told in UTC") from error


def epoch_ms(moment: datetime) -> int:
    """A moment as the integer that an export would hold, cut to the millisecond."""
    return (in_utc(moment) - EPOCH) // timedelta(milliseconds=1)


def length_ms(text: str, name: str) -> int:
    """``"15m"`` as milliseconds.

    >>> length_ms("15m", "every")
    900000
    """
    match = _LENGTH.fullmatch(text) if isinstance(text, str) else None
    if not match:
        raise ArgumentError(f"{name} must be a number and one of s, m, h, d, w, such as '1d'; found {text!r}")
    length = int(match[1]) * UNITS[match[2]]
    if length > LONGEST_MS:
        raise ArgumentError(f"{name} is at most 100 years; found {text!r}")
    return length


def instant(value: Moment, name: str, now: Callable[[], datetime | None]) -> datetime | None:
    """A datetime, a date, ISO text, or an age counted back from ``now``, which is asked for only then."""
    if value is None:
        return None
    if isinstance(value, str) and _LENGTH.fullmatch(value):
        value = timedelta(milliseconds=length_ms(value, name))
    try:
        if isinstance(value, timedelta):
            newest = now()
            return None if newest is None else newest - value
        moment = in_utc(value if isinstance(value, datetime) else datetime.fromisoformat(str(value)))
        # Times are in milliseconds, so nothing lies between a part of one and the next.
        return moment + timedelta(microseconds=-moment.microsecond % 1_000)
    except (ValueError, AttributeError, OverflowError):
        raise ArgumentError(f"{name} must be a datetime, ISO text or an age such as '7d'; found {value!r}") from None


def window(since: Moment, until: Moment, now: Callable[[], datetime | None]) -> tuple[datetime | None, datetime | None]:
    """The ends of [since, until).

    Raises:
        ArgumentError: One cannot be read, or since is not before until.
    """
    first, last = instant(since, "since", now), instant(until, "until", now)
    if first and last and first >= last:
        raise ArgumentError(f"since ({first.isoformat()}) must lie before until ({last.isoformat()})")
    return first, last
