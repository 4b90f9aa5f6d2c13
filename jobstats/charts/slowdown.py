"""Slowdown drawn: a ladder of multiples by group with the bounded slowdown beside it, or bands over time."""

import re
from typing import Any

import altair as alt
import polars as pl

from jobstats.analysis.slowdown import COUNTS
from jobstats.charts import theme
from jobstats.charts.quantiles import MOST_LINES, Quantiles, Unit, bands, ladder, nearest, share_of
from jobstats.errors import ArgumentError

_QUANTILE = re.compile(r"p\d+(?:_\d+)?_slowdown")
_MEANS = ("mean_slowdown", "mean_bounded_slowdown")
_TICKS = [step * 10**power for power in range(-1, 9) for step in (1, 2, 5)]
_FEW = (0.5, 0.9, 0.95, 0.99)


def slowdown(table: Any, *, tz: str = "UTC") -> alt.TopLevelMixin:
    """The table of :func:`jobstats.slowdown` as a chart: highest groups first, or over time if it has buckets.

    Raises:
        ArgumentError: It is another table, or there is no such time zone.
    """
    frame = theme.drawable(table, [*_MEANS, *COUNTS, "is_estimable"], "slowdown", tz)
    columns = sorted((name for name in frame.columns if _QUANTILE.fullmatch(name)), key=share_of)
    if not columns:
        raise ArgumentError("expected the table of slowdown with at least one quantile")
    bounded = [name.replace("_slowdown", "_bounded_slowdown") for name in columns]
    known = {*_MEANS, *COUNTS, "is_estimable", "bucket", *columns, *bounded}
    groups = [name for name in frame.columns if name not in known]
    frame = theme.labelled(frame, groups, "all runs")
    notes = _notes(frame)
    if len(columns) > MOST_LINES:
        notes.append(f"4 of {len(columns)} quantiles")
        columns = sorted({nearest(columns, share) for share in _FEW}, key=share_of)
        bounded = [name.replace("_slowdown", "_bounded_slowdown") for name in columns]
    said = [" · ".join(map(_times, row)) for row in frame.select(bounded).rows()]
    frame = frame.with_columns(bounded=pl.Series(said, dtype=pl.String))
    beside = [("bounded", "bounded: the same")] if frame["is_estimable"].all() else []
    unit = Unit(_times, _axis, _TICKS[0])
    asked = Quantiles("Slowdown", frame, columns, groups, notes, unit, beside=beside)
    if "bucket" in frame.columns:
        return bands(asked, tz)
    return ladder(asked)


def _notes(frame: pl.DataFrame) -> list[str]:
    notes = [f"n = {frame['n'].sum():,} runs of one attempt with a known wait"]
    if excluded := frame["n_excluded"].sum():
        notes.append(f"{excluded:,} left out")
    if instant := frame["n_instant"].sum():
        notes.append(f"{instant:,} took no time and have a bounded slowdown only")
    notes.append("2×: waited as long as worked")
    if not frame["is_estimable"].all():
        notes.insert(0, "slowdown cannot be estimated, completed runs are missing: counts only")
    return notes


def _times(value: float | None) -> str:
    """A multiple in words.

    >>> [_times(x) for x in (1.0, 1.536, 128.4, 52_310.0, None)]
    ['1×', '1.54×', '128×', '52,300×', '–']
    """
    if value is None:
        return "–"
    return f"{float(f'{value:.3g}'):,.10g}×"


def _axis(values: pl.Series, most: int, **options: Any) -> tuple[alt.Axis, alt.Scale]:
    """A log axis of multiples that spans the values, and its scale."""
    positive = values.filter(values > 0)
    low, high = float(positive.min() or 1), float(positive.max() or 10)  # type: ignore[arg-type]
    below = max((tick for tick in _TICKS if tick <= low), default=low)
    above = min((tick for tick in _TICKS if tick >= high), default=high)
    above = above if above > below else below * 10
    ticks: list[float] = [tick for tick in _TICKS if below <= tick <= above]
    if len(ticks) > most:
        ticks = [tick for tick in ticks if f"{tick:e}".startswith("1")]
        ticks = ticks[:: -(-len(ticks) // most)]
    scale = alt.Scale(type="log", domain=[below, above], nice=False, clamp=True)
    return alt.Axis(values=ticks, labelExpr="format(datum.value, ',~r') + '×'", **options), scale
