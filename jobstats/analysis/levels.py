"""How many runs are in a place at a time: the arithmetic of backlog and concurrency.

A run is there over a half-open span of time, from the millisecond it enters to the one it leaves. Levels are exact:
events are counted, nothing is sampled.

* *Mean.* The area under the level in a window, divided by its length, needs no order: to what was there at the start
  each entry adds the rest of the window, and each leave takes the rest away.
* *Maximum.* A level peaks at the start of a window or right after an entry, so the events are put in order, at one
  millisecond leaves before entries. Group and time are packed into one number, which sorts several times as fast.

What the data cover begins with the first entry and ends with the newest thing they hold. A run that was seen in the
newest observation is there to that end; any other only to its own last one, and how it left is not known.

The engine picks the runs and the few instants that matter, some 40 bytes a run. The rest is done in Polars: putting
twenty million runs in order takes seconds there, and several times as long as a query over windows in DuckDB.
"""

from datetime import datetime, timedelta
from typing import Any, NamedTuple

import narwhals as nw
import polars as pl

from jobstats.analysis.asking import (
    BUCKET,
    SEEN_AT,
    Asked,
    By,
    answered,
    ask,
    check_size,
    collected,
    flags,
    opened,
    origin_ms,
)
from jobstats.moments import EPOCH, LAST_MS, Moment, epoch_ms, window

_UNKNOWN, _LEFT, _OPEN = 0, 1, 2
"""What ends a span: it is not known where it lies, an event ends it, or the last observation does."""
_NO_CLOCK = "a run is there from one hour to another; ask for every='1h'"
_LAST_INT64 = 2**63 - 1
_IS_LEFT, _IS_OPEN, _COUNTED = pl.col("_how") == _LEFT, pl.col("_how") == _OPEN, pl.col("_how") != _UNKNOWN


class Place(NamedTuple):
    """Where runs are, and how it is known from when to when."""

    name: str
    where: Any
    """Which runs there are to tell of."""
    is_known: Any
    """It is known when they entered, and when they left."""
    is_open: Any
    """It is known when they entered, and they were there when last seen."""
    entered_at: str
    left_at: str
    oldest: str
    at: list[str]
    """A run that is neither is counted at the first of these times that is known."""
    n_entered: str
    n_left: str
    marks: dict[str, Any]
    """Which of those that entered each further count is of."""

    @property
    def levels(self) -> list[str]:
        """The columns of the level."""
        return [f"max_{self.name}", f"mean_{self.name}", f"{self.name}_at_start", f"{self.name}_at_end"]

    @property
    def counts(self) -> list[str]:
        """The columns of what happened."""
        return [self.n_entered, self.n_left, *self.marks, "n_unseen", "n_unknown"]


