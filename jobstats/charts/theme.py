"""How all charts look and speak: colours, axes of time, durations in words, labels made safe, data kept small."""

from collections.abc import Iterable, Sequence
from json import dumps
from typing import Any, Literal
from zoneinfo import ZoneInfo

import altair as alt
import narwhals as nw
import polars as pl

from jobstats.errors import ArgumentError
from jobstats.wording import duration, safe

BLUE, ORANGE, GREEN, PURPLE, BROWN, SLATE = "#0072b2", "#f0590c", "#35a35a", "#b866e8", "#a54b00", "#7a828c"
RED = "#d9363e"
"""All are at least 3:1 on white and on the dark paper, and the first six told apart with any colour vision. Red says
that something is wrong, and always with a word or a shape beside it."""

QUIET = "quiet"
"""The style of text that is read second. Text takes its colour from the theme, which knows the paper."""

Mode = Literal["light", "dark", "auto"]
_PAPERS: dict[Mode, dict[str, Any]] = {
    "light": {"paper": "#ffffff", "ink": "#1c2430", "quiet": "#5c6570", "grid": "#e3e7ec", "line": "#aab2bd"},
    "dark": {"paper": "#11161c", "ink": "#e6eaf0", "quiet": "#a5afbb", "grid": "#2a323c", "line": "#56616e"},
    "auto": {"paper": None} | {name: f"var(--{name})" for name in ("ink", "quiet", "grid", "line")},
}
MOST_ROWS = 5_000
MOST_BYTES = 60_000
_DATA_BYTES = 44_000
"""What the data of one chart may take; axes, marks and words take the rest."""
_SIGNIFICANT_DIGITS = 6
"""Twice as many as any mark, axis or tooltip shows."""
MOST_GROUPS = 40
MOST_PANELS = 12
FEW_RUNS = 20
"""Groups of fewer runs than this are not ranked among the others: their quantiles are single waits."""
_MOST_OPEN = 0.1
ROW = 24
"""Height of a row, one a group."""
_LINE_CHARACTERS = 95

_WIDTHS = dict.fromkeys(" .,:;·'|!ijltfrI()[]/-", 3.6) | dict.fromkeys("mwMW%@…–", 10.2)
_WIDTHS |= dict.fromkeys("ABCDEFGHKNOPQRSTUVXYZ", 8.2)

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
def _theme(mode: Mode = "light") -> alt.theme.ThemeConfig:
    paper = _PAPERS[mode]
    ink, quiet, grid, line = (paper[name] for name in ("ink", "quiet", "grid", "line"))
    styles: Any = {QUIET: {"color": quiet, "fill": quiet, "fontSize": 11, "fontWeight": "normal"}}
    return {
        "config": {
            "font": "Arial, 'Liberation Sans', Helvetica, sans-serif",
            "background": paper["paper"],
            "view": {"stroke": None},
            "text": {"color": ink, "fontSize": 11},
            "style": styles,
            "range": {"category": [BLUE, ORANGE, GREEN, PURPLE, BROWN, SLATE]},
            "title": {
                "anchor": "start",
                "frame": "group",
                "fontSize": 15,
                "color": ink,
                "subtitleFontSize": 12,
                "subtitleColor": quiet,
                "subtitlePadding": 4,
                "offset": 12,
            },
            "axis": {
                "labelColor": ink,
                "titleColor": quiet,
                "titleFontWeight": "normal",
                "labelFontSize": 11,
                "titleFontSize": 11,
                "gridColor": grid,
                "domainColor": line,
                "tickColor": line,
                "labelLimit": 360,
                "labelPadding": 8,
            },
            "header": {"labelColor": ink, "labelFontSize": 12, "labelFontWeight": "bold", "title": None},
            "legend": {
                "labelColor": ink,
                "titleColor": quiet,
                "orient": "top",
                "labelFontSize": 11,
                "symbolOpacity": 1,
            },
        }
    }


_LAST_WHOLE, _MOST_PAIRS = 0xFFFF, 14
"""Vega cuts a label that is too long in the middle of an emoji, and then cannot draw it: such labels are kept short."""


def use_theme(mode: Mode = "light") -> None:
    """Give every Altair chart of this session the look of jobstats; without it, only sizes and axes are set.

    ``auto`` takes its colours from the CSS variables ``--ink``, ``--quiet``, ``--grid`` and ``--line`` of the page
    that holds the SVG.

    Raises:
        ArgumentError: There is no such mode.
    """
    if mode not in _PAPERS:
        raise ArgumentError(f"mode is light, dark or auto, found {mode!r}")
    alt.theme.enable("jobstats", mode=mode)


def drawable(table: Any, needed: Sequence[str], function: str, tz: str = "UTC") -> pl.DataFrame:
    """The result table as Polars, with its instants as the clocks in ``tz`` show them.

    Vega knows UTC and the reader's own zone, and no other: the time on the clock is drawn as if it were UTC.

    Raises:
        ArgumentError: It is not the table that ``function`` returns, or there is no such time zone.
    """
    try:
        ZoneInfo(tz)
    except (ValueError, OSError, TypeError, KeyError):
        raise ArgumentError(f"tz is the name of a time zone such as 'Europe/Berlin', found {tz!r}") from None
    try:
        frame: pl.DataFrame = nw.from_native(table).lazy().collect("polars").to_native()
    except TypeError:
        raise ArgumentError(f"expected the table of {function}, found {type(table).__name__}") from None
    if missing := [name for name in needed if name not in frame.columns]:
        raise ArgumentError(f"expected the table of {function}; it has no column {missing[0]!r}")
    instants = [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.Datetime)]
    on_the_clock = pl.col(instants).dt.convert_time_zone(tz).dt.replace_time_zone(None)
    return frame.with_columns(on_the_clock.dt.replace_time_zone("UTC").dt.cast_time_unit("ms"))


