"""What ran when, of late?"""

from typing import Any, TypeVar

import narwhals as nw
import polars as pl

from jobstats.analysis.asking import STARTED, WAITING, alike, ask, collected, opened, returned
from jobstats.analysis.seen import IS_TOLD, reach
from jobstats.errors import ArgumentError
from jobstats.moments import Moment

Frame = TypeVar("Frame")
MOST = 1_000
"""More bars than this nobody can read."""
_AT = pl.Datetime("ms", "UTC")
SCHEMA = pl.Schema(
    [
        ("job_id", pl.String),
        ("org_id", pl.String),
        ("connector", pl.String),
        ("connector_id", pl.String),
        ("created_at", _AT),
        ("outcome", pl.String),
        ("eligible_at", _AT),
        ("started_at", _AT),
        ("ended_at", _AT),
        ("seen_until_at", _AT),
        ("queue_latency_ms", pl.Int64),
        ("queue_latency_quality", pl.String),
        ("processing_ms", pl.Int64),
        ("attempts_made", pl.Int64),
        ("is_retried", pl.Boolean),
        ("from_at", _AT),
        ("until_at", _AT),
        ("lane", pl.Int64),
    ]
)
_WAITING_STATES = ("waiting", "prioritized", "delayed", "waiting-children")
_RAN = STARTED | nw.col("is_ended")
_ORDER = ("_at", "job_id", "org_id", "created_at", "name")
"""Which runs are newest; the last four tell apart those of one millisecond."""
_CARRIED = (
    *("job_id", "org_id", "connector", "connector_id", "name", "state", "created_at", "processed_at", "finished_at"),
    *("eligible_at", "eligible_source", "started_at", "start_source", "queue_latency_ms", "queue_latency_quality"),
    *("processing_ms", "attempts_made", "is_ended", "is_retried", "observed_at", "observed_at_source", "source", "_at"),
)
_BOUNDS = ("ended_after_at", "ended_before_at")
_LANED = ("from_at", "job_id", "org_id", "created_at", "name")


def timeline(jobs: Frame, *, since: Moment = None, until: Moment = None, most: int = 120) -> Frame:
    """The newest runs as bars: when each was due, started and ended, and a lane in which no other is in its way.

    A run counts at its first start, one that waits at the time it was due: by this the newest ``most`` are chosen,
    those that started, ended, or were due and waiting when last seen. ``outcome`` says how the run was last seen:

    ================= ================================================================================================
    ``completed``     it completed
    ``failed``        it failed for good
    ``ended_unseen``  a history says that it has ended, and not how; see :mod:`jobstats.ends`
    ``running``       it was at work
    ``waiting``       it was due and had not started
    ``waiting_again`` it had started, and waited for another attempt, or to be picked up again after a stall
    ``paused``        it, or its schedule, was paused
    ``unknown``       its state says nothing, or it was last seen before a start that only the next run shows
    ================= ================================================================================================

    Times that are not known are null, and nothing is put in their place:

    * ``eligible_at``: no due time was recovered, only its lower bound is known, or the run started more than a minute
      before it, so that it does not hold.
    * ``started_at``, the first start: there was none yet, only that of a later attempt is known, or the run was
      started at this time or earlier (``queue_latency_quality`` is ``gap_or_late``, or ``upper_bound`` with a due time
      that is known). Of a torn record, read while its run started, it may be null although the run is at work.
    * ``ended_at``: no end was seen. A torn record, read while its run ended, has an outcome and no end.
    * ``seen_until_at``: nothing says when the record was seen.

    Between attempts a run waits, and no record says from when to when. What is known to be work is the last attempt:
    the ``processing_ms`` before ``ended_at``.

    Args:
        jobs: A jobs table: Polars, DuckDB or Spark. Give a :func:`jobstats.history` to have runs that ended unseen;
            without it, they were last seen running or waiting.
        since: Only runs that count at or after this; a datetime, ISO text or an age such as ``"7d"``.
        until: Only runs that count before this.
        most: How many runs at most, from 1 to 1,000.

    Returns:
        ``job_id``, ``org_id``, ``connector``, ``connector_id`` and ``created_at`` of the run, ``outcome``,
        ``eligible_at``, ``started_at``, ``ended_at``, ``seen_until_at`` (when it was last seen; where only a file's
        modification time tells, no later than the newest that happened in the file), ``queue_latency_ms`` and
        ``queue_latency_quality`` (as in the jobs table: unless it is exact, the wait is a bound), ``processing_ms`` (of
        the last attempt; null while open), ``attempts_made``, ``is_retried``, ``from_at`` and ``until_at`` (ends of the
        bar: the first and the last that is known of the run, to ``ended_at``, or to ``seen_until_at`` where no end was
        seen; of a run that ended unseen to when it was last known to be there) and ``lane`` (from 0; as few as can be).
        Bars of a lane do not overlap, nor do two of no length lie at one point. A negative wait, by a difference of
        clocks, makes a bar start at ``started_at``. Sorted by ``from_at`` and ``job_id``.

    Raises:
        ArgumentError: A time that cannot be read, or ``most`` is no whole number from 1 to 1,000.
        TableError: ``jobs`` is not a jobs table.

    >>> import jobstats as js
    >>> jobs, rejects = js.load("data/dump")
    >>> newest = timeline(jobs, most=4)
    >>> newest.select("outcome", "queue_latency_ms", "processing_ms", "lane").rows()
    [('completed', 4026, 108, 0), ('running', 4011, None, 1), ('running', 4005, None, 2), ('waiting', None, None, 0)]
    """
    if not isinstance(most, int) or isinstance(most, bool) or not 1 <= most <= MOST:
        raise ArgumentError(f"most must be a whole number from 1 to {MOST:,}; found {most!r}")
    frame = opened(jobs)
    at = ("started_at", "finished_at", "eligible_at", "created_at")  # as in retry_rates
    asked = ask(jobs, where=_RAN | WAITING, at=at, taken=(), by=None, every=None, since=since, until=until)
    runs = _newest(asked.runs, reach(frame, "_reach"), most)
    bars = runs.with_columns(*_times(), outcome=_outcome()).with_columns(*_ends()).sort(_LANED, nulls_last=True)
    answer = bars.with_columns(lane=_lanes(bars["from_at"], bars["until_at"]))
    return returned(answer.select(SCHEMA.names()).cast(SCHEMA), jobs)


