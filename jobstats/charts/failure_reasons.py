"""Failure reasons drawn: the most frequent as bars, or each over time."""

from typing import Any

import altair as alt
import polars as pl

from jobstats.analysis.failure_reasons import CHANGES, COUNTS, SEEN, TEXTS
from jobstats.charts import theme, verdicts
from jobstats.charts.verdicts import Look
from jobstats.wording import percent, plural

_NEEDED = ("cause", "category", "share", *COUNTS, *SEEN, *TEXTS)
_MOST_BARS = 15
_LOOKS = {
    "new": Look("new", theme.RED, "diamond"),
    "rising": Look("rising", theme.ORANGE, "triangle-up"),
    "burst": Look("burst", theme.PURPLE, "square"),
    "steady": Look("steady", theme.SLATE),
    "unclear": Look("unclear", theme.SLATE, is_filled=False),
    "few": Look("too few to tell", theme.SLATE, is_filled=False),
    "falling": Look("falling", theme.GREEN, "triangle-down"),
    "vanished": Look("vanished", theme.GREEN, "cross"),
}
_CHANGED = ("new", "rising", "burst", "falling", "vanished")


def failure_reasons(table: Any, *, tz: str = "UTC") -> alt.TopLevelMixin:
    """The table of :func:`jobstats.failure_reasons` as a chart: most failures first, or over time if it has buckets.

    Raises:
        ArgumentError: It is another table, or there is no such time zone.
    """
    frame = theme.drawable(table, _NEEDED, "failure_reasons", tz)
    groups = [name for name in frame.columns if name not in (*_NEEDED, *CHANGES, "bucket")]
    frame = theme.labelled(frame, [*groups, "cause"], "")
    notes = [f"n = {frame['n'].sum():,} failed runs by their last error"]
    if recovered := frame["n_recovered"].sum():
        notes.append(f"{recovered:,} completed runs met an error first")
    return _over_time(frame, groups, notes, tz) if "bucket" in frame.columns else _bars(frame, groups, notes)


def _bars(frame: pl.DataFrame, groups: list[str], notes: list[str]) -> alt.TopLevelMixin:
    is_compared = "change" in frame.columns
    failed = frame.filter((pl.col("n") > 0) | (pl.col("change") == "vanished") if is_compared else pl.col("n") > 0)
    if 0 < len(failed) < len(frame):
        notes.append(f"{plural(len(frame) - len(failed), 'more cause')} without failed runs")
    ranked = (_ranked if is_compared else _by_count)(failed if len(failed) else frame)
    shown = ranked.head(_MOST_BARS)
    if is_compared and len(told := shown.filter(pl.col("change").is_not_null())):
        notes.append(f"against the time before: {verdicts.said(told, _LOOKS, 'change')}")
    if len(shown) < len(ranked):
        notes.append(f"first {len(shown)} of {len(ranked):,} causes")
    shown = _told(shown.with_row_index("rank"), bool(groups))
    bars = _counts(shown)
    if is_compared:
        bars = alt.hconcat(bars, _changes(shown), spacing=12).resolve_scale(y="shared")
    return bars.properties(title=theme.title(f"Why runs failed{theme.by_words(groups)}", *notes))


