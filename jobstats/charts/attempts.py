"""Attempts drawn: how many runs take one, two and more, and how often each of them succeeds."""

from typing import Any

import altair as alt
import polars as pl

from jobstats.analysis.attempts import ATTEMPTS, COUNTS, MEASURES
from jobstats.charts import theme
from jobstats.wording import percent, plural

_MOST_ATTEMPTS = 12
_MOST_LINES = 5
_DRAWN = ("share", "share_low", "share_high")
_COLOURS = (theme.BLUE, theme.ORANGE, theme.GREEN, theme.PURPLE, theme.BROWN)


def attempts(table: Any, *, tz: str = "UTC") -> alt.TopLevelMixin:
    """The table of :func:`jobstats.attempts` as a chart: a row an attempt, or a line an attempt if it has buckets.

    Groups of which fewest runs succeed at their first attempt come first. Where shares cannot be estimated, the chart
    says so, and shows counts.

    Raises:
        ArgumentError: It is another table, or there is no such time zone.
    """
    frame = theme.drawable(table, [ATTEMPTS, *MEASURES, *COUNTS, "is_estimable"], "attempts", tz)
    known = {ATTEMPTS, *MEASURES, *COUNTS, "is_estimable", "bucket"}
    groups = [name for name in frame.columns if name not in known]
    frame = theme.labelled(frame, groups, "all runs")
    notes = [f"n = {frame['n'].sum():,} ended runs"]
    if unseen := frame["n_open"].sum():
        notes.append(f"{unseen:,} with attempts behind them, end not seen")
    if not frame["is_estimable"].all():
        notes.insert(0, "shares cannot be estimated, completed runs are missing: counts only")
    is_over_time = "bucket" in frame.columns
    most = _MOST_LINES if is_over_time else _MOST_ATTEMPTS
    later = frame.filter(pl.col(ATTEMPTS) > most)
    if n_later := later["n"].sum():
        notes.append(f"{plural(int(n_later), 'run')} of more than {most} attempts not shown")
    frame = frame.filter(pl.col(ATTEMPTS) <= most)
    return _over_time(frame, groups, notes, tz) if is_over_time else _by_group(frame, groups, notes)


