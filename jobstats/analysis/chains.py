"""The runs of each schedule in a row, the fires that were expected of it, and what became of those nobody saw.

The server makes the next run of a schedule the moment the present one is first picked up, for the next fire after
that moment (BullMQ's worker.ts and job-scheduler.ts). So, between two runs that were seen, *a* and *b*:

* *b* was made when the run before it started. If *a* started then, *a* was that run: the fires between came while it
  waited, and the server skipped them. They are *missed*.
* If *a* started earlier, the fires up to that start are missed, and the first one after it got a run. If no other fire
  came before *b* was made, that run made it: it *started* then, though nobody saw it. If others came, it started at
  some time in between, and whether they got runs is *unknown*.
* If it is not known when *a* started, nothing is known of the fires between.

While the last run seen still waits, fires are missed; those after its start are unknown. A request for a schedule
counts as a start: its first run is made then.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

import narwhals as nw
import polars as pl

from jobstats.analysis.asking import Asked, By, ask, collected, flags, opened
from jobstats.analysis.schedules import (
    IDENTITY,
    LINE,
    NEVER,
    firsts_of,
    grid_of,
    heads_of,
    keyed,
    place,
    requests,
    schedules_of,
    with_offsets,
)
from jobstats.analysis.seen import IS_TOLD, reach
from jobstats.errors import ArgumentError
from jobstats.facts import FIRST_RUN_MS
from jobstats.firing import MOST_FIRES
from jobstats.moments import Moment, epoch_ms, length_ms, window
from jobstats.timing import RERUN_MS

_IS_REPEATED = ~nw.col("iteration_at").is_null()
_IS_ONCE = ~nw.col("schedule_at").is_null() & ~nw.coalesce("job_id", nw.lit("")).str.starts_with("repeat:")
_HAS_KNOWN_DUE = ~nw.col("eligible_at").is_null() & (nw.col("eligible_source") != "id_suffix_lower_bound")
_IS_EXACT = nw.col("queue_latency_quality") == "exact"
_FLAGS = {
    "is_ended": nw.col("is_ended"),
    "is_exact": _IS_EXACT,
    "is_due_known": _HAS_KNOWN_DUE,
    # Not taken from the next run that was seen, which may not be the next one there was.
    "is_own_start": (nw.col("start_source") == "processed_on") & (_IS_EXACT | ~_HAS_KNOWN_DUE),
    "is_active": nw.col("state") == "active",
    # An unknown state belongs to a run that was gone when its state was asked for.
    "is_waiting": nw.col("processed_at").is_null()
    & ~nw.col("is_ended")
    & ~nw.col("state").is_in(["active", "unknown"]),
}
_RUNS_AT_ONCE = 4_000_000
_NO_CLOCK = "that differs between the fires of one schedule; ask for every='1h' or every='1d'"
_TIMES = {"created": "created_at", "due": "eligible_at", "start": "started_at", "finish": "finished_at"}
_FATE = pl.Enum(["on_time", "late", "missed", "started", "pending", "unknown", "off_schedule", "unreadable"])
_REASON = pl.Enum(["run_before_waited", "not_made"])
_ROWS = pl.Schema(
    [
        ("n", pl.UInt32),
        ("fire", pl.Int64),
        ("due", pl.Int64),
        ("fate", _FATE),
        ("reason", _REASON),
        ("start", pl.Int64),
        ("lateness_ms", pl.Int64),
        ("waited_ms", pl.Int64),
        ("is_seen", pl.Boolean),
        ("is_overlapping", pl.Boolean),
    ]
)


class Fates(NamedTuple):
    """Expected fires and runs on none, a row each with the number ``n`` of its schedule; and the schedules."""

    rows: pl.DataFrame
    schedules: pl.DataFrame
    asked: Asked


class _Observed(NamedTuple):
    """When the data was seen; ``files`` tells how far those reach whose time nobody told."""

    begin: datetime | None
    now: datetime | None
    files: pl.DataFrame


def fates(
    jobs: Any, *, by: By, every: str | None, since: Moment, until: Moment, grace: str, taken: tuple[str, ...]
) -> Fates:
    """All fires expected in [since, until) with their fates, and the runs on none; times are integers.

    Raises:
        ArgumentError: An argument cannot be read, ``by`` names what differs between the runs of a schedule, or the
            fires do not fit in memory.
        TableError: ``jobs`` is not a jobs table.
    """
    at = ("eligible_at", "created_at")
    is_scheduled = (nw.coalesce("state", nw.lit("")) != "paused") & (_IS_REPEATED | _IS_ONCE)
    asked = ask(
        jobs, where=is_scheduled, at=at, taken=taken, by=by, every=every, since=None, until=None, no_clock=_NO_CLOCK
    )
    grace_ms = length_ms(grace, "grace")
    frame = opened(jobs)
    seen = _observed(frame)
    first, last = window(since, until, lambda: seen.now)
    now = epoch_ms(seen.now) if seen.now else -1
    span = (epoch_ms(first) if first else -NEVER, min(epoch_ms(last) if last else NEVER, now + 1))
    schedules = schedules_of(asked, requests(frame))
    runs = _runs(asked, schedules, seen.files)
    schedules = with_offsets(schedules, runs)
    firsts = firsts_of(runs)
    heads = heads_of(firsts, schedules, epoch_ms(seen.begin) if seen.begin else NEVER)
    schedules, grid = grid_of(schedules, firsts, heads, now)
    gaps, rows = [_before(heads, schedules, grid, now)], []
    for piece in _pieces(runs, firsts):
        chain = _chain(piece, schedules, grid, now)
        gaps.append(_gaps(chain, grid, now))
        rows.append(_seen(chain, span, grace_ms))
    rows.append(_unseen(pl.concat(gaps, how="diagonal"), grid, span, grace_ms))
    return Fates(pl.concat(rows), schedules, asked._replace(since=first, until=last))


# ---- what the data holds -----------------------------------------------------------------------------------------


def _observed(frame: Any) -> _Observed:
    first = "first_seen_at" if "first_seen_at" in frame.collect_schema().names() else "observed_at"
    told = frame.filter(IS_TOLD).select(nw.col(first).min().alias("begin"), nw.col("observed_at").max().alias("now"))
    begin, now = collected(told).row(0)
    files = reach(frame, "seen")
    times = [now, *files.select(pl.col("seen").max()).to_series()]
    return _Observed(begin, max((at for at in times if at), default=None), files)


def _runs(asked: Asked, schedules: pl.DataFrame, files: pl.DataFrame) -> pl.DataFrame:
    """The runs of all schedules, narrow."""
    times = {"fire": nw.coalesce("iteration_at", "schedule_at"), "seen": nw.when(IS_TOLD).then(nw.col("observed_at"))}
    narrow = keyed(asked.runs).select(
        *IDENTITY,
        *([] if files.is_empty() else ["source"]),
        *(nw.col(name).alias(short) for short, name in _TIMES.items()),
        *flags(_FLAGS),
        **times,
    )
    native = narrow.to_native()
    # The texts of a scan need not all be in memory for it.
    runs = native if isinstance(native, pl.LazyFrame) else collected(narrow).lazy()
    if not files.is_empty():
        runs = runs.join(files.lazy().rename({"seen": "_seen"}), on="source", how="left", nulls_equal=True)
        runs = runs.with_columns(pl.coalesce("seen", "_seen"))
    numbers = schedules.lazy().select("n", *(pl.col(f"_{name}").alias(name) for name in IDENTITY))
    return (
        runs.join(numbers, on=IDENTITY, nulls_equal=True)
        .select("n", pl.col(*times, *_TIMES).to_physical(), pl.col(_FLAGS) == 1)
        .collect(engine="streaming")
    )


def _pieces(runs: pl.DataFrame, firsts: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The runs in the order of their fires, some schedules at a time: beside all of them little else needs memory."""
    sizes = firsts.sort("n").with_columns(_piece=pl.col("n_runs").cum_sum() // _RUNS_AT_ONCE)
    pieces = sizes.group_by("_piece", maintain_order=True).agg(low=pl.col("n").min(), high=pl.col("n").max())
    for _, low, high in pieces.iter_rows():
        # One number sorts many times as fast as three columns.
        order = (pl.col("n").cast(pl.Int128) * LINE + pl.col("fire")) * 2**50 + pl.col("created").fill_null(0)
        yield runs.lazy().filter(pl.col("n").is_between(low, high)).sort(order).collect()


# ---- the runs, and what is between them --------------------------------------------------------------------------


def _chain(runs: pl.DataFrame, schedules: pl.DataFrame, grid: pl.Series, now: int) -> pl.DataFrame:
    """The runs with their neighbours, and their places in the grid."""
    told = ("n", "_pattern", "_offset", "_every", "_end", "_is_once", "_is_readable")
    runs = runs.join(schedules.select(told), on="n", how="left", maintain_order="left")
    at = place(runs["fire"], runs["_pattern"], grid, "left")
    is_same = pl.col("n") == pl.col("n").shift(-1)
    is_repeat = ((pl.col("n") == pl.col("n").shift(1)) & (pl.col("fire") == pl.col("fire").shift(1))).fill_null(False)
    open_until = pl.when("is_ended").then("finish").otherwise(pl.when(pl.col("start").is_not_null()).then("seen"))
    is_in_grid = (pl.col("_pattern") * LINE + pl.col("fire") == grid.gather(at)).fill_null(False)
    # Its own start, or what bounds it: it did not start before it was due, or while it was seen to wait.
    waited = pl.max_horizontal(pl.coalesce("due", "fire"), pl.when("is_waiting").then("seen"))
    chain = runs.with_columns(
        place=at,
        is_in_grid=is_in_grid,
        is_on=(pl.col("_is_once") | is_in_grid) & ~is_repeat,
        next_place=pl.when(is_same).then(at.shift(-1)),
        next_created=pl.when(is_same).then(pl.col("created").shift(-1)),
        is_next_in_grid=~is_same.fill_null(False) | (is_in_grid | (pl.col("fire") > now)).shift(-1),
        is_last=~is_same.fill_null(False),
        is_overlapping=((pl.col("n") == pl.col("n").shift(1)) & (pl.col("start") < open_until.shift(1))).fill_null(
            False
        ),
        low=pl.when("is_own_start").then("start").otherwise(waited),
        high=pl.when("is_own_start").then(pl.col("start") + RERUN_MS).otherwise("start"),
    )
    return chain.with_columns(pl.min_horizontal("low", "next_created"), pl.min_horizontal("high", "next_created"))


def _gaps(chain: pl.DataFrame, grid: pl.Series, now: int) -> pl.DataFrame:
    """Where expected fires lie between two runs, or after the last one: from place ``first`` to before ``last``."""
    readable = chain.lazy().filter(pl.col("_pattern").is_not_null())
    tails = readable.filter("is_last").collect()
    # What was removed long ago is not followed until now.
    ends = tails.select(pl.min_horizontal(pl.lit(now), pl.col("_end") - 1)).to_series()
    tails = tails.with_columns(next_place=place(ends, tails["_pattern"], grid, "right"))
    first = pl.col("place") + pl.col("is_in_grid").cast(pl.Int64)
    is_direct = pl.col("is_own_start") & ((pl.col("start") - pl.col("next_created")).abs() <= RERUN_MS)
    found = (
        pl.concat([readable.filter(~pl.col("is_last")), tails.lazy()])
        .filter(pl.col("next_place") > first)
        .select(
            *("n", "_pattern", "_offset", "_every", "_end", "low", "high", "next_created"),
            first=first,
            last="next_place",
            is_direct=is_direct.fill_null(False),
            # Between runs that fire at other times, the cron as it is read here is not the one that the server follows.
            is_followed=pl.col("is_in_grid") & pl.col("is_next_in_grid"),
        )
    )
    return found.collect()


def _before(heads: pl.DataFrame, schedules: pl.DataFrame, grid: pl.Series, now: int) -> pl.DataFrame:
    """The same before the first runs: a request is a start, and its first fire has no offset."""
    heads = heads.join(schedules.select("n", "_pattern", "_every", "_end"), on="n", maintain_order="left")
    heads = heads.filter(pl.col("_pattern").is_not_null())
    last = place(heads["first"], heads["_pattern"], grid, "left")
    is_in_grid = pl.col("_pattern") * LINE + pl.col("first") == grid.gather(last)
    return heads.select(
        *("n", "_pattern", "_every", "_end"),
        _offset=pl.lit(0, pl.Int64),
        low="start",
        high=pl.col("start") + FIRST_RUN_MS,
        next_created="created",
        first=place(heads["fire"], heads["_pattern"], grid, "right"),
        last=last,
        is_direct=pl.lit(False),
        is_followed=is_in_grid | (pl.col("first") > now),
    ).filter(pl.col("last") > pl.col("first"))


# ---- the fates ---------------------------------------------------------------------------------------------------


def _seen(chain: pl.DataFrame, span: tuple[int, int], grace_ms: int) -> pl.DataFrame:
    """The fates of the runs that were seen."""
    due = pl.coalesce("due", "fire")
    wait = pl.col("start") - due
    is_started = pl.col("start").is_not_null() | pl.col("is_ended") | ~pl.col("is_last") | pl.col("is_active")
    is_late = (pl.col("is_exact") & (wait > grace_ms)) | (pl.col("is_due_known") & (pl.col("low") - due > grace_ms))
    is_seen_due = pl.col("is_waiting") & (due <= pl.col("seen"))
    waited = pl.when(~is_started & is_seen_due).then(pl.col("seen") - due)
    fate = (
        pl.when(~pl.col("_is_readable"))
        .then(pl.lit("unreadable"))
        .when(~pl.col("is_on"))
        .then(pl.lit("off_schedule"))
        .when(is_started & (wait <= grace_ms))
        .then(pl.lit("on_time"))
        .when(is_late)
        .then(pl.lit("late"))
        .when(is_started)
        .then(pl.lit("started"))
        .when(is_seen_due)
        .then(pl.lit("pending"))
        .otherwise(pl.lit("unknown"))
    )
    is_expected = is_started | (due < pl.col("_end"))
    return (
        chain.lazy()
        .filter(due >= span[0], due < span[1], is_expected)
        .select(
            *("n", "fire", due.alias("due"), fate.alias("fate")),
            *(pl.lit(None, pl.String).alias("reason"), "start"),
            pl.when("is_exact", "is_on").then(wait).alias("lateness_ms"),
            *(waited.alias("waited_ms"), pl.lit(True).alias("is_seen"), "is_overlapping"),
        )
        .collect()
        .cast(_ROWS)
    )


def _unseen(gaps: pl.DataFrame, grid: pl.Series, span: tuple[int, int], grace_ms: int) -> pl.DataFrame:
    """The fates of the fires whose runs nobody saw."""
    offset = pl.col("_offset").fill_null(0)
    # With the offset unknown, a fire is due within an interval after its time.
    longest = pl.coalesce("_offset", "_every")
    gaps = gaps.with_columns(_low=pl.col("low") - offset)
    made = place(gaps["_low"], gaps["_pattern"], grid, "right")
    gaps = gaps.with_columns(made=pl.max_horizontal(made, "first"))
    after = pl.when(pl.col("made") + 1 < pl.col("last")).then(grid.gather(gaps["made"] + 1) % LINE + offset)
    made_due = grid.gather(gaps["made"]) % LINE + offset
    is_bounded = pl.col("is_followed") & pl.col("_offset").is_not_null() & pl.col("low").is_not_null()
    gaps = gaps.with_columns(
        is_sure=is_bounded & (made_due > pl.col("high")).fill_null(False) & (pl.col("made") < pl.col("last")),
        is_only=(after.fill_null(NEVER) > pl.col("next_created")).fill_null(False),
    )
    since = place(span[0] - gaps.select(longest).to_series(), gaps["_pattern"], grid, "left")
    gaps = gaps.with_columns(first=pl.max_horizontal("first", since)).filter(pl.col("first") < pl.col("last"))
    if (n := (gaps["last"] - gaps["first"]).sum()) > MOST_FIRES:
        raise ArgumentError(f"{n:,} expected fires were not seen, too many to tell apart; ask for fewer with since")
    rows = gaps.with_columns(place=pl.int_ranges("first", "last")).explode("place")
    rows = rows.with_columns(fire=grid.gather(rows["place"]) % LINE)
    return (
        rows.with_columns(due=pl.col("fire") + offset)
        .lazy()
        .filter(pl.col("due") >= span[0], pl.col("due") < span[1], pl.col("due") < pl.col("_end"))
        .select(*_unseen_fate(longest, grace_ms))
        .collect()
        .cast(_ROWS)
    )


def _unseen_fate(longest: pl.Expr, grace_ms: int) -> list[Any]:
    due, created = pl.col("due"), pl.col("next_created")
    is_passed_over = pl.col("is_followed") & (due > created + RERUN_MS).fill_null(False)
    is_skipped = (pl.col("fire") + longest <= pl.col("low")) | (pl.col("is_direct") & (due <= created + RERUN_MS))
    is_missed = (is_skipped | is_passed_over).fill_null(False)
    is_made = pl.col("is_sure") & (pl.col("place") == pl.col("made")) & (due <= created) & ~is_missed
    lateness = pl.when(is_made & pl.col("is_only")).then(created - due)
    fate = (
        pl.when(is_missed)
        .then(pl.lit("missed"))
        .when(is_made & (created - due <= grace_ms))
        .then(pl.lit("on_time"))
        .when(lateness > grace_ms)
        .then(pl.lit("late"))
        .when(is_made)
        .then(pl.lit("started"))
        .otherwise(pl.lit("unknown"))
    )
    reason = pl.when(is_skipped).then(pl.lit("run_before_waited")).otherwise(pl.lit("not_made"))
    return [
        *("n", "fire", "due", fate.alias("fate")),
        pl.when(is_missed).then(reason).alias("reason"),
        pl.when(lateness.is_not_null()).then(created).alias("start"),
        lateness.alias("lateness_ms"),
        pl.lit(None, pl.Int64).alias("waited_ms"),
        *(pl.lit(False).alias("is_seen"), pl.lit(False).alias("is_overlapping")),
    ]
