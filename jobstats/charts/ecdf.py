"""Distributions drawn: for each group the share of its runs that are no longer than so much, before all the others."""

from math import ceil

import altair as alt
import polars as pl

from jobstats.charts import theme
from jobstats.charts.quantiles import Quantiles, name_of, nearest, ranked, share_of, target_rule
from jobstats.wording import plural

_KEY = 0.95
_BEHIND = ("rank", "share", "value")


def ecdf(drawn: Quantiles) -> alt.TopLevelMixin:
    """The quantiles as cumulative distributions: one large, or a panel a group with those of the others in grey."""
    key = nearest(drawn.columns, _KEY)
    is_known = drawn.frame.filter(pl.any_horizontal(pl.col(drawn.columns).is_not_null()))
    if 0 < len(is_known) < len(drawn.frame):
        drawn.notes.append(f"{plural(len(drawn.frame) - len(is_known), 'group')} without a value not shown")
    worst = ranked(drawn._replace(frame=is_known, notes=[]), key, theme.MOST_GROUPS)
    n_panels = min(len(worst), theme.MOST_PANELS)
    if n_panels < len(is_known):
        drawn.notes.append(f"highest {n_panels} of {len(is_known):,} groups")
    lines = _fitted(drawn, worst, n_panels)
    axis, scale = drawn.placed([lines["value"]], 8 if n_panels <= 1 else 4, title=None)
    words = worst.head(n_panels).select("label", "rank", "n", value=key)
    said = [f"{name_of(key)} {drawn.unit.say(value)} · n = {n:,}" for value, n in words.select("value", "n").rows()]
    words = words.with_columns(words=pl.Series(said, dtype=pl.String))
    drawn.notes.append("share of runs at most so long; log scale")
    if n_panels <= 1:
        return _large(drawn, lines, axis, scale)
    return _panels(drawn, lines, words, axis, scale)


def _fitted(drawn: Quantiles, worst: pl.DataFrame, n_panels: int) -> pl.DataFrame:
    """A row a group and quantile, as many as a chart can hold: of panels first, and of other groups what then fits."""
    columns = list(drawn.columns)
    long = _long(drawn, worst, columns)
    # Those in panels are held twice: in their own, and behind the others.
    of_panels, behind = theme.most_rows(long), theme.most_rows(long.select(_BEHIND))
    taken = n_panels * len(columns) * (1 / of_panels + 1 / behind)
    if (step := ceil(taken)) > 1:
        columns = sorted({*columns[::step], columns[-1]}, key=share_of)
        drawn.notes.append(f"{len(columns)} of {len(drawn.columns)} quantiles")
        taken = n_panels * len(columns) * (1 / of_panels + 1 / behind)
    n_more = int((1 - taken) * behind / len(columns))
    return _long(drawn, worst.head(n_panels + max(0, n_more)), columns)


def _long(drawn: Quantiles, frame: pl.DataFrame, columns: list[str]) -> pl.DataFrame:
    shares = pl.DataFrame({"name": columns, "share": [share_of(name) for name in columns]})
    long = frame.unpivot(columns, index=["label", "rank"], variable_name="name", value_name="value")
    return (
        long.join(shares, on="name")
        .drop_nulls("value")
        .with_columns(pl.col("value").clip(lower_bound=drawn.unit.floor))
        .sort("rank", "share")
        .select("label", "rank", "share", "value")
    )


def _line(
    axis: alt.Axis,
    scale: alt.Scale,
    most: int,
    data: alt.InlineData | alt.utils.schemapi.UndefinedType,
) -> alt.Chart:
    shares = alt.Axis(format="%", title=None, values=[0, 0.25, 0.5, 0.75, 1] if most > 3 else [0, 0.5, 1])
    return alt.Chart(data).encode(
        alt.X("value:Q", axis=axis, scale=scale),
        alt.Y("share:Q", axis=shares, scale=alt.Scale(domain=[0, 1])),
        order=alt.Order("share:Q"),
    )


_TOOLTIP = [
    alt.Tooltip("label:N", title="group"),
    alt.Tooltip("share:Q", title="share of runs", format=".1%"),
    alt.Tooltip("value:Q", title="at most (ms)", format=",.0f"),
]


def _large(drawn: Quantiles, lines: pl.DataFrame, axis: alt.Axis, scale: alt.Scale) -> alt.TopLevelMixin:
    base = _line(axis, scale, 5, theme.data(lines))
    line = base.mark_line(color=theme.BLUE, strokeWidth=2.5, point={"size": 12, "color": theme.BLUE}).encode(
        tooltip=_TOOLTIP
    )
    layers = [line, *(target_rule(drawn, "x", axis, scale) if drawn.target is not None else [])]
    return alt.layer(*layers).properties(width=680, height=260, title=drawn.title(": how long, and of how many"))


def _panels(
    drawn: Quantiles, lines: pl.DataFrame, words: pl.DataFrame, axis: alt.Axis, scale: alt.Scale
) -> alt.TopLevelMixin:
    shown = lines.filter(pl.col("rank") < len(words))
    said = shown.join(words.select("label", "words"), on="label").filter(
        pl.col("share") == pl.col("share").max().over("label")
    )
    behind = _line(axis, scale, 3, theme.data(lines.select(_BEHIND)))
    layers = [
        behind.mark_line(color=theme.SLATE, strokeWidth=0.8, opacity=0.45).encode(detail="rank:N"),
        _line(axis, scale, 3, alt.Undefined).mark_line(color=theme.BLUE, strokeWidth=2.5).encode(tooltip=_TOOLTIP),
    ]
    if drawn.target is not None:
        layers += target_rule(drawn, "x", axis, scale)[:1]
        drawn.notes.append(f"dashed: {drawn.target_words}")
    n_behind = lines["label"].n_unique()
    drawn.notes.append("grey: all groups" if n_behind == len(drawn.frame) else f"grey: the highest {n_behind:,} groups")
    rows = shown.join(said.select("label", "share", "words"), on=["label", "share"], how="left", maintain_order="left")
    text = alt.Chart().transform_filter("datum.words").mark_text(style=theme.QUIET, align="left", baseline="bottom")
    layers.append(text.encode(x=alt.value(0), y=alt.value(-4), text="words:N"))
    panels = alt.layer(*layers).properties(width=200, height=95)
    header = alt.Header(labelAnchor="start", labelPadding=4, labelLimit=200)
    return panels.facet(theme.facet(header=header), data=theme.data(rows), columns=3).properties(title=drawn.title())