def _by_count(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.sort("n", "n_recovered", "label", descending=[True, True, False])


def _ranked(frame: pl.DataFrame) -> pl.DataFrame:
    """Of as many failures the new cause first."""
    places = {name: place for place, name in enumerate(_LOOKS)}
    order = pl.col("change").replace_strict(places, default=None)
    return frame.sort(
        "n", order, "n_recovered", "n_before", "label", descending=[True, False, True, True, False], nulls_last=True
    )


def _told(shown: pl.DataFrame, is_grouped: bool) -> pl.DataFrame:
    # Runs that recovered have completed, so where one is not known nothing is known of them.
    has_recovered = bool(shown["n_recovered"].sum())
    words, so_far = [], 0.0
    for row in shown.iter_rows(named=True):
        so_far += row["share"] or 0.0
        # Shares are of a group; only those of one group add up.
        share = percent(row["share"]) + ("" if is_grouped else f", together {percent(so_far)}")
        said = [f"{row['n']:,} ({share})" if row["n"] else "0"]
        said += [f"{row['n_recovered']:,} recovered"] * has_recovered
        said += [plural(row["n_connectors"], "connector"), plural(row["n_orgs"], "org")] if row["n"] else []
        words.append(" · ".join(said))
    return shown.with_columns(values=pl.Series(words, dtype=pl.String))


def _counts(shown: pl.DataFrame) -> Any:
    y = theme.group_axis()
    drawn = shown.select("rank", "label", "category", "n", "n_recovered", "n_orgs", "values")
    base = alt.Chart(theme.data(drawn)).encode(
        y,
        tooltip=[
            alt.Tooltip("label:N", title="cause"),
            alt.Tooltip("category:N"),
            alt.Tooltip("n:Q", title="failed runs", format=","),
            alt.Tooltip("n_recovered:Q", title="recovered", format=","),
            alt.Tooltip("n_orgs:Q", title="organisations", format=","),
        ],
    )
    scale = alt.Scale(domain=[0, max([1, *shown["n"]])], nice=False)
    x = alt.X("n:Q", axis=None, scale=scale)
    bars = base.mark_bar(color=theme.BLUE, height=15).encode(x)
    text = base.mark_text(align="left", dx=5, style=theme.QUIET).encode(x, text="values:N")
    return alt.layer(bars, text).properties(width=300, height=alt.Step(24))


def _changes(shown: pl.DataFrame) -> Any:
    """What became of each cause since the time before, in a word."""
    words = []
    for row in shown.iter_rows(named=True):
        said = _LOOKS[row["change"]].word if row["change"] else "–"
        if row["change"] in _CHANGED and row["ratio"]:
            said += f", {row['ratio']:.2g}x" if row["ratio"] < 10 else f", {row['ratio']:,.0f}x"
        words.append(f"{said} ({row['n_before']:,} before)")
    told = shown.with_columns(word=pl.Series(words, dtype=pl.String))
    return verdicts.column(told, theme.group_axis(), _LOOKS, "change")


def _over_time(frame: pl.DataFrame, groups: list[str], notes: list[str], tz: str) -> alt.TopLevelMixin:
    buckets = frame["bucket"].unique().sort()
    frame, n_panels = theme.panels(
        frame.select("label", "bucket", "n"), pl.col("n").sum(), "first {shown} of {all} causes", notes
    )
    frame = frame.sort("rank", "bucket")
    every = (buckets[1] - buckets[0]).total_seconds() * 1000 if len(buckets) > 1 else 1_000
    notes.append("one scale for all")
    axis = alt.Axis(tickMinStep=1, tickCount=3, format=",d", domain=False, ticks=False)
    chart = (
        alt.Chart(theme.data(frame))
        # Windows without a failure have a row of 0, so that gaps between bars are silence and not missing data.
        .transform_calculate(end=f"datum.bucket + {every:.0f}")
        .mark_rect(color=theme.BLUE)
        .encode(
            theme.time_axis(frame["bucket"], tz, most=3),
            alt.X2("end"),
            alt.Y("n:Q", title=None, axis=axis, scale=alt.Scale(domainMin=0)),
            alt.Y2(datum=0),
            tooltip=[
                alt.Tooltip("label:N", title="cause"),
                theme.time_tooltip(tz),
                alt.Tooltip("n:Q", title="failed runs", format=","),
            ],
        )
        .properties(width=200, height=80)
    )
    title = theme.title(f"Why runs failed over time{theme.by_words(groups)}", *notes)
    return chart.facet(theme.facet(header=alt.Header(labelLimit=210)), columns=theme.columns(n_panels)).properties(
        title=title
    )
