"""Quantiles drawn, of lengths of time or of multiples: a ladder of them by group, or bands over time."""

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import altair as alt
import polars as pl

from jobstats.charts import theme
from jobstats.wording import duration, plural

_SHARE = re.compile(r"p(\d+(?:_\d+)?)_")
_WHISKERS_BELOW, _WHISKERS_APART = 8.0, 3.0
_FEW_LINES = (0.5, 0.9, 0.95, 0.99)
MOST_LINES = 8
"""More quantiles than these are a distribution, and drawn as one."""


class Unit(NamedTuple):
    """How values are said, and where they are placed."""

    say: Callable[[float | None], str]
    axis: Callable[..., tuple[alt.Axis, alt.Scale]]
    floor: float
    """A log axis has no place for less: drawn at its edge, printed and shown as it is."""


DURATIONS = Unit(duration, theme.duration_axis, 1)


class Quantiles(NamedTuple):
    """What is drawn: a frame with a ``label`` a group, and its quantile columns, lowest first."""

    what: str
    frame: pl.DataFrame
    columns: Sequence[str]
    groups: Sequence[str]
    notes: list[str]
    unit: Unit = DURATIONS
    target: float | None = None
    beside: Sequence[tuple[str, str]] = ()
    """Columns of text to print beside those of the quantiles, and their headings."""

    @property
    def names(self) -> str:
        """``p50 · p95``."""
        return " · ".join(map(name_of, self.columns))

    @property
    def target_words(self) -> str:
        """``objective 1 min``."""
        return f"objective {self.unit.say(self.target)}"

    def drawn(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, str]]:
        """The frame, and for each quantile the column that has its place on the axis."""
        too_low = [name for name in self.columns if (frame[name] < self.unit.floor).any()]
        places = {name: f"{name}_drawn" if name in too_low else name for name in self.columns}
        return frame.with_columns(
            pl.col(n).clip(lower_bound=self.unit.floor).alias(f"{n}_drawn") for n in too_low
        ), places

    def placed(self, values: list[pl.Series], most: int, **options: Any) -> tuple[alt.Axis, alt.Scale]:
        """The axis that has a place for all values and for the target."""
        extra = [] if self.target is None else [pl.Series([float(self.target)])]
        return self.unit.axis(pl.concat([*(series.cast(pl.Float64) for series in values), *extra]), most, **options)

    def title(self, form: str = "") -> alt.TitleParams:
        """What is drawn and by what, and what there is to note."""
        return theme.title(f"{self.what}{form}{theme.by_words(self.groups)}", *self.notes)


def share_of(column: str) -> float:
    """The share that a quantile column is of.

    >>> share_of("p99_9_ms")
    0.999
    """
    match = _SHARE.match(column)
    return round(float(match[1].replace("_", ".")) / 100, 12) if match else 0.0


def name_of(column: str) -> str:
    """How a quantile column is called.

    >>> name_of("p99_9_ms")
    'p99.9'
    """
    match = _SHARE.match(column)
    return "p" + match[1].replace("_", ".") if match else column


def nearest(columns: Sequence[str], share: float) -> str:
    """The quantile column nearest to a share."""
    return min(columns, key=lambda name: abs(share_of(name) - share))


def ranked(drawn: Quantiles, key: str, most: int) -> pl.DataFrame:
    """The groups with the highest quantiles first and those of few runs last, with their ``rank``."""
    frame, notes = drawn.frame, drawn.notes
    is_small = pl.col("n") < theme.FEW_RUNS
    worst = frame.sort(is_small, key, "n", "label", descending=[False, True, True, False], nulls_last=True)
    if 0 < (n_small := len(frame.filter(is_small))) < len(frame):
        notes.append(f"{plural(n_small, 'group')} of fewer than {theme.FEW_RUNS} runs last")
    worst = worst.head(most)
    if len(worst) < len(frame):
        notes.append(f"highest {len(worst)} of {len(frame):,} groups")
    return worst.with_row_index("rank")


