"""Failure reasons drawn: the most frequent as bars, or each over time."""

from typing import Any

import altair as alt
import polars as pl

from jobstats.analysis.failure_reasons import CHANGES, COUNTS, SEEN, TEXTS
from jobstats.charts import theme
from jobstats.wording import percent, plural

_NEEDED = ("cause", "category", "share", *COUNTS, *SEEN, *TEXTS)
_MOST_BARS = 15


def failure_reasons(table: Any, *, tz: str = "UTC") -> alt.TopLevelMixin:
    """The table of :func:`jobstats.failure_reasons` as a chart: most failures first, or over time if it has buckets.

    Raises:
        ArgumentError: It is another table, or there is no such time zone.
    """
    frame = theme.drawable(table, _NEEDED, "failure_reasons", tz)
    groups = [name for name in frame.columns if name not in (*_NEEDED, *CHANGES, "bucket")]
    frame = theme.labelled(frame, [*groups, "cause"], "")
    notes = [f"n = {frame['n'].sum():,} failed runs by their last error"]
    if recovered := frame["n_recovered"].sum():
        notes.append(f"{recovered:,} completed runs met an error first")
    return _over_time(frame, groups, notes, tz) if "bucket" in frame.columns else _bars(frame, groups, notes)


def _bars(frame: pl.DataFrame, groups: list[str], notes: list[str]) -> alt.TopLevelMixin:
    failed = frame.filter(pl.col("n") > 0)
    if 0 < len(failed) < len(frame):
        notes.append(f"{plural(len(frame) - len(failed), 'more cause')} without failed runs")
    ranked = (failed if len(failed) else frame).sort("n", "n_recovered", "label", descending=[True, True, False])
    shown = ranked.head(_MOST_BARS).with_row_index("rank")
    if len(shown) < len(ranked):
        notes.append(f"first {len(shown)} of {len(ranked):,} causes")
    # Runs that recovered have completed, so where none is known nothing is known of them.
    has_recovered = bool(frame["n_recovered"].sum())
    words = [
        f"{row['n']:,} ({percent(row['share'])}) · "
        f"{format(row['n_recovered'], ',') + ' recovered · ' if has_recovered else ''}"
        f"{plural(row['n_connectors'], 'connector')}"
        for row in shown.to_dicts()
    ]
    shown = shown.select("rank", "label", "category", "n", "n_recovered", "n_orgs").with_columns(
        values=pl.Series(words, dtype=pl.String)
    )
    # Rank and label in one value: sorted by the first, read by the second.
    shown = shown.with_columns(place=pl.format("{}|{}", pl.col("rank").cast(pl.String).str.zfill(3), "label"))
    base = alt.Chart(theme.data(shown)).encode(
        alt.Y(
            "place:N",
            sort="ascending",
            title=None,
            axis=alt.Axis(labelExpr="slice(datum.value, 4)", domain=False, ticks=False, labelPadding=6),
        ),
        tooltip=[
            alt.Tooltip("label:N", title="cause"),
            alt.Tooltip("category:N"),
            alt.Tooltip("n:Q", title="failed runs", format=","),
            alt.Tooltip("n_recovered:Q", title="recovered", format=","),
            alt.Tooltip("n_orgs:Q", title="organisations", format=","),
        ],
    )
    scale = alt.Scale(domain=[0, max([1, *shown["n"]])], nice=False)
    x = alt.X("n:Q", axis=None, scale=scale)
    bars = base.mark_bar(color=theme.BLUE, height=15).encode(x)
    text = base.mark_text(align="left", dx=5, style=theme.QUIET).encode(x, text="values:N")
    title = theme.title(f"Why runs failed{theme.by_words(groups)}", *notes)
    return alt.layer(bars, text).properties(width=300, height=alt.Step(24), title=title)


def _over_time(frame: pl.DataFrame, groups: list[str], notes: list[str], tz: str) -> alt.TopLevelMixin:
    frame, _ = theme.panels(frame, pl.col("n").sum(), "first {shown} of {all} causes", notes)
    frame = frame.select("label", "bucket", "n", "rank").sort("rank", "bucket")
    chart = (
        alt.Chart(theme.data(frame))
        .mark_line(interpolate="step-after", color=theme.BLUE, point={"size": 14, "color": theme.BLUE})
        .encode(
            theme.time_axis(frame["bucket"], tz, most=3),
            alt.Y("n:Q", title=None, axis=alt.Axis(tickMinStep=1, tickCount=4)),
            tooltip=[
                alt.Tooltip("label:N", title="cause"),
                theme.time_tooltip(tz),
                alt.Tooltip("n:Q", title="failed runs", format=","),
            ],
        )
        .properties(width=200, height=80)
    )
    title = theme.title(f"Why runs failed over time{theme.by_words(groups)}", *notes)
    return chart.facet(theme.facet(header=alt.Header(labelLimit=210)), columns=3).properties(title=title)
