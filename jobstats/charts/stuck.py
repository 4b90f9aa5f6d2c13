"""Stuck runs drawn: how long each has been in trouble, against the bound that it broke."""

from typing import Any

import altair as alt
import polars as pl

from jobstats.analysis.stuck import SCHEMA
from jobstats.charts import theme
from jobstats.charts.instances import Look, counted, labelled_instances, scales, worded
from jobstats.wording import duration, plural, safe

KINDS = {
    "lost_worker": Look("lost worker", theme.RED),
    "running_long": Look("running long", theme.ORANGE),
    "waiting_long": Look("waiting long", theme.PURPLE),
    "unjudged": Look("not judged", theme.SLATE),
}
"""In the order of the table, worst first."""
_EVIDENCE = {
    "stalled": "failed, its worker was lost",
    "requeued": "waits again after a lost start",
    "state": "in none of the queue's lists",
    "restarted": "started more often than tried",
    "start": "since its latest start",
    "progress": "since its last progress",
    "due": "since it was due",
    "no_history": "too few runs to compare with",
    "file_mtime": "age rests on a file's time",
}
_BOUNDS = {
    "schedule": "bound: its next run",
    "connector_id": "bound from its own runs",
    "connector": "bound from runs of its kind",
    "all": "bound from all runs",
}
_ID_CHARACTERS = 80


def stuck(table: Any, *, tz: str = "UTC") -> alt.TopLevelMixin:
    """The table of :func:`jobstats.stuck` as a chart: a bar a run in the order of the table, at most forty.

    Raises:
        ArgumentError: It is another table, or there is no such time zone.
    """
    frame = theme.drawable(table, SCHEMA.names(), "stuck", tz)
    notes = [f"n = {plural(len(frame), 'run')}", *counted(frame["kind"], KINDS)]
    worst = labelled_instances(frame).head(theme.MOST_GROUPS).with_row_index("rank")
    if len(worst) < len(frame):
        notes.append(f"worst {len(worst)} drawn")
    if worst["bound_ms"].count():
        notes.append("tick: bound")
    nth = pl.int_range(1, pl.len() + 1).over("label")
    worst = worst.with_columns(
        # Two runs of a connector have a row each.
        label=pl.when(nth == 1).then("label").otherwise(pl.format("{} (run {})", "label", nth)),
        word=worded(worst["kind"], KINDS),
        age=pl.col("age_ms").clip(lower_bound=1),
        job=pl.Series([safe(job, _ID_CHARACTERS) for job in worst["job_id"]], dtype=pl.String),
        lengths=pl.Series([_lengths(row) for row in worst.to_dicts()], dtype=pl.String),
        evidence=pl.Series([_evidence(row) for row in worst.to_dicts()], dtype=pl.String),
    )
    y = theme.group_axis()
    rows = worst.select("rank", "label", "lengths", "evidence")
    return (
        alt.hconcat(
            _bars(worst, y, tz),
            theme.column(rows.drop("evidence"), y, "lengths", "age · bound"),
            theme.column(
                worst.select("rank", "label", "evidence"),
                y,
                "evidence",
                f"why (when last seen, {tz})",
                style=theme.QUIET,
            ),
            spacing=10,
        )
        .resolve_scale(y="shared")
        .properties(title=theme.title("Runs that need a person", *notes))
    )


def _bars(worst: pl.DataFrame, y: alt.Y, tz: str) -> Any:
    lengths = pl.concat([worst[name].cast(pl.Float64) for name in ("age", "bound_ms")])
    axis, scale = theme.duration_axis(lengths, 6, title="age when last seen, log scale", labelFlush=False)
    drawn = worst.select("rank", "label", "word", "job", "lengths", "evidence", "since_at", "age", "bound_ms")
    base = alt.Chart(theme.data(drawn)).encode(
        y,
        tooltip=[
            alt.Tooltip("label:N", title="connector"),
            alt.Tooltip("job:N", title="job"),
            alt.Tooltip("word:N", title="kind"),
            alt.Tooltip("evidence:N", title="why"),
            alt.Tooltip("lengths:N", title="age · bound"),
            theme.time_tooltip(tz, "since_at", "since"),
        ],
    )

    def place(name: str) -> alt.X:
        return alt.X(f"{name}:Q", axis=axis, scale=scale)

    start = alt.datum(float(scale.domain[0]))
    bars = base.transform_filter("isValid(datum.age)").mark_bar(height=11, opacity=0.85)
    return alt.layer(
        bars.encode(place("age"), x2=start, color=scales("word", KINDS, worst["kind"])["color"]),
        base.transform_filter("isValid(datum.bound_ms)")
        .mark_tick(thickness=3, size=18, color=theme.BLUE, opacity=1)
        .encode(place("bound_ms")),
    ).properties(width=320, height=alt.Step(24))


def _lengths(row: dict[str, Any]) -> str:
    age = duration(row["age_ms"])
    return f"{age} · {duration(row['bound_ms'])}" if row["bound_ms"] is not None else age


def _evidence(row: dict[str, Any]) -> str:
    """``running long: since its latest start · bound from its own runs, n = 61 · 23 Nov 14:15:06``."""
    kind = KINDS[row["kind"]].word if row["kind"] in KINDS else safe(row["kind"])
    parts = [f"{kind}: {_EVIDENCE.get(row['evidence']) or safe(row['evidence'])}"]
    if row["bound_of"]:
        parts.append(
            (_BOUNDS.get(row["bound_of"]) or safe(row["bound_of"]))
            + (f", n = {row['n_history']:,}" if row["n_history"] is not None else "")
        )
    if row["observed_at"] is not None:
        parts.append(f"{row['observed_at']:%d %b %H:%M:%S}")
    return " · ".join(parts)
