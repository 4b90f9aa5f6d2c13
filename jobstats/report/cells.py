"""Result tables as tables of a report: which rows and columns, what their values are, and how they are said."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import polars as pl

from jobstats.report.model import Cell, Column, Kind, Table
from jobstats.wording import duration, percent, safe

MOST_ROWS = 30
_CELL_CHARACTERS = 120
_UNITS: dict[str, Kind] = {"_ms": "duration", "_rate": "rate", "_at": "time", "_pct": "number"}
_SHARES = ("share", "attainment", "target", "budget_left", "on_time", "missed")


def kind_of(name: str, dtype: pl.DataType) -> Kind:
    """What the values of a column are, from its name and type.

    >>> kind_of("p95_ms", pl.Float64()), kind_of("failure_rate_low", pl.Float64()), kind_of("n", pl.Int64())
    ('duration', 'rate', 'count')
    """
    if dtype == pl.Boolean:
        return "flag"
    if isinstance(dtype, pl.Datetime):
        return "time"
    if not dtype.is_numeric():
        return "text"
    base = name.removesuffix("_low").removesuffix("_high").removesuffix("_min").removesuffix("_max")
    for suffix, kind in _UNITS.items():
        if base.endswith(suffix):
            return kind
    if base in _SHARES:
        return "rate"
    return "count" if dtype.is_integer() else "number"


def tabled(frame: pl.DataFrame, columns: Sequence[str] = (), *, most: int = MOST_ROWS) -> Table:
    """The first rows of a frame; ``columns`` it lacks are passed over."""
    names = [name for name in columns if name in frame.columns] or frame.columns
    shown = frame.select(names).head(most)
    kinds = tuple(Column(name=safe(name), kind=kind_of(name, frame.schema[name])) for name in names)
    rows = tuple(tuple(_plain(value) for value in row) for row in shown.iter_rows())
    return Table(columns=kinds, rows=rows, n_rows=len(frame))


def _plain(value: Any) -> Cell:
    """A value as the model holds it: text from the data is made safe here, once for every format."""
    if value is None or isinstance(value, bool | int | datetime):
        return value
    return float(value) if isinstance(value, float) else safe(value, _CELL_CHARACTERS)


def said(kind: Kind, value: Any) -> str:
    """A value in words: the one place where a report's numbers are rounded.

    >>> said("duration", 2_730.0), said("rate", 0.1361), said("count", 1_900), said("flag", True), said("text", None)
    ('2.73 s', '13.6 %', '1,900', 'yes', '–')
    """
    return "–" if value is None else _WORDS[kind](value)


def moment(at: datetime | None) -> str:
    """A point in time, to the second where it has any.

    >>> moment(datetime(2026, 11, 23, 14, 5)), moment(datetime(2026, 11, 23, 14, 5, 9)), moment(datetime(2026, 11, 23))
    ('2026-11-23 14:05', '2026-11-23 14:05:09', '2026-11-23')
    """
    if at is None:
        return "–"
    if (at.hour, at.minute, at.second, at.microsecond) == (0, 0, 0, 0):
        return f"{at:%Y-%m-%d}"
    return f"{at:%Y-%m-%d %H:%M:%S}" if at.second else f"{at:%Y-%m-%d %H:%M}"


def heading(name: str) -> str:
    """A column's name for people: its unit is in its values.

    >>> heading("p95_ms"), heading("failure_rate_low"), heading("n_failed"), heading("last_seen_at")
    ('p95', 'failure rate, low', 'failed', 'last seen')
    """
    for end in ("low", "high", "min", "max"):
        if name.endswith(f"_rate_{end}"):
            return f"{name.removesuffix('_' + end).replace('_', ' ')}, {end}"
    words = name.removesuffix("_ms").removesuffix("_at")
    return words.removeprefix("n_").replace("_", " ")


_WORDS: dict[Kind, Callable[[Any], str]] = {
    "text": str,
    "count": lambda value: f"{value:,}",
    "duration": duration,
    "rate": percent,
    "number": lambda value: f"{value:,.3g}",
    "time": moment,
    "flag": lambda value: "yes" if value else "no",
}
