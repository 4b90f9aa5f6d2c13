"""Freshness drawn: how long ago each connector last succeeded, against its own period."""

from typing import Any

import altair as alt
import polars as pl

from jobstats.analysis.freshness import COLUMNS
from jobstats.charts import theme
from jobstats.charts.instances import Look, counted, labelled_instances, scales, worded
from jobstats.wording import duration, plural, safe

STATUSES = {
    "never": Look("never succeeded", theme.RED, "cross"),
    "stale": Look("stale", theme.ORANGE, "triangle-up"),
    "unknown": Look("unknown", theme.SLATE, "diamond"),
    "pending": Look("pending", theme.PURPLE, "square"),
    "unscheduled": Look("unscheduled", theme.BLUE, "circle"),
    "disabled": Look("disabled", theme.BROWN, "triangle-down"),
    "paused": Look("paused", theme.BROWN, "stroke"),
    "fresh": Look("fresh", theme.GREEN, "circle"),
}
"""Worst first."""
_CAUSE_CHARACTERS = 40


def freshness(table: Any, *, tz: str = "UTC") -> alt.TopLevelMixin:
    """The table of :func:`jobstats.freshness` as a chart: a row a connector, the worst forty first.

    Raises:
        ArgumentError: It is another table, or there is no such time zone.
    """
    frame = theme.drawable(table, COLUMNS, "freshness", tz)
    notes = [f"n = {len(frame):,} connectors", *counted(frame["status"], STATUSES)]
    rank = pl.col("status").replace_strict({name: at for at, name in enumerate(STATUSES)}, default=len(STATUSES))
    worst = (
        labelled_instances(frame)
        .sort(
            *(rank, "age_periods", "n_failing", "age_ms", "label"),
            descending=[False, True, True, True, False],
            nulls_last=True,
        )
        .head(theme.MOST_GROUPS)
        .with_row_index("rank")
    )
    if len(worst) < len(frame):
        notes.append(f"worst {len(worst)} drawn")
    if len(worst) and worst["age_ms"].null_count():
        notes.append("marks at the right edge: no success known")
    worst = worst.with_columns(
        # A log axis has no place for 0: drawn at its edge, printed as it is.
        age=pl.col("age_ms").clip(lower_bound=1),
        word=worded(worst["status"], STATUSES),
        values=pl.Series([_words(row) for row in worst.to_dicts()], dtype=pl.String),
    )
    worst = worst.select("rank", "label", "status", "word", "values", "age", "period_ms")
    y = theme.group_axis()
    heading = f"last success · period · failures (since, {tz})"
    return (
        alt.hconcat(
            _ladder(worst, y),
            theme.column(worst.select("rank", "label", "word"), y, "word", "status"),
            theme.column(worst.select("rank", "label", "values"), y, "values", heading, style=theme.QUIET),
            spacing=10,
        )
        .resolve_scale(y="shared")
        .properties(title=theme.title("How long ago each connector last succeeded", *notes))
    )


def _ladder(worst: pl.DataFrame, y: alt.Y) -> Any:
    lengths = pl.concat([worst[name].cast(pl.Float64) for name in ("age", "period_ms")])
    title = "time since the last success, log scale; tick: its period"
    axis, scale = theme.duration_axis(lengths, 7, title=title, labelFlush=False)
    base = alt.Chart(theme.data(worst.drop("status"))).encode(
        y,
        tooltip=[
            alt.Tooltip("label:N", title="connector"),
            alt.Tooltip("word:N", title="status"),
            alt.Tooltip("values:N", title="last success"),
        ],
    )
    looks = scales("word", STATUSES, worst["status"])
    has_both = "isValid(datum.age) && isValid(datum.period_ms)"

    def place(name: str) -> alt.X:
        return alt.X(f"{name}:Q", axis=axis, scale=scale)

    points = base.mark_point(filled=True, size=75, opacity=1)
    return alt.layer(
        base.transform_filter(f"{has_both} && datum.age > datum.period_ms")
        .mark_rule(strokeWidth=5, opacity=0.3)
        .encode(place("period_ms"), alt.X2("age"), color=looks["color"]),
        base.transform_filter("isValid(datum.period_ms)")
        .mark_tick(thickness=2, size=14, color=theme.SLATE, opacity=1)
        .encode(place("period_ms")),
        points.transform_filter("isValid(datum.age)").encode(place("age"), **looks),
        points.transform_filter("!isValid(datum.age)").encode(x=alt.value("width"), **looks),
    ).properties(width=320, height=alt.Step(22))


def _words(row: dict[str, Any]) -> str:
    """``26 h ago · every 1 h · failing since 23 Nov 14:10, 10 in a row: HTTP 429``."""
    since = row["failing_since_at"]
    is_unsettled = row["status"] == "unknown" and row["n_unsettled"]
    parts = [
        f"{duration(row['age_ms'])} ago" if row["age_ms"] is not None else "no success known",
        f"every {duration(row['period_ms'])}" if row["period_ms"] else "",
        f"{plural(row['n_unsettled'], 'run')} may have succeeded" if is_unsettled else "",
    ]
    if row["n_failing"] and since is not None:
        cause = f": {safe(row['cause'], _CAUSE_CHARACTERS)}" if row["cause"] else ""
        parts.append(f"failing since {since:%d %b %H:%M}, {row['n_failing']:,} in a row{cause}")
    return " · ".join(filter(None, parts))