def _newest(runs: Any, files: pl.DataFrame, most: int) -> pl.DataFrame:
    """The newest runs, with how far the files reach whose time nobody told, and the bounds of ends that were not seen.

    In such a file, what was due after all that is known to have happened may not have been due.
    """
    has_ends = "ended_before_at" in runs.collect_schema().names()
    parts = [runs.filter(_RAN | IS_TOLD)]
    if len(files):
        waiting = runs.filter(~_RAN, ~IS_TOLD).join(alike(files, runs), on="source")
        parts.append(waiting.filter(nw.col("eligible_at") <= nw.col("_reach")))
    order: dict[str, Any] = {"descending": [name == "_at" for name in _ORDER], "nulls_last": True}
    columns = (*_CARRIED, *(_BOUNDS if has_ends else ()))
    newest = pl.concat([collected(part.select(columns).sort(*_ORDER, **order).head(most)) for part in parts])
    lacking = [pl.lit(None, _AT).alias(name) for name in _BOUNDS if not has_ends]
    return (
        newest.sort(_ORDER, **order)
        .head(most)
        .with_columns(lacking)
        .join(files, on="source", how="left", nulls_equal=True)
    )


def _outcome() -> pl.Expr:
    state = pl.col("state").fill_null("")
    is_started, is_processed = pl.col("started_at").is_not_null(), pl.col("processed_at").is_not_null()
    return (
        pl.when("is_ended")
        .then(state)
        .when(pl.col("ended_before_at").is_not_null())
        .then(pl.lit("ended_unseen"))
        # Its times were read after its end, and its state when it was gone.
        .when(pl.col("finished_at").is_not_null())
        .then(pl.lit("unknown"))
        .when(state == "active")
        .then(pl.lit("running"))
        .when(is_started & ~is_processed)
        .then(pl.lit("unknown"))
        .when(state == "paused")
        .then(state)
        .when(~state.is_in(_WAITING_STATES))
        .then(pl.lit("unknown"))
        .when(is_processed)
        .then(pl.lit("waiting_again"))
        .otherwise(pl.lit("waiting"))
    )


def _times() -> list[pl.Expr]:
    """The times of a run as far as they are known."""
    is_bound = pl.col("eligible_source").eq_missing("id_suffix_lower_bound")
    quality = pl.col("queue_latency_quality").fill_null("")
    is_contradicted = pl.col("started_at").is_not_null() & (quality == "unknown")
    is_late = pl.col("start_source").eq_missing("last_attempt") | (quality == "gap_or_late")
    seen = pl.col("observed_at")
    is_untold = pl.col("_reach").is_not_null() & (pl.col("observed_at_source") == "file_mtime")
    return [
        pl.when(~is_bound & ~is_contradicted).then("eligible_at").alias("eligible_at"),
        pl.when(~is_late & ~((quality == "upper_bound") & ~is_bound)).then("started_at").alias("started_at"),
        pl.col("finished_at").alias("ended_at"),
        pl.when(is_untold).then(pl.min_horizontal(seen, "_reach")).otherwise(seen).alias("seen_until_at"),
    ]


def _ends() -> list[pl.Expr]:
    """From when to when the bar of a run is drawn."""
    first = pl.min_horizontal("eligible_at", "started_at", "processed_at")
    begin = pl.coalesce(first, "ended_at", "seen_until_at", "created_at")
    there = pl.when(outcome="ended_unseen").then("ended_after_at").otherwise("seen_until_at")
    still = pl.max_horizontal(there, "started_at", "processed_at")
    return [begin.alias("from_at"), pl.max_horizontal(begin, pl.coalesce("ended_at", still)).alias("until_at")]


def _lanes(begins: pl.Series, ends: pl.Series) -> pl.Series:
    """The first lane that is free for each bar, in the order of their begins."""
    free_at: list[int] = []
    lanes = []
    for begin, end in zip(begins.to_physical(), ends.to_physical(), strict=True):
        lane = next((number for number, at in enumerate(free_at) if at <= begin), len(free_at))
        free_at[lane : lane + 1] = [max(end, begin + 1)]  # a bar of no length takes up a place too
        lanes.append(lane)
    return pl.Series(lanes, dtype=pl.Int64)
