"""Retry and failure rates drawn with their intervals: by group, or over time."""

from collections.abc import Iterable
from typing import Any

import altair as alt
import polars as pl

from jobstats.analysis.retry_rates import COUNTS, MEASURES
from jobstats.charts import theme
from jobstats.charts.heat import CLOCK, heat_of_rates
from jobstats.wording import percent, plural

_SHOWN = {"retry_rate": ("retried", theme.BLUE), "failure_rate": ("failed", theme.ORANGE)}
_DRAWN = tuple(f"{name}{end}" for name in _SHOWN for end in ("", "_low", "_high"))


def retry_rates(table: Any, *, tz: str = "UTC") -> alt.TopLevelMixin:
    """The table of :func:`jobstats.retry_rates` as a chart: worst groups first, or over time if it has buckets.

    Where rates cannot be estimated, the chart says so, and shows the bounds of each group, or counts over time. By
    weekday and hour it is a heat map of failure rates.

    Raises:
        ArgumentError: It is another table, or there is no such time zone.
    """
    frame = theme.drawable(table, [*MEASURES, *COUNTS, "is_estimable"], "retry_rates", tz)
    known = {*MEASURES, *COUNTS, "is_estimable", "bucket"}
    groups = [name for name in frame.columns if name not in known]
    notes = [f"n = {frame['n'].sum():,} ended runs"]
    if unseen := frame["n_open"].sum():
        notes.append(f"{unseen:,} started, end not seen")
    is_over_time = "bucket" in frame.columns
    is_week = sorted(groups) == sorted(CLOCK) and not is_over_time
    if not frame["is_estimable"].all():
        shown = "counts only" if is_over_time else "bars show between which bounds they lie"
        shown = "counts only" if is_week else shown
        notes.insert(0, f"rates cannot be estimated, completed runs are missing: {shown}")
    if is_week:
        return heat_of_rates(frame, "failure_rate", "n_failed", "Failed runs", notes)
    frame = theme.labelled(frame, groups, "all runs")
    return _over_time(frame, groups, notes, tz) if is_over_time else _by_group(frame, groups, notes)


def _long(
    frame: pl.DataFrame, keys: list[str], ends: tuple[str, str] = ("low", "high"), measures: Iterable[str] = _SHOWN
) -> pl.DataFrame:
    """One row a group (and bucket) and rate, which is how a chart tells them apart."""
    low, high = ends
    parts = [
        frame.select(*keys, "n", rate=name, low=f"{name}_{low}", high=f"{name}_{high}", measure=pl.lit(_SHOWN[name][0]))
        for name in measures
    ]
    return pl.concat(parts)


def _colour() -> alt.Color:
    words, colours = zip(*_SHOWN.values(), strict=True)
    return alt.Color(
        "measure:N", scale=alt.Scale(domain=list(words), range=list(colours)), legend=alt.Legend(title=None)
    )


def _by_group(frame: pl.DataFrame, groups: list[str], notes: list[str]) -> alt.TopLevelMixin:
    is_estimable = bool(frame["is_estimable"].all())
    first = ("failure_rate_low", "retry_rate") if is_estimable else ("failure_rate_min", "retry_rate_min")
    worst = frame.sort(*first, "n_failed", "label", descending=[True, True, True, False], nulls_last=True).head(
        theme.MOST_GROUPS
    )
    if len(worst) < len(frame):
        notes.append(f"worst {len(worst)} of {len(frame):,} groups")
    worst = worst.with_row_index("rank").with_columns(
        values=pl.Series([_words(row) for row in worst.to_dicts()], dtype=pl.String)
    )
    y = theme.group_axis()
    long = _long(worst, ["label", "rank"], ("low", "high") if is_estimable else ("min", "max"))
    long = long.filter(pl.col("high").is_not_null())
    step = alt.Step(34, **{"for": "position"}) if len(long) else alt.Step(22)
    panels: list[Any] = []
    if len(long):
        x_scale = alt.Scale(domain=[0, min(1.0, float(long["high"].max()) * 1.05 or 1.0)], nice=False)  # type: ignore[arg-type]
        base = alt.Chart(theme.data(long)).encode(
            y,
            yOffset=alt.YOffset(
                "measure:N", sort=[word for word, _ in _SHOWN.values()], scale=alt.Scale(paddingOuter=0.6)
            ),
            color=_colour(),
            tooltip=[
                alt.Tooltip("label:N", title="group"),
                alt.Tooltip("measure:N", title="rate of runs"),
                *(alt.Tooltip(f"{name}:Q", format=".1%") for name in ("rate", "low", "high")[not is_estimable :]),
                alt.Tooltip("n:Q", format=","),
            ],
        )
        what = "share of ended runs, bar: interval" if is_estimable else "share of runs, bar: bounds"
        axis = alt.Axis(format="%", title=what, tickCount=6)
        intervals = base.mark_rule(strokeWidth=4, opacity=0.35).encode(
            alt.X("low:Q", axis=axis, scale=x_scale), alt.X2("high:Q")
        )
        points = base.mark_point(filled=True, size=60, opacity=1).encode(
            alt.X("rate:Q", scale=x_scale, axis=axis),
            shape=alt.Shape(
                "measure:N",
                scale=alt.Scale(domain=[word for word, _ in _SHOWN.values()], range=["circle", "diamond"]),
                legend=alt.Legend(title=None),
            ),
        )
        layers = [intervals, points] if is_estimable else [intervals]
        panels.append(alt.layer(*layers).properties(width=400, height=step))
    words = max([10, *(len(value) for value in worst["values"])])
    text_y = y.copy().axis(None) if panels else y
    panels.append(
        alt.Chart(theme.data(worst))
        .mark_text(align="left")
        .encode(text_y, text="values:N", x=alt.value(0))
        .properties(width=words * 6, height=step)
    )
    return (
        alt.hconcat(*panels, spacing=10)
        .resolve_scale(y="shared")
        .properties(title=theme.title(f"Retried and failed runs{theme.by_words(groups)}", *notes))
    )


