"""How all charts look and speak: colours, time axes in UTC, durations in words, labels made safe."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import narwhals as nw
import polars as pl

from jobstats.errors import ArgumentError
from jobstats.wording import duration, safe

BLUE, ORANGE, INK, GREY = "#0072b2", "#c8500a", "#1c2430", "#5c6570"
"""At least 3:1 on white, and told apart with any colour vision; shape and words say the same."""

MOST_ROWS = 5_000
MOST_GROUPS = 40
MOST_PANELS = 12
FEW_RUNS = 20
"""Groups of fewer runs than this are not ranked among the others: their quantiles are single waits."""
_LINE_CHARACTERS = 95

_TICKS_MS = [
    *(1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000),
    *(60_000 * minutes for minutes in (1, 2, 5, 10, 30, 60, 120, 240, 720, 1_440, 2_880, 10_080, 43_200)),
]
DURATION_LABEL = (
    "datum.value < 1000 ? format(datum.value, '~r') + ' ms'"
    " : datum.value < 60000 ? format(datum.value / 1000, '~g') + ' s'"
    " : datum.value < 3600000 ? format(datum.value / 60000, '~g') + ' min'"
    " : datum.value < 172800000 ? format(datum.value / 3600000, '~g') + ' h'"
    " : format(datum.value / 86400000, '~g') + ' d'"
)


@alt.theme.register("jobstats", enable=False)
def _theme() -> alt.theme.ThemeConfig:
    font = "Arial, 'Liberation Sans', Helvetica, sans-serif"
    return {
        "config": {
            "font": font,
            "background": "white",
            "view": {"stroke": None},
            "title": {
                "anchor": "start",
                "frame": "group",
                "fontSize": 15,
                "color": INK,
                "subtitleFontSize": 12,
                "subtitleColor": GREY,
                "subtitlePadding": 4,
                "offset": 12,
            },
            "axis": {
                "labelColor": INK,
                "titleColor": GREY,
                "titleFontWeight": "normal",
                "labelFontSize": 11,
                "titleFontSize": 11,
                "gridColor": "#e3e7ec",
                "domainColor": "#aab2bd",
                "tickColor": "#aab2bd",
                "labelLimit": 360,
                "labelPadding": 8,
            },
            "header": {"labelColor": INK, "labelFontSize": 12, "labelFontWeight": "bold", "title": None},
            "legend": {"labelColor": INK, "titleColor": GREY, "orient": "top", "labelFontSize": 11, "symbolOpacity": 1},
        }
    }


_LAST_WHOLE, _MOST_PAIRS = 0xFFFF, 14
"""Vega cuts a label that is too long in the middle of an emoji, and then cannot draw it: such labels are kept short."""


def use_theme() -> None:
    """Give every Altair chart of this session the look of jobstats; without it, only sizes and axes are set."""
    alt.theme.enable("jobstats")


def drawable(table: Any, needed: Sequence[str], function: str) -> pl.DataFrame:
    """The result table as Polars.

    Raises:
        ArgumentError: It is not the table that ``function`` returns.
    """
    try:
        frame: pl.DataFrame = nw.from_native(table).lazy().collect("polars").to_native()
    except TypeError:
        raise ArgumentError(f"expected the table of {function}, found {type(table).__name__}") from None
    if missing := [name for name in needed if name not in frame.columns]:
        raise ArgumentError(f"expected the table of {function}; it has no column {missing[0]!r}")
    return frame


def labelled(table: pl.DataFrame, columns: Sequence[str], everything: str) -> pl.DataFrame:
    """The table with one safe ``label`` in place of its group columns: raw text does not go into a chart."""
    if not columns:
        return table.with_columns(label=pl.lit(everything))
    groups = table.select(columns).unique(maintain_order=True)
    seen: dict[str, int] = {}
    labels = []
    for row in groups.iter_rows():
        label = " · ".join(safe("(none)" if value is None else value) for value in row)
        if max(map(ord, label)) > _LAST_WHOLE:
            label = label[:_MOST_PAIRS] + "…" * (len(label) > _MOST_PAIRS)
        seen[label] = seen.get(label, 0) + 1
        # Two groups can shorten to one label; their marks must not share a row.
        labels.append(label if seen[label] == 1 else f"{label} #{seen[label]}")
    groups = groups.with_columns(label=pl.Series(labels, dtype=pl.String))
    return table.join(groups, on=list(columns), how="left", nulls_equal=True, maintain_order="left").drop(columns)


def duration_axis(values: pl.Series, most: int, **options: Any) -> tuple[alt.Axis, alt.Scale]:
    """A log axis in ms, s, min, h and d that spans the values, and its scale."""
    positive = values.filter(values > 0)
    low, high = float(positive.min() or 1), float(positive.max() or 1_000)  # type: ignore[arg-type]
    below = max((tick for tick in _TICKS_MS if tick <= low), default=low)
    above = min((tick for tick in _TICKS_MS if tick >= high), default=high)
    above = above if above > below else below * 10
    ticks: list[float] = [tick for tick in _TICKS_MS if below <= tick <= above]
    ticks = ticks[:: -(-len(ticks) // most)] if len(ticks) > most else ticks if len(ticks) > 1 else [below, above]
    scale = alt.Scale(type="log", domain=[below, above], nice=False, clamp=True)
    return alt.Axis(values=ticks, labelExpr=DURATION_LABEL, **options), scale


def time_axis(buckets: pl.Series) -> alt.X:
    """Windows of time in UTC, whatever the reader's zone; as much of date and hour as their span needs."""
    first, last = buckets.min(), buckets.max()
    days = (last - first).total_seconds() / 86_400 if first and last else 0  # type: ignore[operator, union-attr]
    form = "%H:%M" if days <= 1 else "%d %b %H:%M" if days <= 4 else "%d %b" if days <= 300 else "%b %Y"
    axis = alt.Axis(title="UTC", format=form, labelFlush=True, tickCount=6, grid=False)
    return alt.X("bucket:T", scale=alt.Scale(type="utc"), axis=axis)


