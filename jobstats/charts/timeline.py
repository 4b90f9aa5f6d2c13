"""The newest runs drawn as bars: when each waited, and when it ran."""

from typing import Any

import altair as alt
import polars as pl

from jobstats.charts import theme
from jobstats.charts.instances import Look, counted, scales, worded, words_of
from jobstats.wording import plural

_TIMES = ("eligible_at", "started_at", "ended_at", "from_at", "until_at")
_NEEDED = ("connector", "outcome", "lane", "processing_ms", *_TIMES)
OUTCOMES = {
    "completed": Look("completed", theme.BLUE),
    "failed": Look("failed", theme.RED, "cross"),
    "running": Look("running", theme.GREEN),
    "waiting_again": Look("waiting again", theme.ORANGE),
    "ended_unseen": Look("ended unseen", theme.PURPLE),
    "paused": Look("paused", theme.BROWN),
    "unknown": Look("unknown", theme.SLATE),
    "waiting": Look("waiting", theme.SLATE),
}
"""Those that wait are a grey line and no bar, as all runs are while they wait: the legend leaves them out."""
_WIDTH, _HEIGHT = 760, 1_100
_UNTIL = pl.col("begin") + pl.col("until")
_PLACES = {
    "begin": "0",
    "start": "datum.start",
    "work": "datum.work",
    "until": "datum.until",
    "waited": "(isValid(datum.start) ? datum.start : isValid(datum.work) ? datum.work : datum.until)",
}
"""Points of a bar, from its begin. Where a run is not known to have started, all of it is waiting."""
_MOST_STEP, _LEAST_STEP, _LEAST_LABELLED = 18, 4, 12
_CHARACTER_PX, _LABEL_CHARACTERS = 6.0, 24


