"""Queue latency drawn: a ladder of quantiles by group, or bands over time."""

import re
from itertools import pairwise
from typing import Any

import altair as alt
import polars as pl

from jobstats.analysis.queue_latency import LENGTHS
from jobstats.charts import theme
from jobstats.errors import ArgumentError
from jobstats.wording import duration, plural

_QUANTILE = re.compile(r"p(\d+(?:_\d+)?)_ms")


def queue_latency(table: Any, *, tz: str = "UTC") -> alt.TopLevelMixin:
    """The table of :func:`jobstats.queue_latency` as a chart: slowest groups first, or over time if it has buckets.

    Raises:
        ArgumentError: It is another table, or there is no such time zone.
    """
    frame = theme.drawable(table, ("max_ms", "n", "n_excluded", "n_waiting"), "queue_latency", tz)
    quantiles = sorted((name for name in frame.columns if _QUANTILE.fullmatch(name)), key=_share)
    if not quantiles:
        raise ArgumentError("expected the table of queue_latency with at least one quantile")
    # A censored table has the bounds of each quantile beside it.
    columns = {"bucket", *LENGTHS.last, *(f"{name}{end}" for name in quantiles for end in ("", "_low", "_high"))}
    groups = [name for name in frame.columns if name not in columns]
    frame = theme.labelled(frame, groups, "all runs")
    # A log axis has no place for 0 or less: drawn at its edge, printed and shown as it is.
    frame = frame.with_columns(pl.col(name).clip(lower_bound=1).alias(f"{name}_drawn") for name in quantiles)
    notes = [f"n = {frame['n'].sum():,} runs with a known wait"]
    if excluded := frame["n_excluded"].sum():
        notes.append(f"{excluded:,} left out")
    if waiting := frame["n_waiting"].sum():
        notes.append(f"{waiting:,} still waiting")
    if "bucket" in frame.columns:
        return _over_time(frame, quantiles, groups, notes, tz)
    return _ladder(frame, quantiles, groups, notes)


def _ladder(frame: pl.DataFrame, quantiles: list[str], groups: list[str], notes: list[str]) -> alt.TopLevelMixin:
    is_small = pl.col("n") < theme.FEW_RUNS
    worst = frame.sort(is_small, quantiles[-2:][0], "label", descending=[False, True, False], nulls_last=True)
    if 0 < (n_small := len(frame.filter(is_small))) < len(frame):
        notes.append(f"{plural(n_small, 'group')} of fewer than {theme.FEW_RUNS} runs last")
    worst = worst.head(theme.MOST_GROUPS)
    if len(worst) < len(frame):
        notes.append(f"slowest {len(worst)} of {len(frame):,} groups")
    worst = worst.with_row_index("rank").with_columns(
        values=pl.Series([" · ".join(duration(row[q]) for q in quantiles) for row in worst.to_dicts()]),
        count=pl.Series([f"n = {n:,}" for n in worst["n"]]),
    )
    drawn = [f"{name}_drawn" for name in quantiles]
    axis, scale = theme.duration_axis(
        pl.concat([worst[name] for name in drawn]), 8, title="queue latency, log scale", orient="bottom"
    )
    y = theme.group_axis()
    tooltip = [
        alt.Tooltip("label:N", title="group"),
        alt.Tooltip("values:N", title=_names(quantiles)),
        alt.Tooltip("n:Q", format=","),
    ]
    base = alt.Chart(theme.data(worst)).transform_filter("datum.n > 0").encode(y=y, tooltip=tooltip)

    def place(name: str) -> alt.X:
        return alt.X(f"{name}:Q", axis=axis, scale=scale)

    marks = [base.mark_rule(strokeWidth=5, color=theme.BLUE, opacity=0.3).encode(place(drawn[0]), alt.X2(drawn[-1]))]
    marks += [
        base.mark_point(shape="diamond", filled=True, size=70, opacity=1, color=theme.BLUE).encode(place(n))
        for n in drawn[1:-1]
    ]
    if len(drawn) > 1:
        marks.append(base.mark_tick(thickness=2, size=14, color=theme.BLUE, opacity=1).encode(place(drawn[-1])))
    marks.append(
        base.mark_point(shape="circle", filled=True, size=70, opacity=1, color=theme.BLUE).encode(place(drawn[0]))
    )
    notes.append(_key(quantiles))
    return (
        alt.hconcat(
            alt.layer(*marks).properties(width=430, height=alt.Step(24)),
            theme.column(worst, y, "values", _names(quantiles)),
            theme.column(worst, y, "count", style=theme.QUIET),
            spacing=10,
        )
        .resolve_scale(y="shared")
        .properties(title=theme.title(f"Queue latency{theme.by_words(groups)}", *notes))
    )


def _over_time(
    frame: pl.DataFrame, quantiles: list[str], groups: list[str], notes: list[str], tz: str
) -> alt.TopLevelMixin:
    key = quantiles[-2:][0]
    frame, n_panels = theme.panels(frame, pl.col(key).max(), "slowest {shown} of {all} groups", notes)
    drawn = [f"{name}_drawn" for name in quantiles]
    is_one = n_panels == 1
    axis, scale = theme.duration_axis(pl.concat([frame[name] for name in drawn]), 8 if is_one else 5, title=None)
    tooltip = [theme.time_tooltip(tz)]
    tooltip += [alt.Tooltip(f"{name}:Q", title=_name(name) + " (ms)", format=",.0f") for name in quantiles]
    base = alt.Chart(theme.data(frame)).encode(
        theme.time_axis(frame["bucket"], tz, most=6 if is_one else 3),
        tooltip=[*tooltip, alt.Tooltip("n:Q", format=",")],
    )

    def place(name: str) -> alt.Y:
        return alt.Y(f"{name}:Q", axis=axis, scale=scale)

    layers = [
        base.mark_area(color=theme.BLUE, opacity=0.16).encode(place(low), alt.Y2(high)) for low, high in pairwise(drawn)
    ]
    layers += [
        base.mark_line(
            color=theme.BLUE, strokeWidth=2 if index == 0 else 1.2, point={"size": 14, "color": theme.BLUE}
        ).encode(place(name))
        for index, name in enumerate(drawn)
    ]
    text = f"Queue latency over time{theme.by_words(groups)}"
    notes.append(f"lines from below: {_names(quantiles)}; log scale")
    if is_one:
        return alt.layer(*layers).properties(width=680, height=260, title=theme.title(text, *notes))
    return (
        alt.layer(*layers)
        .properties(width=200, height=110)
        .facet(theme.facet(), columns=3)
        .properties(title=theme.title(text, *notes))
    )


def _share(name: str) -> float:
    match = _QUANTILE.fullmatch(name)
    return float(match[1].replace("_", ".")) if match else 0.0


def _name(column: str) -> str:
    return column.removesuffix("_ms").replace("_", ".")


def _names(quantiles: list[str]) -> str:
    return " · ".join(map(_name, quantiles))


def _key(quantiles: list[str]) -> str:
    shapes = ["circle", *["diamond"] * (len(quantiles) - 2), "tick"][: len(quantiles)]
    inner = list(map(_name, quantiles[1:-1]))
    parts = [f"circle {_name(quantiles[0])}"]
    if "diamond" in shapes:
        parts.append(f"diamond{'s' if len(inner) > 1 else ''} {' '.join(inner)}")
    if len(quantiles) > 1:
        parts.append(f"tick {_name(quantiles[-1])}")
    return ", ".join(parts)
