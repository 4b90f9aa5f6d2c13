"""Drivers drawn: how many times as often runs with a value are bad as those without it."""

from typing import Any

import altair as alt
import polars as pl

from jobstats.analysis.drivers import MEASURES
from jobstats.charts import theme, verdicts
from jobstats.charts.verdicts import Look
from jobstats.wording import percent, plural, safe

_LOOKS = {
    "driver": Look("driver", theme.ORANGE),
    "unclear": Look("unclear", theme.SLATE, is_filled=False),
    "few": Look("seen once only", theme.SLATE, "square", is_filled=False),
    "not estimable": Look("not estimable", theme.SLATE, is_filled=False),
}
_MOST_VALUES = 25
_VALUE_CHARACTERS = 40
_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 10_000, 100_000)


def drivers(table: Any, *, tz: str = "UTC") -> alt.TopLevelMixin:
    """The table of :func:`jobstats.drivers` as a chart, in its order: drivers first.

    Which runs are bad (failed, retried, or waited long) was asked of the analysis and is not in its table. Where rates
    cannot be estimated nothing is compared, and bars show the shares of the bad runs.

    Raises:
        ArgumentError: It is another table, or there is no such time zone.
    """
    frame = theme.drawable(table, ("column", "value", *MEASURES), "drivers", tz)
    is_estimable = not (frame["verdict"] == "not estimable").any()
    notes = [_counted(frame)]
    if is_estimable and len(frame):
        notes.append(verdicts.said(frame, _LOOKS))
        notes.append("bar: interval; right of 1x are more bad runs than among all others")
    if not is_estimable:
        notes.append("rates cannot be estimated, completed runs are missing: shares of the bad runs only")
    shown = frame.head(_MOST_VALUES)
    if len(shown) < len(frame):
        notes.append(f"first {len(shown)} of {len(frame):,} values")
    rows = shown.to_dicts()
    names = [f"{row['column'].replace('_', ' ')} = {_value(row['value'])}" for row in rows]
    shown = theme.labelled(
        shown.with_columns(pl.Series("_name", names, dtype=pl.String)).drop("column", "value"), ["_name"], ""
    )
    shown = shown.with_row_index("rank").with_columns(
        word=pl.col("verdict").replace_strict({name: look.word for name, look in _LOOKS.items()}, default=None),
        values=pl.Series([_words(row) for row in rows], dtype=pl.String),
    )
    y = theme.group_axis()
    marks = [_lifts(shown, y), verdicts.column(shown, y, _LOOKS)] if is_estimable else [_shares(shown, y)]
    return (
        alt.hconcat(*marks, theme.column(shown, y, "values"), spacing=12)
        .resolve_scale(y="shared")
        .properties(title=theme.title("What bad runs have in common", *notes))
    )


def _value(value: str | None) -> str:
    return "(none)" if value is None else safe(value, _VALUE_CHARACTERS)


def _counted(frame: pl.DataFrame) -> str:
    known = frame.filter(pl.col("share") > 0)
    if known.is_empty():
        return "n = 0 values with at least three bad runs"
    n_bad, share = known.row(0, named=True)["n_bad"], known["share"][0]
    return f"n = {plural(round(n_bad / share), 'bad run')} · {plural(len(frame), 'value')} frequent among them"


def _words(row: dict[str, Any]) -> str:
    """``10 of 10 bad, 17x, 8.2 % of all bad runs``."""
    said = f"{row['n_bad']:,} bad" if row["n"] is None else f"{row['n_bad']:,} of {row['n']:,} bad"
    lift = "" if row["lift"] is None else f", {row['lift']:.2g}x" if row["lift"] < 10 else f", {row['lift']:,.0f}x"
    same = f" · same runs as {safe(row['same_as'], _VALUE_CHARACTERS)}" if row["same_as"] else ""
    return f"{said}{lift}, {percent(row['share'])} of all bad runs{same}"


def _lifts(shown: pl.DataFrame, y: alt.Y) -> Any:
    drawn = shown.select("label", "rank", "verdict", "lift", "lift_low", "lift_high", "rate", "other_rate", "q_value")
    known = drawn["lift"].drop_nulls()
    ends = [*known, *drawn["lift_low"].drop_nulls(), *drawn["lift_high"].drop_nulls()]
    low = max([tick for tick in _TICKS if tick <= max(min([0.5, *ends]), _TICKS[0])], default=_TICKS[0])
    high = min([tick for tick in _TICKS if tick >= max([2.0, *ends])], default=_TICKS[-1])
    scale = alt.Scale(type="log", domain=[low, high], nice=False, clamp=True)
    axis = alt.Axis(
        values=[tick for tick in _TICKS if low <= tick <= high][:_MOST_VALUES],
        labelExpr="format(datum.value, '~r') + 'x'",
        title="rate of bad runs, as a multiple of all others' (log scale)",
        orient="bottom",
    )
    tooltip = [
        alt.Tooltip("label:N", title="value"),
        *(alt.Tooltip(f"{name}:Q", format=".3~r") for name in ("lift", "lift_low", "lift_high")),
        *(alt.Tooltip(f"{name}:Q", format=".1%") for name in ("rate", "other_rate")),
        alt.Tooltip("q_value:Q", format=".2~g"),
    ]
    base = alt.Chart(theme.data(drawn)).encode(y, tooltip=tooltip)
    known_base = base.transform_filter("isValid(datum.lift)")

    def place(name: str) -> alt.X:
        return alt.X(f"{name}:Q", axis=axis, scale=scale)

    equal = alt.Chart(theme.data(pl.DataFrame({"lift": [1.0]}))).mark_rule(color=theme.SLATE, strokeDash=[4, 3])
    whiskers = base.transform_filter("isValid(datum.lift_low)").mark_rule(strokeWidth=5, opacity=0.35)
    return alt.layer(
        equal.encode(place("lift")),
        whiskers.encode(place("lift_low"), alt.X2("lift_high:Q"), color=verdicts.colour(_LOOKS)),
        verdicts.points(known_base, _LOOKS).encode(place("lift")),
    ).properties(width=300, height=alt.Step(24))


def _shares(shown: pl.DataFrame, y: alt.Y) -> alt.Chart:
    drawn = shown.select("label", "rank", "share", "n_bad")
    scale = alt.Scale(domain=[0, max([0.01, *drawn["share"].drop_nulls()])], nice=False)
    axis = alt.Axis(format="~%", title="share of all bad runs", tickCount=4, orient="bottom")
    return (
        alt.Chart(theme.data(drawn))
        .mark_bar(color=theme.SLATE, height=15)
        .encode(y, alt.X("share:Q", axis=axis, scale=scale), tooltip=["label:N", "share:Q", "n_bad:Q"])
        .properties(width=240, height=alt.Step(24))
    )
