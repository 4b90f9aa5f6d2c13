"""Objectives drawn: what share was good against what was promised, and how fast the budgets burn."""

from typing import Any

import altair as alt
import polars as pl

from jobstats.analysis.slo import COUNTS, LASTS, LONG, MEASURES
from jobstats.charts import theme, verdicts
from jobstats.charts.verdicts import Look
from jobstats.wording import percent, plural, safe

_NEEDED = ("objective", "by", "group", "verdict", "reason", "alert", "target", *MEASURES, *COUNTS)
_LOOKS = {
    "breached": Look("breached", theme.RED, "triangle-down"),
    "at risk": Look("at risk", theme.ORANGE, "diamond"),
    "not enough data": Look("not enough data", theme.SLATE, "circle", is_filled=False),
    "met": Look("met", theme.GREEN),
}
_BURNS = {f"burn_{span}": span for span in LONG} | {f"burn_last_{k}": f"last {k}" for k in LASTS}
_FAST = 5
"""Burn rates from here on have the full colour: the budget of a month is gone within a week."""


def slo(table: Any, *, tz: str = "UTC") -> alt.TopLevelMixin:
    """The table of :func:`jobstats.slo` as a chart: what is breached first, with the burn rates beside it.

    Cells of burn rates above 1 are outlined, where the budget would not last its window. At which rates an alert goes
    off depends on that window, which is not in the table: the text beside the mark says whether one is on.

    Raises:
        ArgumentError: It is another table, or there is no such time zone.
    """
    frame = theme.drawable(table, _NEEDED, "slo", tz)
    notes = [f"n = {plural(len(frame), 'objective')} (each group has its own)"]
    if len(frame):
        notes.append(verdicts.said(frame, _LOOKS))
    if unknown := frame["n_excluded"].sum():
        notes.append(f"{unknown:,} runs or connectors left out, not known to be good or bad")
    if unseen := len(frame.filter(pl.col("reason").str.starts_with("completed runs"))):
        notes.append(f"{unseen:,} cannot be estimated, completed runs are missing")
    order = pl.col("verdict").replace_strict({name: place for place, name in enumerate(_LOOKS)}, default=len(_LOOKS))
    ranked = _labelled(frame).sort(order, "budget_left", "attainment", "label", nulls_last=True, maintain_order=True)
    worst = ranked.head(theme.MOST_GROUPS).with_row_index("rank")
    if len(worst) < len(ranked):
        notes.append(f"worst {len(worst)} shown, {len(ranked) - len(worst):,} more are not")
    notes.append(
        "bar: interval, tick: target; burn rates are outlined above 1, where the budget would not last its window"
    )
    names = frame["objective"].unique()
    text = f"Is it as promised? {safe(names[0])}" if len(names) == 1 else "Is it as promised?"
    return _panels(worst).properties(title=theme.title(text, *notes))


def _labelled(frame: pl.DataFrame) -> pl.DataFrame:
    """Named by objective, by group, or by both: as much as tells the rows apart."""
    is_grouped = (frame["by"] != "").any()
    several = frame["objective"].n_unique() > 1
    named = frame.with_columns(
        _name=pl.when(pl.col("by") == "").then("objective").otherwise(pl.format("{}: {}", "objective", "group"))
        if several
        else pl.col("group" if is_grouped else "objective")
    )
    # Every row is a group of its own, whatever its name.
    return theme.labelled(named.drop("objective", "group"), ["_name"], "")


def _panels(worst: pl.DataFrame) -> Any:
    rows = worst.to_dicts()
    worst = worst.with_columns(
        word=pl.col("verdict").replace_strict({name: look.word for name, look in _LOOKS.items()}, default=None),
        values=pl.Series([_words(row) for row in rows], dtype=pl.String),
    )
    y = theme.group_axis()
    parts: list[Any] = [_attained(worst, y), verdicts.column(worst, y, _LOOKS), theme.column(worst, y, "values")]
    parts = [part.properties(height=alt.Step(24)) for part in parts]
    if burns := _burns(worst, y):
        parts.append(burns)
    return alt.hconcat(*parts, spacing=12).resolve_scale(y="shared")