def _words(row: dict[str, Any]) -> str:
    if row["is_estimable"] and row["n"]:
        return f"{percent(row['retry_rate'])} retried · {percent(row['failure_rate'])} failed · n = {row['n']:,}"
    # Of runs without a known end some were seen to be retried, and the bounds hold these too.
    counts = f"of {row['n']:,} ended {row['n_retried']:,} retried, {row['n_failed']:,} failed"
    return f"{counts} · {row['n_open']:,} with unknown end"


def _over_time(frame: pl.DataFrame, groups: list[str], notes: list[str], tz: str) -> alt.TopLevelMixin:
    said = "{shown} of {all} groups, those with most failures"
    frame = frame.select("label", "bucket", "n", "n_open", "n_failed", "n_retried", "is_estimable", *_DRAWN)
    is_one = frame["label"].n_unique() <= 1
    measures = list(_SHOWN) if is_one else ["failure_rate"]
    frame, n_panels = theme.panels(frame, pl.col("n_failed").sum(), said, notes, series=len(measures))
    is_estimable = bool(frame["is_estimable"].all())
    frame = _settled(frame, notes) if is_estimable else _counted(frame)
    long = _long(frame, ["label", "rank", "bucket"], measures=measures)
    if is_estimable:
        notes.append("share of runs that started in the window; band: interval")
        if n_few := len(frame.filter(pl.col("n").is_between(1, theme.FEW_RUNS - 1))):
            notes.append(f"faint: {plural(n_few, 'window')} of fewer than {theme.FEW_RUNS} ended runs")
    what = "Retried and failed runs" if is_one else "Failed runs"
    title = theme.title(f"{what} over time{theme.by_words(groups)}", *notes)
    if is_one:
        upper, lower = (_panel(long, name, is_estimable, tz) for name in _SHOWN)
        return alt.vconcat(upper, lower, spacing=20).resolve_scale(x="shared").properties(title=title)
    panel = _panel(long, "failure_rate", is_estimable, tz, is_small=True)
    return panel.facet(theme.facet(), columns=theme.columns(n_panels)).properties(title=title)


def _settled(frame: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """Without the rates of windows in which many runs have not ended."""
    unsettled = theme.many_are_open(pl.col("n"), pl.col("n_open"))
    if n_unsettled := len(frame.filter(unsettled)):
        notes.append(f"{plural(n_unsettled, 'window')} left open, many runs had not ended")
    return frame.with_columns(pl.when(~unsettled).then(pl.col(name)).alias(name) for name in _DRAWN)


def _counted(frame: pl.DataFrame) -> pl.DataFrame:
    """With counts in place of the rates."""
    return frame.with_columns(pl.col(f"n_{word}").alias(name) for name, (word, _) in _SHOWN.items())


def _panel(long: pl.DataFrame, name: str, is_estimable: bool, tz: str, *, is_small: bool = False) -> Any:
    """One measure over time: a line and its band where windows hold enough runs, else faint points."""
    word, colour = _SHOWN[name]
    form = ".1%" if is_estimable else ",d"
    shown = ("rate", "low", "high") if is_estimable else ("rate",)
    tooltip = [
        *([alt.Tooltip("label:N", title="group")] if is_small else []),
        theme.time_tooltip(tz),
        alt.Tooltip("measure:N", title="rate of runs" if is_estimable else "number of runs"),
        *(alt.Tooltip(f"{field}:Q", format=form) for field in shown),
        alt.Tooltip("n:Q", format=","),
    ]
    title = None if is_small else word if is_estimable else f"{word} runs"
    axis = alt.Axis(format="~%" if is_estimable else ",d", title=title, tickCount=4, domain=False, ticks=False)
    scale = alt.Scale(domainMin=0)
    x = theme.time_axis(long["bucket"], tz, most=3 if is_small else 6)
    base = alt.Chart(theme.data(long)).encode(x, tooltip=tooltip).transform_filter(f"datum.measure == '{word}'")
    is_solid = f"datum.n >= {theme.FEW_RUNS}" if is_estimable else "true"
    # What is too little for a line breaks it: no line joins windows over others.
    solid = base.transform_calculate(**{field: f"{is_solid} ? datum.{field} : null" for field in shown})
    rate = alt.Y("rate:Q", axis=axis, scale=scale)
    layers = [
        solid.mark_line(color=colour, strokeWidth=1.8).encode(rate),
        base.transform_filter(is_solid).mark_point(filled=True, color=colour, size=20, opacity=1).encode(rate),
    ]
    if is_estimable:
        layers.insert(0, solid.mark_area(color=colour, opacity=0.2).encode(alt.Y("low:Q", axis=axis), alt.Y2("high:Q")))
        faint = base.transform_filter(f"!({is_solid})").mark_point(filled=True, color=colour, size=20, opacity=0.35)
        layers.append(faint.encode(rate))
        # What draws nothing would have no extent, of which Vega warns.
        is_drawn = (pl.col("measure") == word) & pl.col("rate").is_not_null()
        n_solid = long.filter(is_drawn & (pl.col("n") >= theme.FEW_RUNS)).height
        n_faint = long.filter(is_drawn & (pl.col("n") < theme.FEW_RUNS)).height
        layers = layers[: 3 if n_solid else 0] + layers[3 if n_faint or not n_solid else 4 :]
    return alt.layer(*layers).properties(width=200 if is_small else 680, height=100 if is_small else 130)