def data(frame: pl.DataFrame) -> alt.InlineData:
    """The rows of a chart as CSV: half the size of a list of objects, where every row repeats every name."""
    kinds = {}
    for name, dtype in frame.schema.items():
        kinds[name] = "boolean" if dtype == pl.Boolean else "number" if dtype.is_numeric() else "string"
        if isinstance(dtype, pl.Datetime):
            kinds[name] = "number"
    plain = frame.with_columns(
        pl.col(pl.Datetime).dt.timestamp("ms"), pl.col(pl.Float64).round_sig_figs(_SIGNIFICANT_DIGITS)
    )
    return alt.InlineData(values=plain.write_csv(), format=alt.CsvDataFormat(type="csv", parse=kinds))


def many_are_open(n: pl.Expr, n_open: pl.Expr) -> pl.Expr:
    """Where so many runs go on that the others do not stand for all: those that take long end last."""
    return n_open > _MOST_OPEN * (n + n_open)


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
        # Two groups can shorten to one label; their marks must not share a row.
        nth = seen.get(label, 0) + 1
        while (name := label if nth == 1 else f"{label} #{nth}") in seen:
            nth += 1
        seen |= {name: 1, label: nth}
        labels.append(name)
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


def time_axis(buckets: pl.Series, tz: str = "UTC", field: str = "bucket", most: int = 6) -> alt.X:
    """Time on the clocks in ``tz``, whatever the reader's zone; as much of date and hour as the span needs."""
    first, last = buckets.min(), buckets.max()
    days = (last - first).total_seconds() / 86_400 if first and last else 0  # type: ignore[operator, union-attr]
    form = (
        "%H:%M:%S"
        if days * 86_400 / most < 45  # or there would be ticks within minutes
        else "%H:%M"
        if days <= 1
        else "%d %b %H:%M"
        if days <= 4
        else "%d %b"
        if days <= 300
        else "%b %Y"
    )
    axis = alt.Axis(title=tz, format=form, labelFlush=True, tickCount=most, grid=False)
    return alt.X(f"{field}:T", scale=alt.Scale(type="utc"), axis=axis)


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


def columns(n_panels: int) -> int:
    """Panels in a row: three, or two where that leaves no hole, in which an axis would stand alone."""
    return 2 if n_panels in (2, 4) else 3


def facet(**options: Any) -> alt.Facet:
    """One panel a group, worst first."""
    return alt.Facet("label:N", sort=alt.EncodingSortField("rank", op="min"), title=None, **options)


def time_tooltip(tz: str = "UTC", field: str = "bucket", words: str = "from") -> alt.Tooltip:
    """When a window starts, or something happened; a tooltip has no scale, so it is told that time is UTC."""
    return alt.Tooltip(f"{field}:T", title=f"{words} ({tz})", timeUnit="utcyearmonthdatehoursminutesseconds")


def group_axis() -> alt.Y:
    """One row a group, worst first."""
    sort = alt.EncodingSortField("rank", order="ascending", op="min")
    return alt.Y("label:N", sort=sort, title=None, axis=alt.Axis(domain=False, ticks=False))


def column(
    frame: pl.DataFrame, y: alt.Y, field: str, heading: str = "", style: str = "text", step: int = ROW
) -> alt.Chart:
    """Text beside each row of a chart, under a heading: values are read, not guessed from marks."""
    words = alt.TitleParams(heading, style=QUIET, fontSize=11, fontWeight="normal", offset=4)
    shown = frame.select(sorted({field, str(y.shorthand).partition(":")[0], "rank"}))
    return (
        alt.Chart(data(shown), title=words)
        .mark_text(align="left", style=style)
        .encode(y.copy().axis(None), text=f"{field}:N", x=alt.value(0))
        .properties(width=text_width([heading, *frame[field]]), height=alt.Step(step))
    )


def text_width(texts: Iterable[str | None]) -> int:
    """Pixels that the longest of these texts takes in Arial of 11 px, nearly.

    >>> text_width(["1.2 s · 30 s"]), text_width(["WWW"]), text_width([])
    (65, 37, 6)
    """
    longest = max((sum(_WIDTHS.get(letter, 6.2) for letter in text or "") for text in texts), default=0.0)
    return round(longest) + 6


def newest(table: pl.DataFrame, panels: int, notes: list[str]) -> pl.DataFrame:
    """As many of the newest windows as a chart can hold; what was left out is said."""
    buckets = table["bucket"].unique().sort()
    if len(buckets) > 1:
        every = (buckets[1] - buckets[0]).total_seconds() * 1000
        notes.append(f"windows of {duration(every)}")
    most = most_rows(table) // max(panels, 1)
    if len(buckets) > most:
        notes.append(f"newest {most:,} of {len(buckets):,} windows")
    return table.filter(pl.col("bucket").is_in(buckets.tail(most).implode()))


def most_rows(table: pl.DataFrame) -> int:
    """How many rows like these a chart can hold."""
    sample = data(table.head(200))
    written = len(dumps(sample.values))
    return min(MOST_ROWS, int(_DATA_BYTES / max(1, written) * max(1, min(200, len(table)))))


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
