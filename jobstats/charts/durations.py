"""What the charts of lengths of time share: which form a table of theirs is drawn in, and what is said of it."""

import re
from typing import Any, NamedTuple

import altair as alt
import polars as pl

from jobstats.analysis.durations import Lengths
from jobstats.charts import theme
from jobstats.charts.ecdf import ecdf
from jobstats.charts.heat import CLOCK, heat_of_durations
from jobstats.charts.quantiles import MOST_LINES, Quantiles, bands, is_known, ladder, share_of
from jobstats.errors import ArgumentError
from jobstats.wording import plural

_QUANTILE = re.compile(r"p\d+(?:_\d+)?_ms")


class Kind(NamedTuple):
    """Which lengths, and the words for them."""

    function: str
    what: str
    lengths: Lengths
    known: str
    """What the runs counted are."""
    open: str
    """What those still going on do."""


def drawn(table: Any, kind: Kind, tz: str, target_ms: float | None) -> alt.TopLevelMixin:
    """A table of lengths as a ladder, as bands, as distributions or as a heat map."""
    counts = ("max_ms", "n", "n_excluded", kind.lengths.open[0])
    needed = (*counts, *(("is_estimable",) if kind.lengths.to_end else ()))
    frame = theme.drawable(table, needed, kind.function, tz)
    columns = sorted((name for name in frame.columns if _QUANTILE.fullmatch(name)), key=share_of)
    if not columns:
        raise ArgumentError(f"expected the table of {kind.function} with at least one quantile")
    if target_ms is not None and not target_ms > 0:
        raise ArgumentError(f"target_ms is a number above 0, found {target_ms!r}")
    # A censored table has the bounds of each quantile beside it.
    bounds = {f"{name}{end}" for name in columns for end in ("_low", "_high")}
    known = {"bucket", *kind.lengths.last, *columns, *bounds}
    groups = [name for name in frame.columns if name not in known]
    notes = _notes(frame, kind)
    if sorted(groups) == sorted(CLOCK) and "bucket" not in frame.columns:
        return heat_of_durations(frame, columns[-2:][0], kind.what, notes)
    frame = theme.labelled(frame, groups, "all runs")
    asked = Quantiles(kind.what, frame, columns, groups, notes, target=target_ms)
    if "bucket" in frame.columns:
        return bands(asked._replace(frame=_doubted(frame, kind, notes)), tz)
    is_distribution = len(columns) > MOST_LINES and is_known(frame, columns)
    return ecdf(asked) if is_distribution else ladder(asked)


def _doubted(frame: pl.DataFrame, kind: Kind, notes: list[str]) -> pl.DataFrame:
    """With ``solid``, 0 for windows whose quantiles say less than they seem to, unless most do."""
    n = pl.col("n")
    is_few, is_low = n < theme.FEW_RUNS, theme.many_are_open(n, pl.col(kind.lengths.open[0]))
    known = frame.filter(n > 0)
    n_few, n_low = known.filter(is_few).height, known.filter(~is_few, is_low).height
    if n_few:
        notes.append(f"{plural(n_few, 'window')} of fewer than {theme.FEW_RUNS} runs")
    if n_low:
        notes.append(f"{plural(n_low, 'window')} too low, as many are {kind.open}")
    if not n_few + n_low or n_few + n_low > len(known) / 2:
        return frame
    notes[-1] += ": faint"
    return frame.with_columns(solid=(~(is_few | is_low)).cast(pl.Int8))


def _notes(frame: pl.DataFrame, kind: Kind) -> list[str]:
    notes = [f"n = {frame['n'].sum():,} {kind.known}"]
    if excluded := frame["n_excluded"].sum():
        notes.append(f"{excluded:,} left out")
    if still := frame[kind.lengths.open[0]].sum():
        notes.append(f"{still:,} {kind.open}")
    if kind.lengths.to_end and not frame["is_estimable"].all():
        notes.insert(0, f"{kind.what.lower()} cannot be estimated, completed runs are missing: counts only")
    return notes