def ladder(drawn: Quantiles) -> alt.TopLevelMixin:
    """A row a group with a mark at each quantile, values beside it, and intervals below where the table has them."""
    worst = ranked(drawn, drawn.columns[-2:][0], theme.MOST_GROUPS)
    say = drawn.unit.say
    worst = worst.with_columns(
        values=pl.Series([" · ".join(say(row[q]) for q in drawn.columns) for row in worst.to_dicts()], dtype=pl.String),
        count=pl.Series([f"n = {n:,}" for n in worst["n"]], dtype=pl.String),
    )
    if not is_known(worst, drawn.columns):
        return _counted(drawn, worst)
    bounds = [f"{name}{end}" for name in drawn.columns for end in ("_low", "_high")]
    bounds = bounds if set(bounds) <= set(worst.columns) else []
    y, step, shown = theme.group_axis(), theme.ROW + (12 if bounds else 0), _slim(drawn, worst)
    texts = [("values", drawn.names, "text"), *((field, words, "text") for field, words in drawn.beside)]
    texts.append(("count", "", theme.QUIET))
    return (
        alt.hconcat(
            _rungs(drawn, worst, bounds).properties(width=430, height=alt.Step(step)),
            *(theme.column(shown, y, field, words, style, step) for field, words, style in texts),
            spacing=10,
        )
        .resolve_scale(y="shared")
        .properties(title=drawn.title())
    )


def is_known(frame: pl.DataFrame, columns: Sequence[str]) -> bool:
    """Whether there is any value to draw."""
    return bool(frame.select(pl.any_horizontal(pl.col(columns).is_not_null().any())).item())


def _counted(drawn: Quantiles, worst: pl.DataFrame) -> alt.TopLevelMixin:
    """Without a value there is no axis to draw: the counts stand alone."""
    said = [f"n = {n:,} · {n_excluded:,} left out" for n, n_excluded in worst.select("n", "n_excluded").rows()]
    shown = worst.select("label", "rank", words=pl.Series(said, dtype=pl.String))
    y = theme.group_axis()
    return theme.column(shown, y, "words").encode(y=y).properties(title=drawn.title())


def _slim(drawn: Quantiles, worst: pl.DataFrame) -> pl.DataFrame:
    frame, places = drawn.drawn(worst)
    texts = ["values", "count", *(field for field, _ in drawn.beside)]
    return frame.select(list(dict.fromkeys(["label", "rank", "n", *drawn.columns, *places.values(), *texts])))


def _rungs(drawn: Quantiles, worst: pl.DataFrame, bounds: list[str]) -> Any:
    frame, at = _slim(drawn, worst), list(drawn.drawn(worst)[1].values())
    positive = [worst[name].filter(worst[name] > 0) for name in bounds]
    axis, scale = drawn.placed(
        [*(frame[name] for name in at), *positive], 8, title=f"{drawn.what.lower()}, log scale", orient="bottom"
    )
    y = theme.group_axis()
    tooltip = [alt.Tooltip("label:N", title="group"), alt.Tooltip("values:N", title=drawn.names)]
    base = alt.Chart(theme.data(frame)).transform_filter("datum.n > 0")
    base = base.encode(y=y, tooltip=[*tooltip, alt.Tooltip("n:Q", format=",")])

    def place(name: str) -> alt.X:
        return alt.X(f"{name}:Q", axis=axis, scale=scale)

    blue: dict[str, Any] = {"color": theme.BLUE, "opacity": 1}
    marks: list[Any] = [
        base.mark_rule(strokeWidth=5, color=theme.BLUE, opacity=0.3).encode(place(at[0]), alt.X2(at[-1]))
    ]
    marks += [base.mark_point(shape="diamond", filled=True, size=70, **blue).encode(place(name)) for name in at[1:-1]]
    if len(at) > 1:
        marks.append(base.mark_tick(thickness=2, size=14, **blue).encode(place(at[-1])))
    marks.append(base.mark_point(shape="circle", filled=True, size=70, **blue).encode(place(at[0])))
    drawn.notes.append(_key(drawn.columns))
    if bounds:
        marks = [*_whiskers(drawn, worst, y, axis, scale), *marks]
    if drawn.target is not None:
        marks += target_rule(drawn, "x", axis, scale)
    return alt.layer(*marks)


