"""Expected fires drawn: what became of each, one strip a connector."""

from typing import Any

import altair as alt
import polars as pl

from jobstats.charts import theme
from jobstats.charts.instances import INSTANCE, Look, counted, labelled_instances, scales, worded, words_of
from jobstats.wording import plural

_NEEDED = (*INSTANCE, "due_at", "fate", "reason", "lateness_ms", "waited_ms")
FATES = {
    "missed": Look("missed", theme.RED, "cross"),
    "late": Look("late", theme.ORANGE, "triangle-up"),
    "on_time": Look("on time", theme.BLUE, "circle"),
    "started": Look("started, not known when", theme.PURPLE, "diamond"),
    "pending": Look("pending", theme.GREEN, "square"),
    "unknown": Look("unknown", theme.SLATE, "stroke"),
}
"""Worst first. What is worst is drawn last, on top."""
_REASONS = {
    "run_before_waited": Look("the run before it waited", theme.RED),
    "not_made": Look("no run was made", theme.RED),
}


def fires(table: Any, *, tz: str = "UTC") -> alt.TopLevelMixin:
    """The table of :func:`jobstats.fires` as a chart: a strip of its newest fires for each of the worst connectors.

    Raises:
        ArgumentError: It is another table, or there is no such time zone.
    """
    frame = theme.drawable(table, _NEEDED, "fires", tz).with_columns(waited_ms=pl.col("waited_ms").cast(pl.Int64))
    notes = [f"n = {plural(len(frame), 'expected fire')}", *counted(frame["fate"], FATES)]
    frame = labelled_instances(frame)
    order = _worst(frame)
    worst = order.head(theme.MOST_GROUPS)
    if len(worst) < len(order):
        notes.append(f"worst {len(worst)} of {len(order):,} connectors")
    of_worst = frame.join(worst.select("label"), on="label", how="semi")
    shown = _newest(of_worst)
    if len(shown) < len(of_worst):
        notes.append(f"newest {len(shown):,} of their {len(of_worst):,} fires")
    rows = _worst(shown).with_row_index("rank")
    rows = rows.with_columns(values=pl.Series([_words(row) for row in rows.to_dicts()], dtype=pl.String))
    y = theme.group_axis().axis(domain=False, ticks=False, grid=True)
    return (
        alt.hconcat(
            _strips(shown.join(rows.select("label", "rank"), on="label"), rows, y, tz),
            theme.column(rows.select("rank", "label", "values"), y, "values", "of the fires drawn"),
            spacing=10,
        )
        .resolve_scale(y="shared")
        .properties(title=theme.title("What became of each expected fire", *notes))
    )


def _worst(frame: pl.DataFrame) -> pl.DataFrame:
    """Connectors, those with most missed fires first, with how many fires they have of each fate."""
    counts = [(pl.col("fate") == fate).sum().alias(fate) for fate in FATES]
    rows = frame.group_by("label").agg(*counts, pl.len().alias("n"), pl.col("lateness_ms").max())
    order = ["missed", "late", "lateness_ms", "label"]
    return rows.sort(order, descending=[True, True, True, False], nulls_last=True)


def _compact(frame: pl.DataFrame) -> pl.DataFrame:
    """A mark, as it is written: one length in the place of two, which never are of one fire."""
    return frame.select(
        "due_at",
        word=worded(frame["fate"], FATES),
        ms=pl.coalesce("lateness_ms", "waited_ms"),
        reason=worded(frame["reason"], _REASONS),
        rank=pl.col("rank") if "rank" in frame.columns else pl.lit(theme.MOST_GROUPS),
    )


def _newest(frame: pl.DataFrame) -> pl.DataFrame:
    """As many of the newest fires as a chart can hold, none of the oldest moment unless all of them."""
    ordered = frame.sort("due_at", "label", descending=[True, False])
    most = theme.most_rows(_compact(ordered))
    if len(ordered) <= most:
        return ordered
    whole = ordered.head(most).filter(pl.col("due_at") > ordered["due_at"][most])
    return whole if len(whole) else ordered.head(most)


def _strips(shown: pl.DataFrame, rows: pl.DataFrame, y: alt.Y, tz: str) -> alt.Chart:
    on_top = pl.col("fate").replace_strict({fate: -at for at, fate in enumerate(FATES)}, default=-len(FATES))
    marks = _compact(shown.sort(on_top, "due_at"))
    labels = alt.LookupData(data=theme.data(rows.select("rank", "label")), key="rank", fields=["label"])
    looks = scales("word", FATES, shown["fate"])
    said = words_of("datum.ms")
    return (
        alt.Chart(theme.data(marks))
        .transform_lookup("rank", from_=labels)
        .transform_calculate(
            lateness=f"!isValid(datum.ms) ? (datum.reason || '–') : datum.word == '{FATES['pending'].word}'"
            f" ? 'waits for ' + ({said}) : {said}"
        )
        .mark_point(filled=True, size=48, opacity=0.9)
        .encode(
            theme.time_axis(marks["due_at"], tz, field="due_at").scale(type="utc", padding=8),
            y,
            **looks,
            tooltip=[
                alt.Tooltip("label:N", title="connector"),
                theme.time_tooltip(tz, "due_at", "due"),
                alt.Tooltip("word:N", title="fate"),
                alt.Tooltip("lateness:N", title="lateness"),
            ],
        )
        .properties(width=560, height=alt.Step(20))
    )


def _words(row: dict[str, Any]) -> str:
    """``2 missed · 3 late · n = 12``."""
    return " · ".join([*(f"{row[name]:,} {name}" for name in ("missed", "late") if row[name]), f"n = {row['n']:,}"])
