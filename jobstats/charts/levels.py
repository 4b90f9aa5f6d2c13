"""Levels drawn: how many runs are in a place, at most and on average, in each window or by group."""

from typing import Any, NamedTuple

import altair as alt
import polars as pl

from jobstats.analysis.levels import Place
from jobstats.charts import theme
from jobstats.wording import duration, plural

_MANY = 60
"""Windows of more than these are too narrow to be read one by one: steps join their means."""


class Kind(NamedTuple):
    """Which place, and the words for it."""

    function: str
    what: str
    place: Place
    entered: str
    left: str
    notes: dict[str, str]
    """What is said of the counts that are not 0."""


def drawn(table: Any, kind: Kind, tz: str) -> alt.TopLevelMixin:
    """A table of levels as windows over time, a panel a group, or as bars by group."""
    place = kind.place
    needed = [*place.levels, place.oldest, "covered_ms", *place.counts, "is_partial"]
    frame = theme.drawable(table, needed, kind.function, tz)
    groups = [name for name in frame.columns if name not in {*needed, "bucket"}]
    frame = theme.labelled(frame, groups, "all runs")
    notes = [f"n = {frame[place.n_entered].sum():,} {kind.entered}", f"{frame[place.n_left].sum():,} {kind.left}"]
    notes += [words.format(n=f"{n:,}") for name, words in kind.notes.items() if (n := frame[name].sum())]
    peak, mean = place.levels[:2]
    counts = {"entered": place.n_entered, "left": place.n_left}
    ends = {"at_end": place.levels[3], "oldest": place.oldest}
    frame = frame.rename({peak: "peak", mean: "mean", **{old: new for new, old in {**counts, **ends}.items()}})
    if "bucket" in frame.columns:
        return _over_time(frame, kind, groups, notes, tz)
    return _by_group(frame, kind, groups, notes)


def _by_group(frame: pl.DataFrame, kind: Kind, groups: list[str], notes: list[str]) -> alt.TopLevelMixin:
    worst = frame.sort("peak", "mean", "label", descending=[True, True, False], nulls_last=True).head(theme.MOST_GROUPS)
    if len(worst) < len(frame):
        notes.append(f"highest {len(worst)} of {len(frame):,} groups")
    rows = worst.to_dicts()
    worst = worst.with_row_index("rank").select(
        "label",
        "rank",
        "peak",
        "mean",
        "entered",
        "left",
        values=pl.Series([f"{_level(row['peak'])} · {_level(row['mean'])}" for row in rows], dtype=pl.String),
        last=pl.Series([_last(row) for row in rows], dtype=pl.String),
        count=pl.Series([f"n = {row['entered']:,}" for row in rows], dtype=pl.String),
    )
    y = theme.group_axis()
    axis = alt.Axis(title=kind.what.lower(), tickMinStep=1, tickCount=6)
    scale = alt.Scale(domain=[0, max([1, *worst["peak"].drop_nulls()])], nice=False)
    base = alt.Chart(theme.data(worst)).encode(y, tooltip=_tooltip(kind, [alt.Tooltip("label:N", title="group")]))
    bars = base.mark_bar(color=theme.BLUE, opacity=0.35, height=13).encode(alt.X("peak:Q", axis=axis, scale=scale))
    ticks = base.mark_tick(color=theme.BLUE, thickness=3, size=17).encode(alt.X("mean:Q", axis=axis, scale=scale))
    notes.append("bar: peak, tick: mean over time")
    return (
        alt.hconcat(
            alt.layer(bars, ticks).properties(width=400, height=alt.Step(theme.ROW)),
            theme.column(worst, y, "values", "peak · mean"),
            theme.column(worst, y, "last", "at the end"),
            theme.column(worst, y, "count", style=theme.QUIET),
            spacing=10,
        )
        .resolve_scale(y="shared")
        .properties(title=theme.title(f"{kind.what}{theme.by_words(groups)}", *notes))
    )


def _level(value: float | None) -> str:
    return "–" if value is None else f"{float(f'{value:.3g}'):,.10g}" if value < 1_000 else f"{value:,.0f}"


def _last(row: dict[str, Any]) -> str:
    if row["at_end"] is None:
        return "–"
    return f"{row['at_end']:,}" + (f", oldest {duration(row['oldest'])}" if row["oldest"] is not None else "")


def _tooltip(kind: Kind, first: list[alt.Tooltip]) -> list[alt.Tooltip]:
    return [
        *first,
        alt.Tooltip("peak:Q", title="peak", format=","),
        alt.Tooltip("mean:Q", title="mean", format=",.3~r"),
        alt.Tooltip("entered:Q", title=kind.place.n_entered.removeprefix("n_"), format=","),
        alt.Tooltip("left:Q", title=kind.place.n_left.removeprefix("n_"), format=","),
    ]