def panels(
    table: pl.DataFrame, badness: pl.Expr, said: str, notes: list[str], series: int = 1
) -> tuple[pl.DataFrame, int]:
    """The worst groups over time, ranked, as far as a chart can hold them; and how many they are.

    Each group has ``series`` lines. What is left out is said, in ``said``'s words for the groups.
    """
    column = badness.meta.output_name()
    order = table.group_by("label").agg(badness).sort(column, "label", descending=[True, False], nulls_last=True)
    labels = order["label"].head(MOST_PANELS)
    if len(labels) < len(order):
        notes.append(said.format(shown=len(labels), all=f"{len(order):,}"))
    shown = newest(table.filter(pl.col("label").is_in(labels.implode())), len(labels) * series, notes)
    return shown.join(labels.to_frame().with_row_index("rank"), on="label"), len(labels)


def facet(**options: Any) -> alt.Facet:
    """One panel a group, worst first."""
    return alt.Facet("label:N", sort=alt.EncodingSortField("rank", op="min"), title=None, **options)


def bucket_tooltip() -> alt.Tooltip:
    """When a window starts; a tooltip has no scale, so it is told that time is UTC."""
    return alt.Tooltip("bucket:T", title="from (UTC)", timeUnit="utcyearmonthdatehoursminutes")


def group_axis() -> alt.Y:
    """One row a group, worst first."""
    sort = alt.EncodingSortField("rank", order="ascending", op="min")
    return alt.Y("label:N", sort=sort, title=None, axis=alt.Axis(domain=False, ticks=False))


def newest(table: pl.DataFrame, panels: int, notes: list[str]) -> pl.DataFrame:
    """As many of the newest windows as a chart can hold; what was left out is said."""
    buckets = table["bucket"].unique().sort()
    if len(buckets) > 1:
        every = (buckets[1] - buckets[0]).total_seconds() * 1000
        notes.append(f"windows of {duration(every)}")
    most = MOST_ROWS // max(panels, 1)
    if len(buckets) > most:
        notes.append(f"newest {most:,} of {len(buckets):,} windows")
    return table.filter(pl.col("bucket").is_in(buckets.tail(most).implode()))


def title(text: str, *notes: str) -> alt.TitleParams:
    """What is shown, and under it what is counted."""
    lines = [""]
    for note in notes:
        joined = f"{lines[-1]} · {note}" if lines[-1] else note
        if len(joined) <= _LINE_CHARACTERS:
            lines[-1] = joined
        else:
            lines.append(note)
    return alt.TitleParams(text, subtitle=lines)


def by_words(columns: Sequence[str]) -> str:
    """``by connector and schedule type``, or nothing.

    >>> by_words(["connector", "schedule_type"])
    ' by connector and schedule type'
    """
    return " by " + " and ".join(safe(name).replace("_", " ") for name in columns) if columns else ""