def _whiskers(drawn: Quantiles, worst: pl.DataFrame, y: alt.Y, axis: alt.Axis, scale: alt.Scale) -> list[alt.Chart]:
    """The interval of each quantile below its row, dashed to the end of the axis where a bound is not known."""
    first, last = scale.domain
    layers = []
    for index, name in enumerate(drawn.columns):
        low, high = pl.col(f"{name}_low"), pl.col(f"{name}_high")
        rows = worst.filter(low.is_not_null() | high.is_not_null()).select(
            "label",
            "rank",
            low=low.clip(lower_bound=first).fill_null(first),
            high=high.clip(lower_bound=first).fill_null(last),
            is_open=low.is_null() | high.is_null(),
        )
        for is_open in (False, True):
            part = rows.filter(pl.col("is_open") == is_open).drop("is_open")
            if len(part):
                dash: dict[str, Any] = {"strokeDash": [2, 2]} if is_open else {}
                mark = alt.Chart(theme.data(part)).mark_rule(
                    strokeWidth=1.5,
                    color=theme.SLATE,
                    opacity=0.7,
                    yOffset=_WHISKERS_BELOW + _WHISKERS_APART * index,
                    **dash,
                )
                tooltip = [alt.Tooltip("label:N", title=f"interval of {name_of(name)}")]
                layers.append(
                    mark.encode(alt.X("low:Q", axis=axis, scale=scale), alt.X2("high:Q"), y=y, tooltip=tooltip)
                )
    if layers:
        drawn.notes.append("lines below: intervals in the same order, dashed where a bound is not known")
    return layers


def target_rule(
    drawn: Quantiles, channel: str, axis: alt.Axis, scale: alt.Scale, width: int | None = None
) -> list[Any]:
    """A dashed rule at the target: its words above the plot, or at its right end at ``width``, or in the subtitle."""
    base = alt.Chart(theme.data(pl.DataFrame({"target": [float(drawn.target or 0)]})))
    if channel == "x":
        at: dict[str, Any] = {"x": alt.X("target:Q", axis=axis, scale=scale)}
        text = base.mark_text(style=theme.QUIET, baseline="bottom", align="center").encode(**at, y=alt.value(-3))
    else:
        at = {"y": alt.Y("target:Q", axis=axis, scale=scale)}
        text = base.mark_text(style=theme.QUIET, align="left", dx=5).encode(**at, x=alt.value(width or 0))
    rule = base.mark_rule(strokeDash=[4, 3], strokeWidth=1.3, color=theme.ORANGE).encode(**at)
    return [rule, text.encode(text=alt.value(drawn.target_words))]


