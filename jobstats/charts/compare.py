"""Two windows or groups drawn side by side: before hollow, after filled, and what surely changed in words."""

import re
from typing import Any

import altair as alt
import polars as pl

from jobstats.analysis.compare import MEASURES
from jobstats.charts import theme, verdicts
from jobstats.charts.verdicts import Look
from jobstats.wording import duration, plural

_LOOKS = {
    "worse": Look("worse", theme.RED, "triangle-up"),
    "better": Look("better", theme.GREEN, "triangle-down"),
    "unclear": Look("no clear change", theme.SLATE),
    "same": Look("much the same", theme.SLATE),
    "few": Look("too few to tell", theme.SLATE),
}
_QUANTILE = re.compile(r"(\w+)_p(\d+)(?:_(\d+))?_ms")


def compare(table: Any, *, tz: str = "UTC") -> alt.TopLevelMixin:
    """The table of :func:`jobstats.compare` as a chart: durations above, rates below, what is most certain first.

    Of several groups the rows are in one order, so that what changed in any of them is on top.

    Raises:
        ArgumentError: It is another table, or there is no such time zone.
    """
    frame = theme.drawable(table, MEASURES, "compare", tz)
    groups = [name for name in frame.columns if name not in MEASURES]
    notes = [f"n = {_most(frame, groups, 'n_before')} runs before and {_most(frame, groups, 'n_after')} after"]
    judged = frame.filter(pl.col("before").is_not_null() | pl.col("after").is_not_null())
    judged = judged.filter(pl.col("verdict") != "not estimable")
    if len(judged):
        notes.append(verdicts.said(judged, _LOOKS))
    if unseen := len(frame.filter(pl.col("verdict") == "not estimable")):
        notes.append(f"{plural(unseen, 'measure')} cannot be estimated, completed runs are missing")
    if unmeasured := len(frame) - len(judged) - unseen:
        notes.append(f"{plural(unmeasured, 'measure')} of no runs left out")
    if groups:
        size = pl.col("effect").abs()
        judged = judged.sort("q_value", size, descending=[False, True], nulls_last=True, maintain_order=True)
    shown = judged.head(theme.MOST_GROUPS)
    if len(shown) < len(judged):
        notes.append(f"first {len(shown)} of {len(judged):,} measures, the most certain changes first")
    notes.append("hollow: before, filled: after; bar: interval of the change, counted from before")
    told = _told(_named(shown, groups))
    widths = {name: theme.text_width(told[name]) for name in ("word", "levels", "values", "counts")}
    parts = [_panel(part, is_time, widths) for is_time, part in _parts(told) if len(part)]
    title = theme.title(f"What changed{theme.by_words(groups)}", *notes)
    if not parts:
        empty = alt.Chart(theme.data(pl.DataFrame(schema={"label": pl.String}))).mark_point()
        return empty.encode(alt.Y("label:N", title=None)).properties(title=title)
    return alt.vconcat(*parts, spacing=24).resolve_scale(color="shared").properties(title=title)


def _most(frame: pl.DataFrame, groups: list[str], count: str) -> str:
    """Each measure counts the runs in which it is known: the most of any of them."""
    of_group = frame.group_by(groups).agg(pl.col(count).max()) if groups else frame.select(pl.col(count).max())
    return f"{of_group[count].sum():,}"


def _named(shown: pl.DataFrame, groups: list[str]) -> pl.DataFrame:
    names = [_name(row["measure"], row["cause"]) for row in shown.iter_rows(named=True)]
    named = shown.with_columns(pl.Series("_name", names, dtype=pl.String))
    keep = named.select("measure", "cause")
    return theme.labelled(named.drop("measure", "cause"), [*groups, "_name"], "").hstack(keep)


def _name(measure: str, cause: str | None) -> str:
    if match := _QUANTILE.fullmatch(measure):
        words = {"queue_latency": "wait", "processing": "run time"}.get(match[1], match[1].replace("_", " "))
        return f"{words} p{match[2]}" + (f".{match[3]}" if match[3] else "")
    if measure == "cause_rate":
        return f"failed: {cause}"
    return {"failure_rate": "failed", "retry_rate": "retried"}.get(measure, measure.replace("_", " "))


def _parts(named: pl.DataFrame) -> list[tuple[bool, pl.DataFrame]]:
    is_time = pl.col("measure").str.ends_with("_ms")
    return [(True, named.filter(is_time)), (False, named.filter(~is_time))]


