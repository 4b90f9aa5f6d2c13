"""Punctuality of schedules drawn: the share of fires missed or late, by group or over time."""

from typing import Any

import altair as alt
import polars as pl

from jobstats.analysis.schedule_adherence import COUNTS, RATES
from jobstats.charts import theme
from jobstats.charts.instances import Look, scales
from jobstats.wording import percent, plural

CLASSES = {
    "missed": Look("missed", theme.RED),
    "waiting": Look("late, not started when last seen", theme.PURPLE),
    "late": Look("late", theme.ORANGE),
}
"""Of the fires whose fate is known, those not on time."""
_MEASURES = tuple(f"{name}{end}" for name, _ in RATES for end in ("", "_low", "_high"))
_NEEDED = (*_MEASURES, "max_ms", *COUNTS)
_NOT_KNOWN = {"n_started": "started, not known when", "n_pending": "pending", "n_unknown": "unknown"}
_SAID = {"label": "group", "values": "fires", "count": "of"}
_LEAST_KNOWN = 0.5
"""A window is left open when the fate of fewer of its fires than this is known."""
_LEAST_TOP = 0.05
"""The axis reaches at least so far: a share of 0.1 % is not to look like a disaster."""


def schedule_adherence(table: Any, *, tz: str = "UTC") -> alt.TopLevelMixin:
    """The table of :func:`jobstats.schedule_adherence` as a chart: least punctual groups first, or over time.

    Raises:
        ArgumentError: It is another table, or there is no such time zone.
    """
    frame = theme.drawable(table, _NEEDED, "schedule_adherence", tz)
    quantiles = [name for name in frame.columns if name.startswith("p") and name.endswith("_ms") and name[1].isdigit()]
    groups = [name for name in frame.columns if name not in (*_NEEDED, *quantiles, "bucket")]
    frame = theme.labelled(frame, groups, "all schedules").with_columns(
        missed=pl.col("n_missed") / pl.col("n"),
        waiting=pl.col("n_late_waiting") / pl.col("n"),
        late=(pl.col("n_late") - pl.col("n_late_waiting")) / pl.col("n"),
    )
    frame = frame.with_columns(pl.when(pl.col("n") > 0).then(pl.col(*CLASSES)).name.keep())
    total = {name: int(frame[name].sum()) for name in COUNTS}
    notes = [f"n = {total['n']:,} fires of known fate, of {total['n_expected']:,} expected"]
    notes += [f"{total[name]:,} {word}" for name, word in _NOT_KNOWN.items() if total[name]]
    if total["n_unreadable"]:
        notes.append(f"{total['n_unreadable']:,} runs of schedules that cannot be read left out")
    return _over_time(frame, groups, notes, tz) if "bucket" in frame.columns else _by_group(frame, groups, notes)


def _long(frame: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """One row a group (and window) and class, each with where its part of the bar begins."""
    parts, begin = [], pl.lit(0.0)
    for name, look in CLASSES.items():
        parts.append(frame.select(*keys, word=pl.lit(look.word), low=begin, high=begin + pl.col(name), share=name))
        begin = begin + pl.col(name)
    return pl.concat(parts).filter(pl.col("share") > 0)


def _top(shares: pl.Series) -> float:
    return min(1.0, max(_LEAST_TOP, float(shares.max() or 0) * 1.05))  # type: ignore[arg-type]


def _present(long: pl.DataFrame) -> pl.Series:
    words = set(long["word"])
    return pl.Series([name for name, look in CLASSES.items() if look.word in words], dtype=pl.String)


def _by_group(frame: pl.DataFrame, groups: list[str], notes: list[str]) -> alt.TopLevelMixin:
    order = ["on_time_rate_high", "missed_rate", "on_time_rate", "max_ms", "label"]
    worst = frame.sort(order, descending=[False, True, False, True, False], nulls_last=True).head(theme.MOST_GROUPS)
    if len(worst) < len(frame):
        notes.append(f"worst {len(worst)} of {len(frame):,} groups")
    notes.append("grey: interval of all not on time, by whose lower end they are ordered")
    worst = worst.with_row_index("rank").with_columns(
        low=1 - pl.col("on_time_rate_high"),
        high=1 - pl.col("on_time_rate_low"),
        values=pl.Series([_words(row) for row in worst.to_dicts()], dtype=pl.String),
        count=pl.Series([_count(row) for row in worst.to_dicts()], dtype=pl.String),
    )
    y = theme.group_axis()
    return (
        alt.hconcat(
            _bars(worst, y),
            theme.column(worst.select("rank", "label", "values"), y, "values", "of fires with known fate"),
            theme.column(worst.select("rank", "label", "count"), y, "count", style=theme.QUIET),
            spacing=10,
        )
        .resolve_scale(y="shared")
        .properties(title=theme.title(f"Fires missed and late{theme.by_words(groups)}", *notes))
    )


def _bars(worst: pl.DataFrame, y: alt.Y) -> Any:
    scale = alt.Scale(domain=[0, _top(worst["high"])], nice=False)
    axis = alt.Axis(format="~%", title="share of fires not on time", tickCount=5)

    def place(name: str) -> alt.X:
        return alt.X(f"{name}:Q", axis=axis, scale=scale)

    long = _long(worst, ["rank", "label", "values", "count"])
    shown = worst.select("rank", "label", "values", "count", "low", "high", *_MEASURES, "max_ms")
    said = [
        alt.Tooltip("label:N", title="group"),
        alt.Tooltip("values:N", title="fires"),
        alt.Tooltip("count:N", title="of"),
    ]
    layers: list[Any] = [
        alt.Chart(theme.data(shown))
        .transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=5, opacity=0.35, color=theme.SLATE)
        .encode(
            y,
            place("low"),
            alt.X2("high"),
            tooltip=[
                *said,
                *(alt.Tooltip(f"{name}:Q", title=name.replace("_", " "), format=".1%") for name in _MEASURES),
            ],
        )
    ]
    if len(long):
        bars = alt.Chart(theme.data(long)).mark_bar(height=13, opacity=0.8)
        share = [alt.Tooltip("word:N", title="class"), alt.Tooltip("share:Q", format=".1%")]
        colour = scales("word", CLASSES, _present(long))["color"]
        layers.insert(0, bars.encode(y, place("low"), alt.X2("high"), color=colour, tooltip=[*said, *share]))
    return alt.layer(*layers).properties(width=340, height=alt.Step(22))


