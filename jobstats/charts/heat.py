"""The hours of the week drawn: a cell an hour and weekday, its value printed in it."""

from typing import Any

import altair as alt
import polars as pl

from jobstats.charts import theme
from jobstats.charts.quantiles import name_of
from jobstats.wording import plural

CLOCK = ("weekday", "hour")
_UNITS = {"ms": 1, "s": 1_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_FAINT, _STRONG = 0.07, 0.65
"""Between these, ink and paper are both told from the cell, so that its text needs no colour of its own."""
_SPAN = 1_000
"""How many times as little as the highest value is still told apart."""
_DAYS = "['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'][datum.value - 1]"


def heat_of_durations(frame: pl.DataFrame, column: str, what: str, notes: list[str]) -> alt.TopLevelMixin:
    """A quantile of lengths of time in each hour of the week, in one unit."""
    values = frame[column].drop_nulls()
    unit = _unit(values)
    cells = frame.select(*CLOCK, "n", value=column)
    printed = [two_digits(value / _UNITS[unit]) if value is not None else "" for value in cells["value"]]
    notes.append(f"cells: {name_of(column)} in {unit}")
    return _heat(cells.with_columns(text=pl.Series(printed, dtype=pl.String)), f"{what} by hour and weekday", notes)


def heat_of_rates(frame: pl.DataFrame, column: str, count: str, what: str, notes: list[str]) -> alt.TopLevelMixin:
    """A rate in each hour of the week, in percent; where it cannot be estimated, only what was counted of it."""
    cells = frame.select(*CLOCK, "n", value=column, count=count)
    if frame["is_estimable"].all():
        notes.append("cells: % of ended runs")
        printed = [two_digits(100 * value) if value is not None else "" for value in cells["value"]]
    else:
        notes.append("cells: number of failed runs")
        printed = [f"{n:,}" for n in cells["count"]]
    cells = cells.drop("count").with_columns(text=pl.Series(printed, dtype=pl.String))
    return _heat(cells, f"{what} by hour and weekday", notes)


def two_digits(value: float) -> str:
    """A number with two digits that count, written out.

    >>> [two_digits(x) for x in (0.0123, 1.96, 5.04, 12.4, 128)]
    ['0.012', '2', '5', '12', '130']
    """
    rounded = float(f"{value:.2g}")
    return f"{rounded:.10f}".rstrip("0").rstrip(".") if abs(rounded) < 1 else f"{rounded:.12g}"


def _unit(values: pl.Series) -> str:
    """The unit in which a typical cell is 1 or more, and none needs five digits."""
    typical, most = values.median() or 0, values.max() or 0
    fitting = [
        name
        for name, length in _UNITS.items()
        if length <= typical or most / length >= 10_000  # type: ignore[operator]
    ]
    return fitting[-1] if fitting else "ms"


def _heat(cells: pl.DataFrame, text: str, notes: list[str]) -> alt.TopLevelMixin:
    hours = pl.DataFrame({"weekday": range(1, 8)}).join(pl.DataFrame({"hour": range(24)}), how="cross")
    if elsewhere := cells.join(hours, on=CLOCK, how="anti")["n"].sum():
        notes.append(f"{elsewhere:,} at no known hour")
    is_few = pl.col("n") < theme.FEW_RUNS
    grid = hours.join(cells, on=CLOCK, how="left").with_columns(pl.col("n").fill_null(0)).sort(CLOCK)
    grid = grid.with_columns(is_few=is_few, text=pl.when(pl.col("n") > 0).then("text"))
    if n_few := len(grid.filter(is_few & (pl.col("n") > 0))):
        notes.append(f"{plural(n_few, 'cell')} of fewer than {theme.FEW_RUNS} runs outlined only")
    filled = grid.filter(~is_few)["value"].drop_nulls()
    high = float(filled.max() or 1)  # type: ignore[arg-type]
    positive = filled.filter(filled > 0)
    low = max(float(positive.min() or high), high / _SPAN) if high > 0 else high  # type: ignore[arg-type]
    grid = grid.with_columns(shade=pl.when(~is_few).then(pl.col("value").clip(lower_bound=low)))
    notes.append("shade: log scale")
    base = alt.Chart(theme.data(grid)).encode(
        alt.X(
            "hour:O",
            title="hour of day (UTC)",
            axis=_axis(labelExpr="datum.value % 3 ? '' : format(datum.value, '02d')"),
        ),
        alt.Y("weekday:O", title=None, axis=_axis(labelExpr=_DAYS)),
        tooltip=[
            alt.Tooltip("weekday:O", title="weekday (1 is Monday)"),
            alt.Tooltip("hour:O", title="hour (UTC)"),
            alt.Tooltip("text:N", title="value"),
            alt.Tooltip("n:Q", format=","),
        ],
    )
    cell: dict[str, Any] = {"width": {"band": 0.94}, "height": {"band": 0.92}}
    scale = alt.Scale(type="log", domain=[low / 1.001, high], range=[_FAINT, _STRONG], clamp=True, nice=False)
    layers = [
        base.mark_rect(fill=None, fillOpacity=0, stroke=theme.SLATE, strokeWidth=0.8, strokeOpacity=0.4, **cell),
        base.transform_filter("isValid(datum.shade)")
        .mark_rect(color=theme.BLUE, **cell)
        .encode(fillOpacity=alt.FillOpacity("shade:Q", scale=scale, legend=None)),
        base.transform_filter("datum.text && !datum.is_few").mark_text(fontSize=10).encode(text="text:N"),
        base.transform_filter("datum.text && datum.is_few")
        .mark_text(style=theme.QUIET, fontSize=10)
        .encode(text="text:N"),
    ]
    return alt.layer(*layers).properties(width=alt.Step(29), height=alt.Step(26), title=theme.title(text, *notes))


def _axis(**options: Any) -> alt.Axis:
    return alt.Axis(domain=False, ticks=False, labelAngle=0, grid=False, **options)