def _words(row: dict[str, Any]) -> str:
    """``95.2 % of 1,784 (target 99 %) · budget left -12 % · page``."""
    target = f"target {row['target'] * 100:.4g} %"
    if row["attainment"] is None:
        return f"{target} · {row['reason'] or 'nothing to judge'}"
    said = [f"{percent(row['attainment'])} of {row['n']:,} ({target})"]
    if row["reason"]:
        return " · ".join([*said, row["reason"]])
    if row["budget_left"] is not None:
        said.append(f"budget left {row['budget_left'] * 100:,.0f} %")
    return " · ".join([*said, *filter(None, [row["alert"]])])


def _attained(worst: pl.DataFrame, y: alt.Y) -> Any:
    drawn = worst.select(
        "label", "rank", "verdict", "attainment", "attainment_low", "attainment_high", "target", "n", "n_bad"
    )
    lowest = min([0.9, *drawn["attainment"].drop_nulls(), *drawn["attainment_low"].drop_nulls(), *drawn["target"]])
    scale = alt.Scale(domain=[max(0.0, lowest - 0.08 * (1 - lowest)), 1], nice=False, clamp=True)
    axis = alt.Axis(format="~%", title="share that was good", tickCount=5, orient="bottom")
    tooltip = [
        alt.Tooltip("label:N", title="objective"),
        *(alt.Tooltip(f"{name}:Q", format=".2%") for name in ("attainment", "attainment_low", "attainment_high")),
        alt.Tooltip("target:Q", format=".4~%"),
        *(alt.Tooltip(f"{name}:Q", format=",") for name in ("n", "n_bad")),
    ]
    base = alt.Chart(theme.data(drawn)).encode(y, tooltip=tooltip)
    known = base.transform_filter("isValid(datum.attainment)")
    whiskers = known.mark_rule(strokeWidth=5, opacity=0.35).encode(
        alt.X("attainment_low:Q", axis=axis, scale=scale),
        alt.X2("attainment_high:Q"),
        color=verdicts.colour(_LOOKS),
    )
    targets = base.mark_tick(thickness=2, size=18, color=theme.SLATE, opacity=1).encode(
        alt.X("target:Q", axis=axis, scale=scale)
    )
    attained = verdicts.points(known, _LOOKS).encode(alt.X("attainment:Q", axis=axis, scale=scale))
    return alt.layer(targets, whiskers, attained).properties(width=220)


def _burns(worst: pl.DataFrame, y: alt.Y) -> Any:
    """A cell with a number for each burn rate that is known."""
    long = worst.select("label", "rank", *_BURNS).unpivot(
        index=["label", "rank"], variable_name="span", value_name="burn"
    )
    long = long.filter(pl.col("burn").is_not_null()).with_columns(pl.col("span").replace_strict(_BURNS))
    if long.is_empty():
        return None
    axis = alt.Axis(orient="top", title="burn rate over", labelAngle=0, domain=False, ticks=False)
    x = alt.X("span:N", sort=None, scale=alt.Scale(domain=list(_BURNS.values())), axis=axis)
    base = alt.Chart(theme.data(long)).encode(
        x,
        y.copy().axis(None),
        tooltip=[alt.Tooltip("label:N", title="objective"), "span:N", alt.Tooltip("burn:Q", format=",.2f")],
    )
    opacity = alt.FillOpacity("burn:Q", scale=alt.Scale(domain=[0, _FAST], range=[0, 0.5], clamp=True), legend=None)
    cells = base.mark_rect(fill=theme.ORANGE).encode(opacity)
    over = base.transform_filter("datum.burn > 1").mark_rect(fillOpacity=0, stroke=theme.ORANGE, strokeWidth=1.5)
    numbers = base.transform_calculate(
        number="datum.burn >= 9.95 ? format(datum.burn, ',.0f') : format(datum.burn, '.1f')"
    ).mark_text(style="text")
    return alt.layer(cells, over, numbers.encode(text="number:N")).properties(width=alt.Step(44), height=alt.Step(24))