def _over_time(frame: pl.DataFrame, groups: list[str], notes: list[str], tz: str) -> alt.TopLevelMixin:
    frame = frame.with_columns(_bad=pl.col("n_missed") + pl.col("n_late"))
    columns = ["label", "bucket", "n", "n_expected", "_bad", *CLASSES]
    said = "{shown} of {all} groups, those with most fires missed or late"
    shown, n_panels = theme.panels(frame.select(columns), pl.col("_bad").sum(), said, notes, series=len(CLASSES) + 1)
    is_open = (pl.col("n") < _LEAST_KNOWN * pl.col("n_expected")) & (pl.col("n_expected") > 0)
    if n_open := len(shown.filter(is_open)):
        notes.append(f"{plural(n_open, 'window')} left open, most fates are not known")
    every = shown["bucket"].unique().sort().diff().min()
    end = pl.col("bucket") + (every if every is not None else pl.duration(minutes=1))
    known = shown.filter(~is_open, pl.col("n") > 0).with_columns(end=end)
    notes.append("share of the fires due in a window whose fate is known; blue line: the others were on time")
    is_one = n_panels <= 1
    chart = _stacks(known, shown["bucket"], tz, 6 if is_one else 3)
    text = theme.title(f"Fires missed and late over time{theme.by_words(groups)}", *notes)
    if is_one:
        return chart.properties(width=680, height=220, title=text)
    return chart.properties(width=200, height=90).facet(theme.facet(), columns=3).properties(title=text)


def _stacks(known: pl.DataFrame, buckets: pl.Series, tz: str, most: int) -> Any:
    """A bar a window, and a line under each that is known: nothing late is not the same as nothing known."""
    keys = ["label", "rank", "bucket", "end", "n", "n_expected"]
    none = pl.lit(None, pl.Float64)
    lines = known.select(*keys, word=pl.lit("", pl.String), low=none, high=none, share=none)
    long = _long(known, keys)
    top = _top(known.select(pl.sum_horizontal(*CLASSES)).to_series())
    axis, scale = alt.Axis(format="~%", title=None, tickCount=4), alt.Scale(domain=[0, top], nice=False)
    base = alt.Chart(theme.data(pl.concat([lines, long]))).encode(
        theme.time_axis(buckets, tz, most=most), alt.X2("end"), tooltip=_tooltip(tz)
    )
    layers: list[Any] = [
        base.transform_filter("!isValid(datum.share)")
        .mark_rule(strokeWidth=2, color=theme.BLUE, yOffset=1)
        .encode(alt.Y(datum=0, type="quantitative", axis=axis, scale=scale))
    ]
    if len(long):
        colour = scales("word", CLASSES, _present(long))["color"]
        bars = base.transform_filter("isValid(datum.share)").mark_bar()
        layers.append(bars.encode(alt.Y("low:Q", axis=axis, scale=scale), alt.Y2("high"), color=colour))
    return alt.layer(*layers)


def _tooltip(tz: str) -> list[alt.Tooltip]:
    return [
        theme.time_tooltip(tz),
        alt.Tooltip("word:N", title="class"),
        alt.Tooltip("share:Q", format=".1%"),
        alt.Tooltip("n:Q", title="fires of known fate", format=","),
        alt.Tooltip("n_expected:Q", title="expected", format=","),
    ]


def _words(row: dict[str, Any]) -> str:
    """``97.0 % on time · 2 late · 1 missed``."""
    parts = [f"{percent(row['on_time_rate'])} on time" if row["n"] else "none known"]
    return " · ".join([*parts, *(f"{row[f'n_{name}']:,} {name}" for name in ("late", "missed") if row[f"n_{name}"])])


def _count(row: dict[str, Any]) -> str:
    """``n = 120 of 130 expected``."""
    return f"n = {row['n']:,}" + (f" of {row['n_expected']:,} expected" if row["n_expected"] != row["n"] else "")