def _worst(frame: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """The groups of which fewest succeed at once first, and those of few runs last, with their ``rank``."""
    firsts = frame.filter(pl.col(ATTEMPTS) == 1).with_columns(is_small=pl.col("n_ended") < theme.FEW_RUNS)
    order = firsts.sort(
        "is_small", "success_rate", "n_ended", "label", descending=[False, False, True, False], nulls_last=True
    )
    if len(order) > theme.MOST_PANELS:
        notes.append(f"worst {theme.MOST_PANELS} of {len(order):,} groups by success at the first attempt")
    ranks = order["label"].head(theme.MOST_PANELS).to_frame().with_row_index("rank")
    return frame.join(ranks, on="label").sort("rank", ATTEMPTS)


def _by_group(frame: pl.DataFrame, groups: list[str], notes: list[str]) -> alt.TopLevelMixin:
    is_estimable = bool(frame["is_estimable"].all())
    frame = _worst(frame, notes)
    is_one = frame["label"].n_unique() <= 1
    said = [_words(row, is_one) for row in frame.to_dicts()]
    fields = [*_DRAWN, "success_rate", "success_rate_low", "success_rate_high"]
    frame = frame.select(
        "label",
        "rank",
        ATTEMPTS,
        "n",
        "n_reached",
        *(fields if is_estimable else []),
        words=pl.Series(said, dtype=pl.String),
    )
    y = alt.Y(f"{ATTEMPTS}:O", title=None, axis=alt.Axis(domain=False, ticks=False, labelExpr=_ORDINAL, grid=False))
    base = alt.Chart().encode(y, tooltip=_tooltip(is_estimable))
    width, height = (400, 26) if is_one else (115, 18)
    if is_estimable:
        axis = alt.Axis(format="%", title=None, values=[0, 0.25, 0.5, 0.75, 1] if is_one else [0, 0.5, 1])
        scale = alt.Scale(domain=[0, 1])
        place = {"x": alt.X("share:Q", axis=axis, scale=scale)}
        bounds = {"x": alt.X("share_low:Q", axis=axis, scale=scale), "x2": alt.X2("share_high:Q")}
        notes.append("bar: share of ended runs with its interval")
        notes.append("beside: success rate, of those that got to the attempt")
    else:
        place = {"x": alt.X("n:Q", axis=alt.Axis(format="~s", title=None, tickMinStep=1, tickCount=3))}
        bounds = {}
    layers: list[Any] = [base.mark_bar(color=theme.BLUE, opacity=0.4, height=height * 0.55).encode(**place)]
    if bounds:
        layers.append(base.mark_rule(color=theme.BLUE, strokeWidth=2).encode(**bounds))
    text = base.mark_text(align="left", dx=8, style="text" if is_one else theme.QUIET)
    layers.append(text.encode(x=alt.value(width), text="words:N"))
    title = theme.title(f"Attempts of runs{theme.by_words(groups)}", *notes)
    panel = alt.layer(*layers).properties(width=width, height=alt.Step(height))
    if is_one:
        return panel.properties(data=theme.data(frame), title=title)
    header = alt.Header(labelAnchor="start", labelLimit=190)
    facet = panel.facet(
        theme.facet(header=header), data=theme.data(frame), columns=3, spacing={"column": 12, "row": 14}
    )
    return facet.properties(title=title)


_ORDINAL = "datum.value == 1 ? '1 attempt' : datum.value"


def _words(row: dict[str, Any], is_one: bool) -> str:
    if not row["is_estimable"]:
        return f"{row['n']:,} ended, {row['n_open']:,} not seen to" if is_one else f"{row['n']:,}"
    rate = percent(row["success_rate"])
    if not is_one:
        return f"{rate} of {row['n_reached']:,}"
    low, high = (percent(row[f"success_rate_{end}"]).removesuffix(" %") for end in ("low", "high"))
    return f"{percent(row['share'])}, {row['n']:,} runs · success {rate} ({low} to {high}) of {row['n_reached']:,}"


def _tooltip(is_estimable: bool) -> list[alt.Tooltip]:
    rates = [*_DRAWN, "success_rate", "success_rate_low", "success_rate_high"] if is_estimable else []
    return [
        alt.Tooltip("label:N", title="group"),
        alt.Tooltip(f"{ATTEMPTS}:O"),
        *(alt.Tooltip(f"{name}:Q", title=name.replace("_", " "), format=".1%") for name in rates),
        alt.Tooltip("n:Q", title="runs", format=","),
        alt.Tooltip("n_reached:Q", title="got to it", format=","),
    ]


def _over_time(frame: pl.DataFrame, groups: list[str], notes: list[str], tz: str) -> alt.TopLevelMixin:
    is_estimable = bool(frame["is_estimable"].all())
    words = frame[ATTEMPTS].cast(pl.String).alias("words")
    if is_estimable:
        n_open = pl.col("n_open").sum().over("label", "bucket")
        unsettled = theme.many_are_open(pl.col("n_ended"), n_open)
        if n_unsettled := len(frame.filter(unsettled).unique(["label", "bucket"])):
            notes.append(f"{plural(n_unsettled, 'window')} left open, many runs had not ended")
        frame = frame.with_columns(pl.when(~unsettled).then(pl.col(name)).alias(name) for name in _DRAWN)
    frame = frame.select("label", "bucket", ATTEMPTS, "n", "n_ended", *(_DRAWN if is_estimable else ())).with_columns(
        words
    )
    n_lines = max(1, frame[ATTEMPTS].n_unique())
    later = pl.col("n").filter(pl.col(ATTEMPTS) > 1).sum()
    frame, n_panels = theme.panels(
        frame, later, "{shown} of {all} groups, those with most later attempts", notes, n_lines
    )
    frame = frame.sort("rank", ATTEMPTS, "bucket")
    is_one = n_panels <= 1
    axis = alt.Axis(
        format="%" if is_estimable else ",d",
        title=None,
        tickCount=5 if is_one else 3,
        tickMinStep=0.01 if is_estimable else 1,
    )
    domain = [str(n + 1) for n in range(n_lines)]
    colour = alt.Color(
        "words:N", scale=alt.Scale(domain=domain, range=list(_COLOURS[:n_lines])), legend=alt.Legend(title="attempts")
    )
    tooltip = [
        theme.time_tooltip(tz),
        alt.Tooltip("words:N", title="attempts"),
        *(
            alt.Tooltip(f"{name}:Q", title=name.replace("_", " "), format=".1%")
            for name in (_DRAWN if is_estimable else ())
        ),
        alt.Tooltip("n:Q", title="runs", format=","),
        alt.Tooltip("n_ended:Q", title="of", format=","),
    ]
    base = alt.Chart().encode(
        theme.time_axis(frame["bucket"], tz, most=6 if is_one else 3), color=colour, tooltip=tooltip
    )
    field = "share:Q" if is_estimable else "n:Q"
    layers: list[Any] = [base.mark_line(point={"size": 16}, strokeWidth=1.5).encode(alt.Y(field, axis=axis))]
    if is_estimable:
        layers.insert(0, base.mark_area(opacity=0.15).encode(alt.Y("share_low:Q", axis=axis), alt.Y2("share_high:Q")))
        notes.append("share of ended runs that took so many; band: interval")
    title = theme.title(f"Attempts of runs over time{theme.by_words(groups)}", *notes)
    if is_one:
        return alt.layer(*layers, data=theme.data(frame)).properties(width=680, height=240, title=title)
    panels = alt.layer(*layers).properties(width=200, height=100)
    return panels.facet(theme.facet(), data=theme.data(frame), columns=3).properties(title=title)
