"""The hour and the weekday of a time, in UTC, worked out of integers: engines disagree on parts of instants."""

from typing import Any

from jobstats.moments import UNITS

CLOCK = ("hour", "weekday")
"""What runs can be grouped by beside columns of the jobs table."""
_THURSDAY = 3
"""Days from Monday to the weekday of the epoch."""


def clock(ms: Any) -> dict[str, Any]:
    """The hour (0 to 23) and the weekday (1, a Monday, to 7) of milliseconds since the epoch, in UTC.

    Takes integers and expressions. Remainders of what lies before the epoch differ between engines, quotients do not.

    >>> clock(0)
    {'hour': 0, 'weekday': 4}
    >>> clock(-1)
    {'hour': 23, 'weekday': 3}
    """
    days = ms // UNITS["d"]
    since_monday = days + _THURSDAY
    return {"hour": ms // UNITS["h"] - days * 24, "weekday": since_monday - since_monday // 7 * 7 + 1}
