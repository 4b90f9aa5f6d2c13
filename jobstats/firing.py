"""When a schedule fires: its cron in its time zone, as milliseconds since the epoch.

The server leaves this to the npm package cron-parser 4.9, and what that does is what is expected here, its own ways
with changes of the clocks and with two kinds of days included. The crons of Python differ from it in those: of 1,308
lists of fires around changes of the clocks (tests/test_firing.py), cronsim 2.8 gives 1,067 and croniter 7.0 gives
1,001. Neither is fast enough for years of minutes, which this makes at once for all days.
"""

import re
from datetime import timedelta
from typing import Literal, NamedTuple

import polars as pl

from jobstats.errors import ArgumentError
from jobstats.moments import EPOCH, UNITS

MOST_FIRES = 20_000_000
"""Forty years of minutes. More is a mistake, and would not fit in memory."""

_FIRST_MS, _LAST_MS = -1_967 * 365 * UNITS["d"], 8_020 * 365 * UNITS["d"]
"""The years 3 to 9984."""
_DAYS_IN_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_WEEKDAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_ALIASES = {"month": {name: number for number, name in enumerate(_MONTHS, 1)}, "weekday": _WEEKDAYS}
_BOUNDS = {"second": (0, 59), "minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "weekday": (0, 7)}
_WHOLE = {
    "@yearly": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_EVERY_WEEKDAY = 8
"""``*`` stands for 0 to 7. Seven weekdays written out, 0 to 6, do not count as *every* one."""


class Cron(NamedTuple):
    """The fields of a cron: the numbers they allow, and the last days of the month that ``L`` allows besides."""

    second: set[int]
    minute: set[int]
    hour: set[int]
    day: set[int]
    month: set[int]
    weekday: set[int]
    is_last_day: bool
    last_weekdays: set[int]
    nth: int | None


def fire_times(cron: str, timezone: str, since_ms: int, until_ms: int) -> list[int] | None:
    """The times at which a cron fires in [since, until); None when the cron or the zone cannot be read.

    Around changes of the clocks they are those of a schedule whose runs start on time. A time that a change leaves out
    moves by an hour, but only the first of several in that hour; of a time that comes twice, the first counts unless
    the cron fires in every hour.

    Raises:
        ArgumentError: They are more than twenty million.

    >>> fire_times("30 2 * * *", "Europe/Berlin", 1_795_392_000_000, 1_795_478_400_000)
    [1795397400000]
    """
    fields = read_cron(cron)
    if fields is None or not _is_zone(timezone):
        return None
    # At the ends of the calendar there is no day before, and none after.
    since_ms, until_ms = max(since_ms, _FIRST_MS), min(until_ms, _LAST_MS)
    if since_ms >= until_ms:
        return []
    days = _days(fields, since_ms, until_ms)
    if len(days) * len(fields.hour) * len(fields.minute) * len(fields.second) > MOST_FIRES:
        raise ArgumentError(
            f"{cron!r} fires more than {MOST_FIRES:,} times in {(until_ms - since_ms) // UNITS['d']:,} days; "
            "ask for a shorter window with since"
        )
    at = _instants(fields, days, timezone)
    times: list[int] = at.filter(at.is_between(since_ms, until_ms, closed="left")).to_list()
    return times


# ---- the text ----------------------------------------------------------------------------------------------------


def read_cron(text: str) -> Cron | None:
    """A cron of up to six fields; those it lacks are the first. None where cron-parser refuses it.

    >>> read_cron("*/20 2 * * MON").minute
    {0, 40, 20}
    """
    parts = _WHOLE.get(text, text).split()
    if len(parts) > len(_BOUNDS):
        return None
    parts = [*("0", *"*****")[: len(_BOUNDS) - len(parts)], *parts]
    *_, weekday = parts
    parts[-1], mark, nth = weekday.partition("#")
    if mark and (not re.fullmatch(r"[1-5]", nth) or re.search(r"[,/-]", weekday)):
        return None
    try:
        second, minute, hour, day, month, weekday_ = (
            _numbers(part, name) for name, part in zip(_BOUNDS, parts, strict=True)
        )
    except ValueError:
        return None
    last_weekdays = {int(part[0]) % 7 for part in _lasts(parts[-1]) if part[0].isdigit()}
    cron = Cron(
        *(second, minute, hour, day, month, weekday_),
        is_last_day=bool(_lasts(parts[3])),
        last_weekdays=last_weekdays,
        nth=int(nth) if mark else None,
    )
    return None if len(last_weekdays) < len(set(_lasts(parts[-1]))) else _within_month(cron)


def _lasts(field: str) -> list[str]:
    return [part for part in field.split(",") if "L" in part]


def _within_month(cron: Cron) -> Cron | None:
    """A cron of one month cannot ask for days that the month never has."""
    if len(cron.month) > 1:
        return cron
    longest = _DAYS_IN_MONTH[min(cron.month) - 1]
    days = {day for day in cron.day if day <= longest}
    return cron._replace(day=days) if days or cron.is_last_day else None


def _numbers(field: str, name: str) -> set[int]:
    low, high = _BOUNDS[name]
    for alias, number in _ALIASES.get(name, {}).items():
        field = re.sub(alias, str(number), field, flags=re.IGNORECASE)
    if name in {"day", "weekday"}:
        field = ",".join(part for part in field.split(",") if "L" not in part) or ("" if "L" in field else field)
        if not field:
            return set()
        field = field.replace("?", "*")
    found: set[int] = set()
    for part in field.replace("*", f"{low}-{high}").split(","):
        found |= _range(part, low, high, is_weekday=name == "weekday")
    return found


def _range(part: str, low: int, high: int, *, is_weekday: bool) -> set[int]:
    match = re.fullmatch(r"(\d+)(?:-(\d+))?(?:/(\d+))?", part)
    if not match:
        raise ValueError(part)
    first, step = int(match[1]), int(match[3] or 1)
    last = int(match[2]) if match[2] else high if match[3] else first
    if not (low <= first <= last <= high and step):
        raise ValueError(part)
    if is_weekday and not match[2] and not match[3]:
        return {first % 7}
    # A range that ends on Sunday holds both its numbers.
    return set(range(first, last + 1, step)) | ({0} if is_weekday and last % 7 == 0 else set())


# ---- the days, and the times in them -----------------------------------------------------------------------------


def _days(cron: Cron, since_ms: int, until_ms: int) -> pl.Series:
    """The days of the calendar on which the cron fires."""
    first, last = (EPOCH + timedelta(milliseconds=at) for at in (since_ms, until_ms))
    around = pl.date_range(first.date() - timedelta(days=1), last.date() + timedelta(days=1), eager=True).alias("day")
    day, weekday = pl.col("day"), pl.col("day").dt.weekday() % 7
    number, days_in_month = day.dt.day(), day.dt.days_in_month()
    longest = pl.when(day.dt.month() == 2).then(29).otherwise(days_in_month)
    in_month = number.is_in(cron.day) | (pl.lit(cron.is_last_day) & (number == days_in_month))
    in_week = weekday.is_in(cron.weekday) | (weekday.is_in(cron.last_weekdays) & (number + 7 > days_in_month))
    is_every_day = longest <= len(cron.day) + cron.is_last_day
    is_every_weekday = pl.lit(len(cron.weekday) == _EVERY_WEEKDAY)
    # Either kind of day will do where both are named; a star is no name.
    fires = (in_month | (in_week & ~is_every_weekday)) & ~(is_every_day & ~is_every_weekday & ~in_week)
    if cron.nth:
        fires &= (number + 6) // 7 == cron.nth
    return around.to_frame().filter(fires, day.dt.month().is_in(cron.month)).to_series()


def _instants(cron: Cron, days: pl.Series, zone: str) -> pl.Series:
    """The times of these days in UTC, in order."""
    of_day = [
        hour * UNITS["h"] + minute * UNITS["m"] + second * UNITS["s"]
        for hour in sorted(cron.hour)
        for minute in sorted(cron.minute)
        for second in sorted(cron.second)
    ]
    times = pl.DataFrame({"time": of_day}, schema={"time": pl.Int64})
    midnight, next_midnight = pl.col("midnight"), pl.col("midnight") + UNITS["d"]
    clocks = days.cast(pl.Datetime("ms")).to_physical().to_frame("midnight")
    clocks = clocks.with_columns(
        start=_utc(midnight, zone, "latest"),
        is_plain=(_utc(next_midnight, zone, "earliest") - _utc(midnight, zone, "earliest") == UNITS["d"])
        & (_utc(next_midnight, zone, "latest") - _utc(midnight, zone, "latest") == UNITS["d"]),
    )
    is_plain = pl.col("is_plain").fill_null(False)
    plain = clocks.filter(is_plain).join(times, how="cross").select(at=pl.col("start") + pl.col("time"))
    changed = clocks.filter(~is_plain).select("midnight").join(times, how="cross")
    return pl.concat([plain, _around_change(cron, changed, zone)])["at"].unique().sort()


def _around_change(cron: Cron, times: pl.DataFrame, zone: str) -> pl.DataFrame:
    """Times of days in which the clocks change, in UTC."""
    at = pl.col("midnight") + pl.col("time")
    hour = at // UNITS["h"] * UNITS["h"]
    # In a whole hour that comes twice, the second time counts only for crons that fire in every hour.
    comes_again = _utc(hour, zone, "earliest") != _utc(hour, zone, "latest")
    twice = pl.lit(len(cron.hour) == 24) | ~comes_again
    known = [_utc(at, zone, "earliest"), pl.when(twice).then(_utc(at, zone, "latest")), _moved(cron, at, zone)]
    return times.select(at=pl.concat_list(known)).explode("at").drop_nulls()


def _moved(cron: Cron, at: pl.Expr, zone: str) -> pl.Expr:
    """A time in an hour that the clocks leave out, in the next one; null for all others."""
    hour = at // UNITS["h"] * UNITS["h"]
    is_left_out = pl.all_horizontal(_utc(hour + minute * UNITS["m"], zone, "earliest").is_null() for minute in (0, 59))
    number = pl.col("time") // UNITS["h"]
    can_move = number.is_between(1, 22) & ~(number + 1).is_in(cron.hour)
    is_first = pl.col("time") % UNITS["h"] == min(cron.minute) * UNITS["m"] + min(cron.second) * UNITS["s"]
    return pl.when(is_left_out & can_move & is_first).then(_utc(at + UNITS["h"], zone, "earliest"))


def _utc(local: pl.Expr, zone: str, which: Literal["earliest", "latest"]) -> pl.Expr:
    """A time on the clock of a zone as milliseconds since the epoch; null when the clocks leave it out."""
    clock = local.cast(pl.Datetime("ms"))
    return clock.dt.replace_time_zone(zone, ambiguous=which, non_existent="null").to_physical()


def _is_zone(zone: str) -> bool:
    try:
        pl.Series([EPOCH.replace(tzinfo=None)]).dt.replace_time_zone(zone)
    except pl.exceptions.PolarsError:
        return False
    return True