def _over_time(frame: pl.DataFrame, kind: Kind, groups: list[str], notes: list[str], tz: str) -> alt.TopLevelMixin:
    every = _every(frame)
    frame = frame.select("label", "bucket", "peak", "mean", "entered", "left", "is_partial")
    frame, n_panels = theme.panels(frame, pl.col("peak").max(), "highest {shown} of {all} groups", notes)
    frame = frame.sort("rank", "bucket")
    is_one = n_panels <= 1
    if n_partial := frame.filter("is_partial")["bucket"].n_unique():
        notes.append(f"{plural(n_partial, 'window')} covered in part: dashed")
    notes.append("thin line: peak, thick line: mean over time")
    time = theme.time_axis(frame["bucket"], tz, most=6 if is_one else 3)
    base = (
        alt.Chart()
        .transform_calculate(end=f"datum.bucket + {every}")
        .encode(time, tooltip=_tooltip(kind, [theme.time_tooltip(tz)]))
    )
    title = theme.title(f"{kind.what} over time{theme.by_words(groups)}", *notes)
    if not is_one:
        panels = alt.layer(*_windows(base, frame, 3)).properties(width=200, height=90)
        return panels.facet(theme.facet(), data=theme.data(frame), columns=3).properties(title=title)
    level = alt.layer(*_windows(base.encode(time.copy().axis(None)), frame, 5)).properties(width=680, height=200)
    both = alt.vconcat(level, _flow(base, frame, kind), data=theme.data(frame), spacing=14)
    return both.resolve_scale(x="shared").properties(title=title)


def _every(frame: pl.DataFrame) -> int:
    """The length of a window in ms: most are that far apart, whatever clocks do in between."""
    apart = frame["bucket"].unique().sort().diff().drop_nulls().dt.total_milliseconds()
    return int(apart.mode().min() or 0) if len(apart) else int(frame["covered_ms"].max() or 1)  # type: ignore[arg-type]


def _windows(base: alt.Chart, frame: pl.DataFrame, ticks: int) -> list[Any]:
    """Each window as wide as it is: nothing is drawn between two of them that neither of them says."""
    axis = alt.Axis(title=None, tickMinStep=1, tickCount=ticks)
    scale = alt.Scale(domain=[0, max([1, *frame["peak"].drop_nulls()])], nice=True)
    layers: list[Any] = []
    for is_partial, opacity, dash in ((False, 0.18, {}), (True, 0.07, {"strokeDash": [3, 3]})):
        if is_partial and not frame["is_partial"].any():
            continue
        shown = f"isValid(datum.peak) && datum.is_partial == {str(is_partial).lower()}"
        part = base.transform_filter(shown).encode(alt.X2("end"))
        area = part.mark_rect(color=theme.BLUE, opacity=opacity)
        layers.append(area.encode(alt.Y("peak:Q", axis=axis, scale=scale), alt.Y2(datum=0)))
        for field, width in (("peak:Q", 1.2), ("mean:Q", 2.6)):
            rule: dict[str, Any] = {"color": theme.BLUE, "strokeWidth": width, **dash}
            layers.append(part.mark_rule(**rule).encode(alt.Y(field, axis=axis, scale=scale)))
    if frame["bucket"].n_unique() > _MANY:
        steps = base.mark_line(color=theme.BLUE, strokeWidth=1, interpolate="step-after")
        layers.append(steps.encode(alt.Y("mean:Q", axis=axis, scale=scale)))
    return layers


def _flow(base: alt.Chart, frame: pl.DataFrame, kind: Kind) -> Any:
    """What changed the level: how many came, and how many went."""
    what = f"bars: {kind.entered}, lines: {kind.left}, per window"
    axis = alt.Axis(title=None, tickMinStep=1, tickCount=3)
    scale = alt.Scale(domain=[0, max([1, *frame["entered"], *frame["left"]])], nice=True)
    base = base.encode(alt.X2("end"))
    bars = base.mark_rect(color=theme.SLATE, opacity=0.35)
    bars = bars.encode(alt.Y("entered:Q", axis=axis, scale=scale), alt.Y2(datum=0))
    lines = base.mark_rule(color=theme.ORANGE, strokeWidth=2).encode(alt.Y("left:Q", axis=axis, scale=scale))
    heading = alt.TitleParams(what, style=theme.QUIET, fontSize=11, fontWeight="normal", offset=4)
    return alt.layer(bars, lines).properties(width=680, height=60, title=heading)