def bands(drawn: Quantiles, tz: str) -> alt.TopLevelMixin:
    """The quantiles over time, a panel a group, with the space between them filled."""
    if len(drawn.columns) > MOST_LINES:
        few = sorted({nearest(drawn.columns, share) for share in _FEW_LINES}, key=share_of)
        drawn.notes.append(f"{len(few)} of {len(drawn.columns)} quantiles")
        drawn = drawn._replace(columns=few)
    said = "highest {shown} of {all} groups"
    frame, at = drawn.drawn(drawn.frame)
    # Rows with values first: how many rows fit is told from the first of them.
    solid = ["solid"] if "solid" in frame.columns else []
    frame = frame.select(list(dict.fromkeys(["label", "bucket", "n", *solid, *drawn.columns, *at.values()])))
    frame = frame.sort("n", descending=True)
    frame, n_panels = theme.panels(frame, pl.col(drawn.columns[-2:][0]).max(), said, drawn.notes)
    frame = frame.sort("rank", "bucket")
    is_one = n_panels <= 1
    axis, scale = drawn.placed([frame[name] for name in at.values()], 8 if is_one else 5, title=None)
    layers: list[Any] = _lines(drawn, frame, list(at.values()), axis, scale, tz, is_one)
    if is_known(frame, drawn.columns):
        drawn.notes.append(f"lines from below: {drawn.names}; log scale")
    else:
        drawn = drawn._replace(target=None)
        layers = [_counts(frame, tz, is_one)]
    if is_one:
        if drawn.target is not None:
            layers += target_rule(drawn, "y", axis, scale, 680)
        chart = alt.layer(*layers, data=theme.data(frame))
        return chart.properties(width=680, height=260, title=drawn.title(" over time"))
    if drawn.target is not None:
        layers += target_rule(drawn, "y", axis, scale)[:1]
        drawn.notes.append(f"dashed: {drawn.target_words}")
    panels = alt.layer(*layers).properties(width=200, height=110)
    return panels.facet(theme.facet(), data=theme.data(frame), columns=3).properties(title=drawn.title(" over time"))


def _lines(
    drawn: Quantiles, frame: pl.DataFrame, at: list[str], axis: alt.Axis, scale: alt.Scale, tz: str, is_one: bool
) -> list[Any]:
    tooltip = [theme.time_tooltip(tz)]
    tooltip += [alt.Tooltip(f"{name}:Q", title=_title(name), format=",.4~r") for name in drawn.columns]
    base = alt.Chart().encode(
        theme.time_axis(frame["bucket"], tz, most=6 if is_one else 3),
        tooltip=[*tooltip, alt.Tooltip("n:Q", format=",")],
    )

    def place(name: str) -> alt.Y:
        return alt.Y(f"{name}:Q", axis=axis, scale=scale)

    is_doubted = "solid" in frame.columns
    # What is doubted breaks lines, and is a faint point.
    sure = base.transform_calculate(**{name: f"datum.solid ? datum.{name} : null" for name in at} if is_doubted else {})
    points: Any = alt.Undefined if is_doubted else {"size": 14, "color": theme.BLUE}
    layers = [sure.mark_area(color=theme.BLUE, opacity=0.16).encode(place(a), alt.Y2(b)) for a, b in pairwise(at)]
    layers += [
        sure.mark_line(color=theme.BLUE, strokeWidth=1.2 if index else 2, point=points).encode(place(name))
        for index, name in enumerate(at)
    ]
    if is_doubted:
        opacity = alt.condition("datum.solid", alt.value(1), alt.value(0.35))
        layers += [
            base.mark_point(filled=True, color=theme.BLUE, size=14).encode(place(name), opacity=opacity) for name in at
        ]
    return layers


def _counts(frame: pl.DataFrame, tz: str, is_one: bool) -> alt.Chart:
    axis = alt.Axis(title=None, tickMinStep=1, tickCount=5 if is_one else 3)
    base = alt.Chart().mark_line(color=theme.SLATE, interpolate="step-after", point={"size": 14, "color": theme.SLATE})
    return base.encode(
        theme.time_axis(frame["bucket"], tz, most=6 if is_one else 3),
        alt.Y("n:Q", axis=axis, scale=alt.Scale(domain=[0, max([4, *frame["n"]])], nice=True)),
        tooltip=[theme.time_tooltip(tz), alt.Tooltip("n:Q", format=",")],
    )


def _title(column: str) -> str:
    return f"{name_of(column)} (ms)" if column.endswith("_ms") else name_of(column)


def _key(columns: Sequence[str]) -> str:
    inner = [name_of(name) for name in columns[1:-1]]
    parts = [f"circle {name_of(columns[0])}"]
    if inner:
        parts.append(f"diamond{'s' if len(inner) > 1 else ''} {' '.join(inner)}")
    if len(columns) > 1:
        parts.append(f"tick {name_of(columns[-1])}")
    return ", ".join(parts)