def timeline(table: Any, *, tz: str = "UTC") -> alt.TopLevelMixin:
    """The table of :func:`jobstats.timeline` as a chart: thin while a run waited, a bar while it ran.

    Raises:
        ArgumentError: It is another table, or there is no such time zone.
    """
    frame = theme.drawable(table, _NEEDED, "timeline", tz)
    notes = [f"n = {plural(len(frame), 'run')}", *counted(frame["outcome"], OUTCOMES)]
    if len(frame):
        notes.append("thin line: waiting; bar: running, faint where its end was not seen or between attempts")
    frame = theme.labelled(frame, ["connector"], "").with_columns(pl.col("label").str.head(_LABEL_CHARACTERS))
    first = frame["from_at"].min()
    begin_ms = int(first.timestamp() * 1000) if first is not None else 0  # type: ignore[union-attr]
    marks, names = _compact(frame, begin_ms)
    if len(marks) < len(frame):
        notes.append(f"newest {len(marks):,} drawn")
    n_lanes = int(marks["lane"].max() or 0) + 1  # type: ignore[arg-type]
    step = max(_LEAST_STEP, min(_MOST_STEP, _HEIGHT // n_lanes))
    left, right = _span(marks)
    if len(marks) and left > int(marks["begin"].min()):  # type: ignore[arg-type]
        notes.append("what began before the left edge is cut off there")
    marks = marks.with_columns(is_named=_has_room(marks, names, left, right) & pl.lit(step >= _LEAST_LABELLED))
    chart = _layers(marks.with_columns(pl.col(pl.Boolean).cast(pl.Int8)), names, step, (begin_ms, left, right), tz)
    text = theme.title("When the newest runs waited and ran", *notes)
    return chart.properties(width=_WIDTH, height=step * n_lanes, title=text)


def _compact(frame: pl.DataFrame, begin_ms: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The bars as few bytes, and the words for the numbers in them: a thousand runs are to fit a chart."""
    # Between attempts a run waits, and no record says when: what is known to be work is the last attempt.
    work = pl.col("ended_at") - pl.duration(milliseconds=pl.col("processing_ms"))
    times = {"start": pl.col("started_at"), "work": work, "until": pl.col("until_at")}
    named = frame.with_columns(word=worded(frame["outcome"], OUTCOMES))
    names = named.select("label", "word").unique(maintain_order=True).with_row_index("of")
    marks = named.join(names, on=["label", "word"], maintain_order="left").select(
        "lane",
        "of",
        (pl.col("from_at").dt.timestamp("ms") - begin_ms).alias("begin"),
        # From the begin of its bar, which takes fewer digits.
        *((at - pl.col("from_at")).dt.total_milliseconds().alias(name) for name, at in times.items()),
        is_due=pl.col("eligible_at").is_not_null(),
    )
    sample = marks.with_columns(pl.col("is_due").cast(pl.Int8), is_named=1)
    for_names = len(names) / theme.most_rows(names)
    many = theme.most_rows(sample) * (1 - for_names)
    most = int(many) if for_names < 0.5 else theme.most_rows(sample.join(names, on="of"))
    marks = marks.sort("begin").tail(most).sort("lane", "begin", "until")
    return marks, names.filter(pl.col("of").is_in(marks["of"].unique().implode()))


def _span(marks: pl.DataFrame) -> tuple[int, int]:
    """From when to when is drawn: of a wait much longer than all that ran only the end."""
    if not len(marks):
        return 0, 1
    start = pl.coalesce("start", "work", pl.lit(0))
    ends = marks.select(first=pl.col("begin").min(), right=_UNTIL.max(), ran=(pl.col("begin") + start).min())
    first, right, ran = (int(value) for value in ends.row(0))
    left = max(first, ran - max(right - ran, 1) // 5)
    return left, max(right, left + 1)


def _has_room(marks: pl.DataFrame, names: pl.DataFrame, left: int, right: int) -> pl.Series:
    """Whether the label of each bar fits before the next of its lane; the last of a lane have all the room there is."""
    label = marks.join(names, on="of", maintain_order="left")["label"]
    room = (pl.col("begin").shift(-1).over("lane") - _UNTIL) * (_WIDTH / (right - left))
    fits = (room >= pl.lit(label).str.len_chars() * _CHARACTER_PX + 12).fill_null(True)
    return marks.select(fits).to_series()


def _layers(marks: pl.DataFrame, names: pl.DataFrame, step: int, span: tuple[int, int, int], tz: str) -> Any:
    begin_ms, left, right = span
    ends = [begin_ms + left, begin_ms + right]
    instants = pl.Series(ends).cast(pl.Datetime("ms"))
    scale = alt.Scale(type="utc", domain=ends, nice=False)
    # A run is drawn from where the axis begins, if it began before.
    at = {
        f"{name}_at": f"isValid({value}) ? {begin_ms} + max(datum.begin + {value}, {left}) : null"
        for name, value in _PLACES.items()
    }
    base = alt.Chart()
    looks = scales("word", OUTCOMES, _outcomes(names))
    height = step - 6 if step >= _LEAST_LABELLED else max(2, step - 1)

    def place(name: str) -> alt.X:
        return theme.time_axis(instants, tz, f"{name}_at", most=8).scale(scale)

    def bars(name: str, opacity: float) -> alt.Chart:
        bar = base.transform_filter(f"isValid(datum.{name})").mark_bar(height=height, opacity=opacity, minBandSize=1)
        return bar.encode(place(name), alt.X2("until_at"), color=looks["color"])

    # One that failed has a cross at its end: red alone says nothing to some.
    failed = base.transform_filter(f"datum.word == '{OUTCOMES['failed'].word}'")
    layers: list[Any] = [
        base.mark_rule(strokeWidth=1.5, strokeCap="square", color=theme.SLATE).encode(
            place("begin"), alt.X2("waited_at")
        ),
        bars("start", 0.4),
        bars("work", 1),
        failed.mark_point(shape="cross", filled=True, size=max(18, 5 * step), opacity=1).encode(
            place("until"), color=looks["color"]
        ),
        base.transform_filter("datum.is_named == 1")
        .mark_text(align="left", dx=8, style=theme.QUIET)
        .encode(place("until"), text="label:N"),
    ]
    # Said once for all layers: it is longer than a hundred runs.
    chart: Any = alt.layer(*layers, data=theme.data(marks))
    return (
        chart.transform_lookup("of", from_=alt.LookupData(data=theme.data(names), key="of", fields=["label", "word"]))
        .transform_calculate(
            **at,
            waited=words_of("(datum.is_due && isValid(datum.start) ? datum.start : null)"),
            ran=words_of("(isValid(datum.work) ? datum.until - datum.work : null)"),
        )
        .encode(alt.Y("lane:O", axis=None), tooltip=_tooltip(tz))
    )


def _outcomes(names: pl.DataFrame) -> pl.Series:
    present = set(names["word"]) - {OUTCOMES["waiting"].word}
    return pl.Series([name for name, look in OUTCOMES.items() if look.word in present], dtype=pl.String)


def _tooltip(tz: str) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("label:N", title="connector"),
        alt.Tooltip("word:N", title="outcome"),
        alt.Tooltip("waited:N", title="waited"),
        alt.Tooltip("ran:N", title="ran (last attempt)"),
        theme.time_tooltip(tz, "start_at", "started"),
        theme.time_tooltip(tz, "until_at", "last known"),
    ]