class Stretch(NamedTuple):
    """The milliseconds [first, last) that are asked for and covered, in ``n`` windows of ``every_ms`` from ``zero``."""

    first: int
    last: int
    zero: int
    every_ms: int
    n: int

    @classmethod
    def of(cls, first: int, last: int, every_ms: int | None) -> "Stretch":
        """The same without ``every_ms`` is one window."""
        if first >= last or every_ms is None:
            return cls(first, last, first, max(last - first, 1), 1)
        origin = origin_ms(every_ms)
        numbers = [(at - origin) // every_ms for at in (first, last - 1)]
        return cls(first, last, numbers[0] * every_ms + origin, every_ms, numbers[1] - numbers[0] + 1)


def levels(jobs: Any, place: Place, *, by: By, every: str | None, since: Moment, until: Moment) -> pl.DataFrame:
    """The level of a place in each window and group, and what changed it.

    Returns:
        The keys, ``place.levels``, ``place.oldest`` (at the end of the window, for how long the run has been there that
        came first), ``covered_ms``, ``place.counts`` and ``is_partial``.

    Raises:
        ArgumentError: A column, time or length that does not exist.
        TableError: ``jobs`` is not a jobs table.
    """
    own = [*place.levels, place.oldest, "covered_ms", *place.counts, "is_partial"]
    seen, newest = _newest(opened(jobs))
    asked = ask(
        jobs, where=place.where, at=place.at, taken=own, by=by, every=every, since=None, until=None, no_clock=_NO_CLOCK
    )
    begin, end = window(since, until, lambda: seen)
    names = asked.by or ["_all"]
    spans = _spans(asked.runs.with_columns(nw.lit(0).alias("_all")), names, place, seen, newest)
    asked, stretch = _stretch(asked._replace(since=begin, until=end), spans["_in"].min(), newest)
    measured = _grouped(spans, names, place, stretch)
    table = answered(asked, measured if every else measured.drop(BUCKET))
    return _finished(table, asked, place, stretch).select(*asked.shown, *own)


def _newest(frame: Any) -> tuple[datetime | None, int]:
    """The "now" of the data, and the end of what they cover: the millisecond after the newest thing they hold.

    A record is read a moment after its export began, and may tell of something newer.
    """
    events = ("finished_at", "processed_at", "created_at")
    seen, *happened = collected(
        frame.select(SEEN_AT.max().alias("seen"), *(nw.col(name).max() for name in events))
    ).row(0)
    newest = max((moment for moment in (seen, *happened) if moment), default=None)
    return seen, min(epoch_ms(newest or EPOCH) + 1, LAST_MS)


def _stretch(asked: Asked, start: Any, newest: int) -> tuple[Asked, Stretch]:
    """What is asked for and covered; where either end was not asked for, the answer ends with what is covered."""
    first = newest if start is None else max(start, epoch_ms(asked.since) if asked.since else start)
    stretch = Stretch.of(first, min(newest, epoch_ms(asked.until)) if asked.until else newest, asked.every_ms)
    if start is not None and stretch.first < stretch.last:
        first_at, last_at = (EPOCH + timedelta(milliseconds=ms) for ms in stretch[:2])
        asked = asked._replace(since=asked.since or first_at, until=asked.until or last_at)
    return asked, stretch


def _spans(runs: Any, names: list[str], place: Place, seen: datetime | None, newest: int) -> pl.DataFrame:
    """From when (``_in``) to when (``_out``) each run was in the place, narrow and in milliseconds."""
    how = nw.when(place.is_known).then(_LEFT).otherwise(nw.when(place.is_open).then(_OPEN).otherwise(_UNKNOWN))
    instants = {"_enter": place.entered_at, "_leave": place.left_at, "_last": "observed_at", "_at": "_at"}
    rows = collected(
        runs.with_columns(*flags(place.marks), _how=how).select(
            *names, *place.marks, "_how", *(nw.col(column).alias(name) for name, column in instants.items())
        )
    )
    enter, leave, last, at = (pl.col(name).to_physical() for name in instants)
    last = pl.when(last >= epoch_ms(seen or EPOCH)).then(newest).otherwise(last)
    # One that left before it came, by a difference of clocks or because someone promoted it, came when it left.
    came = pl.when(_IS_LEFT).then(pl.min_horizontal(enter, leave)).when(_IS_OPEN).then(enter).otherwise(at)
    left = pl.when(_IS_LEFT).then(leave).when(_IS_OPEN).then(pl.max_horizontal(enter, last)).otherwise(at)
    return rows.select(*names, *place.marks, pl.col("_how").cast(pl.Int8), _in=came, _out=left)


def _grouped(spans: pl.DataFrame, names: list[str], place: Place, stretch: Stretch) -> pl.DataFrame:
    """What :func:`_measured` tells of the spans within the stretch, by the names of groups and ``bucket``."""
    spans = spans.filter(pl.col("_in") < stretch.last, pl.col("_out") >= stretch.first)
    groups = _polars(spans.lazy().select(names).unique()).with_row_index("_group")
    check_size(stretch.n, len(groups) if stretch.n > 1 else 1)
    numbered = spans.lazy().join(groups.lazy(), on=names, nulls_equal=True)
    measured = _measured(numbered, place, stretch, len(groups))
    number = (stretch.zero - origin_ms(stretch.every_ms)) // stretch.every_ms
    keys = {"_group": (pl.col("_cell") // stretch.n).cast(pl.UInt32), BUCKET: pl.col("_cell") % stretch.n + number}
    return measured.with_columns(**keys).join(groups, on="_group").drop("_cell", "_group")


def _measured(rows: pl.LazyFrame, place: Place, stretch: Stretch, n_groups: int) -> pl.DataFrame:
    """What changed the level in each window in which something did, by group.

    A time of a group is one number, and its window, ``_cell``, the quotient of that by the length of windows.
    """
    is_small = 2 * stretch.n * stretch.every_ms * (n_groups + 1) <= _LAST_INT64
    base = pl.col("_group").cast(pl.Int64 if is_small else pl.Int128) * (stretch.n * stretch.every_ms) - stretch.zero
    is_before, is_over = pl.col("_in") < stretch.first, pl.col("_out") >= stretch.last
    spans = rows.select(
        *place.marks,
        "_how",
        "_in",
        _is_before=is_before,
        _is_over=is_over,
        # What was there before enters at the start; what stays longer is there at the end of the last window.
        _from=base + pl.when(is_before).then(stretch.first).otherwise("_in"),
        _to=base + pl.when(is_over).then(stretch.zero + stretch.n * stretch.every_ms).otherwise("_out"),
    )
    spans = _polars(spans).lazy()
    entered, left = _sums(spans, place, stretch)
    parts = [entered, left, _tops(spans, stretch), _oldest(spans, stretch)]
    measured = parts[0]
    for part in parts[1:]:
        measured = measured.join(part, on="_cell", how="full", coalesce=True)
    return measured.with_columns(pl.col("_cell").cast(pl.Int64))


def _polars(frame: pl.LazyFrame) -> pl.DataFrame:
    return frame.collect(engine="streaming")


def _sums(spans: pl.LazyFrame, place: Place, stretch: Stretch) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What needs no order: of those that entered in a window, and of those that left."""
    came, into = _COUNTED & ~pl.col("_is_before"), (pl.col("_from") % stretch.every_ms).cast(pl.Int64)
    entered = spans.group_by(_cell=pl.col("_from") // stretch.every_ms).agg(
        came.sum().cast(pl.Int64).alias(place.n_entered),
        *((came & (pl.col(name) == 1)).sum().cast(pl.Int64).alias(name) for name in place.marks),
        n_unknown=(~_COUNTED).sum().cast(pl.Int64),
        _base=(_COUNTED & pl.col("_is_before")).sum().cast(pl.Int64),
        _into_entered=(into * _COUNTED).sum(),
    )
    into = (pl.col("_to") % stretch.every_ms).cast(pl.Int64)
    gone = spans.filter(_COUNTED, ~pl.col("_is_over")).group_by(_cell=pl.col("_to") // stretch.every_ms)
    left = gone.agg(
        _IS_LEFT.sum().cast(pl.Int64).alias(place.n_left),
        n_unseen=_IS_OPEN.sum().cast(pl.Int64),
        _at_once=(into == 0).sum().cast(pl.Int64),
        _into_left=into.sum(),
    )
    return _polars(entered), _polars(left)


def _tops(spans: pl.LazyFrame, stretch: Stretch) -> pl.DataFrame:
    """The highest level after an entry into each window, counted from its start."""
    entries = spans.filter(_COUNTED).select(_event=pl.col("_from") * 2 + 1)
    leaves = spans.filter(_COUNTED, ~pl.col("_is_over")).select(_event=pl.col("_to") * 2)
    step = (pl.col("_event") % 2 * 2 - 1).cast(pl.Int32)
    windows = (
        pl.concat([entries, leaves])
        .sort("_event")
        .with_columns(_step=step)
        .select("_step", _cell=pl.col("_event") // (2 * stretch.every_ms), _level=pl.col("_step").cum_sum())
        .group_by("_cell")
        .agg(_net=pl.col("_step").sum(), _top=pl.col("_level").filter(pl.col("_step") == 1).max())
    )
    before = pl.col("_net").cum_sum() - pl.col("_net")
    return _polars(windows).sort("_cell").select("_cell", _top=(pl.col("_top") - before).cast(pl.Int64))


def _oldest(spans: pl.LazyFrame, stretch: Stretch) -> pl.DataFrame:
    """When the run entered that came first of those that are there at the end of a window.

    Few are there at the end of any. Of those that entered in one window and left in another the first to enter speaks
    for all; and of these, in the order of both windows, each speaks for the ends that none before it reaches.
    """
    entered, left = (pl.col(name) // stretch.every_ms for name in ("_from", "_to"))
    across = (
        spans.filter(_COUNTED)
        .select("_in", _from=entered, _to=left)
        .filter(pl.col("_from") < pl.col("_to"))
        .group_by("_from", "_to")
        .agg(pl.col("_in").min())
    )
    return (
        _polars(across)
        .sort("_from", "_to")
        .with_columns(
            pl.col("_in").reverse().cum_min().reverse().over("_from"),
            _from=pl.max_horizontal("_from", pl.col("_to").cum_max().shift(1)),
        )
        .filter(pl.col("_from") < pl.col("_to"))
        .select(pl.int_ranges("_from", "_to").alias("_cell"), _oldest="_in")
        .explode("_cell")
    )


def _finished(table: pl.DataFrame, asked: Asked, place: Place, stretch: Stretch) -> pl.DataFrame:
    """The levels of every window, from what changed them."""
    start, end = (pl.lit(epoch_ms(moment or EPOCH)) for moment in (asked.since, asked.until))
    zero = pl.lit(stretch.first)
    if asked.every_ms:
        zero = start = pl.col(BUCKET).dt.timestamp("ms")
        end = start + asked.every_ms
    names = (place.n_entered, place.n_left, "n_unseen", "_base", "_at_once", "_into_entered", "_into_left")
    entered, gone, unseen, base, at_once, into_entered, into_left = (pl.col(name).fill_null(0) for name in names)
    net = entered + base - gone - unseen
    before = net.cum_sum() - net
    before = before.over(asked.by) if asked.by else before
    first, last = pl.max_horizontal(start, pl.lit(stretch.first)), pl.min_horizontal(end, pl.lit(stretch.last))
    covered = (last - first).clip(lower_bound=0).cast(pl.Int64)
    measures = {
        # Unless something enters, a window is at its highest once those have left that leave as it starts.
        f"max_{place.name}": before + pl.max_horizontal("_top", -at_once),
        f"mean_{place.name}": (before * covered + net * (last - zero) - into_entered + into_left) / covered,
        f"{place.name}_at_start": before + base,
        f"{place.name}_at_end": before + net,
        place.oldest: last - pl.col("_oldest"),
    }
    return table.with_columns(
        *(pl.when(covered > 0).then(value).alias(name) for name, value in measures.items()),
        covered_ms=covered,
        is_partial=covered < pl.max_horizontal(end - start, pl.lit(1)),
    )