def _told(named: pl.DataFrame) -> pl.DataFrame:
    """With what is said beside the marks."""
    rows = named.to_dicts()
    is_time = [row["measure"].endswith("_ms") for row in rows]
    return named.with_columns(
        word=pl.col("verdict").replace_strict({name: look.word for name, look in _LOOKS.items()}, default=None),
        levels=pl.Series(list(map(_levels, rows, is_time)), dtype=pl.String),
        values=pl.Series(list(map(_change, rows, is_time)), dtype=pl.String),
        counts=pl.Series([f"n = {row['n_before']:,} and {row['n_after']:,}" for row in rows], dtype=pl.String),
    )


def _panel(part: pl.DataFrame, is_time: bool, widths: dict[str, int]) -> alt.HConcatChart:
    part = part.with_row_index("rank")
    y = theme.group_axis()
    # The columns of both panels stand below each other.
    return alt.hconcat(
        _dumbbells(part, y, is_time),
        verdicts.column(part, y, _LOOKS).properties(width=16 + widths["word"]),
        theme.column(part, y, "levels").properties(width=widths["levels"]),
        theme.column(part, y, "values").properties(width=widths["values"]),
        theme.column(part, y, "counts", style=theme.QUIET).properties(width=widths["counts"]),
        spacing=12,
        bounds="flush",
    ).resolve_scale(y="shared")


def _dumbbells(part: pl.DataFrame, y: alt.Y, is_time: bool) -> Any:
    ends = {"from": pl.col("before") + pl.col("change_low"), "to": pl.col("before") + pl.col("change_high")}
    drawn = part.select("label", "rank", "verdict", "before", "after", "levels", "values", **ends)
    floor = 1.0 if is_time else 0.0
    drawn = drawn.with_columns(pl.col("before", "after", "from", "to").clip(lower_bound=floor))
    known = pl.concat([drawn["before"], drawn["after"]]).drop_nulls()
    if is_time:
        axis, scale = theme.duration_axis(
            pl.concat([known, drawn["to"].drop_nulls()]), 7, title="log scale", orient="bottom"
        )
    else:
        axis = alt.Axis(format="~%", title="share of ended runs", tickCount=6, orient="bottom")
        high = max([0.01, *known, *drawn["to"].drop_nulls()])
        scale = alt.Scale(domain=[0, min(1.0, high * 1.03)], nice=False, clamp=True)
    tooltip = [
        alt.Tooltip("label:N", title="measure"),
        alt.Tooltip("levels:N", title="before and after"),
        alt.Tooltip("values:N", title="change"),
    ]
    base = alt.Chart(theme.data(drawn)).encode(y, tooltip=tooltip, color=verdicts.colour(_LOOKS))

    def place(name: str) -> alt.X:
        return alt.X(f"{name}:Q", axis=axis, scale=scale)

    both = base.transform_filter("isValid(datum.before) && isValid(datum.after)")
    intervals = base.transform_filter("isValid(datum.from)").mark_rule(strokeWidth=9, opacity=0.25)
    return alt.layer(
        intervals.encode(place("from"), alt.X2("to:Q")),
        both.mark_rule(strokeWidth=2).encode(place("before"), alt.X2("after:Q")),
        base.transform_filter("isValid(datum.before)")
        .mark_point(filled=False, size=70, strokeWidth=2, opacity=1)
        .encode(place("before")),
        base.transform_filter("isValid(datum.after)")
        .mark_point(filled=True, size=85, opacity=1)
        .encode(place("after")),
    ).properties(width=330, height=alt.Step(24))


def _levels(row: dict[str, Any], is_time: bool) -> str:
    """``1.2 s to 1.9 s``."""
    before, after = (duration(row[name]) if is_time else _share(row[name]) for name in ("before", "after"))
    return f"{before} to {after}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value * 100:.3g} %"


def _change(row: dict[str, Any], is_time: bool) -> str:
    """``x1.55, +0.8 s to +2.1 s`` or ``+2.1 points (+0.3 to +4)``."""
    if row["change"] is None:
        return ""
    low, high = row["change_low"], row["change_high"]
    if is_time:
        said = "" if row["ratio"] is None else f"x{row['ratio']:.2f}" if row["ratio"] < 10 else f"x{row['ratio']:,.0f}"
        if low is None:
            return said or _signed_length(row["change"])
        return ", ".join(filter(None, [said, f"{_signed_length(low)} to {_signed_length(high)}"]))
    said = f"{row['change'] * 100:+.2g} points"
    return said if low is None else f"{said} ({low * 100:+.2g} to {high * 100:+.2g})"


def _signed_length(milliseconds: float) -> str:
    return ("+" if milliseconds > 0 else "") + duration(milliseconds)
