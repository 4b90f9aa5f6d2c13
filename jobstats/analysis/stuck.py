"""Which runs need a person to look at them?"""

from typing import Any, TypeVar

import narwhals as nw
import polars as pl

from jobstats.analysis.asking import HAS_STALLED, STARTED, as_of, collected, flags, opened, returned
from jobstats.analysis.bounds import FLOOR_MS, RAN, WAITED, bounded, intervals
from jobstats.analysis.seen import IS_TOLD, reach
from jobstats.ends import MOST_LISTED
from jobstats.moments import Moment, window
from jobstats.table import RUN_KEY

Frame = TypeVar("Frame")
SCHEMA = pl.Schema(
    [
        ("kind", pl.String),
        ("evidence", pl.String),
        ("org_id", pl.String),
        ("connector", pl.String),
        ("connector_id", pl.String),
        ("job_id", pl.String),
        ("created_at", pl.Datetime("ms", "UTC")),
        ("state", pl.String),
        ("since_at", pl.Datetime("ms", "UTC")),
        ("observed_at", pl.Datetime("ms", "UTC")),
        ("age_ms", pl.Int64),
        ("bound_ms", pl.Int64),
        ("bound_of", pl.String),
        ("n_history", pl.Int64),
        ("progress_pct", pl.Float64),
        ("attempts_made", pl.Int64),
        ("is_rerun_suspected", pl.Boolean),
    ]
)
_KINDS = {
    "lost_worker": ("stalled", "requeued", "state", "restarted"),
    "running_long": ("start", "progress"),
    "waiting_long": ("due",),
    "unjudged": ("no_history", "file_mtime"),
}
"""Each kind, in the order of the answer, and what is evidence of it."""
_OPEN = ~nw.col("is_ended") & (nw.col("state") != "unknown")
# Torn records were read while they changed, and nothing that changes is stuck.
_ACTIVE = (nw.col("state") == "active") & ~nw.col("processed_at").is_null() & ~nw.col("is_torn")
_DUE = ~STARTED & ((nw.col("eligible_at") <= nw.col("observed_at")) | nw.col("observed_at").is_null())
_REQUEUED = (nw.col("state") == "waiting") & (nw.col("attempts_made") == 0) & ~nw.col("processed_at").is_null()
_FOUND = {
    "stalled": HAS_STALLED,
    "state": nw.col("state") == "stuck",
    "requeued": _OPEN & _REQUEUED,
    "start": _OPEN & _ACTIVE,
    "due": _OPEN & _DUE & (nw.col("state") != "active"),
}
"""What a record may be evidence of, and when. The first that holds counts."""
_CARRIED = (
    *("org_id", "connector", "connector_id", "job_id", "created_at", "state", "progress_pct", "progress_json"),
    *("attempts_made", "is_rerun_suspected", "eligible_at", "processed_at", "finished_at", "observed_at", "source"),
    *("schedule_cron", "schedule_timezone", "schedule_every_ms"),
)


def stuck(jobs: Frame, *, since: Moment = None, until: Moment = None) -> Frame:
    """Which runs need a person to look at them: a row a run, worst first.

    ``kind`` says why, ``evidence`` what speaks for it:

    ================ ============== =================================================================================
    ``lost_worker``  ``stalled``    BullMQ failed it because worker after worker was lost; certain
    ..               ``requeued``   waiting again after a start and no ended attempt, as a stall leaves it; certain
    ..               ``state``      the server says ``stuck``: the job is in none of its lists; certain
    ..               ``restarted``  active, and started more often than its attempts say: running again, so far
    ``running_long`` ``start``      active, and its latest start lies longer ago than ``bound_ms``
    ..               ``progress``   the same, counted from the last change of progress that observations show
    ``waiting_long`` ``due``        not started, and due longer ago than ``bound_ms``
    ``unjudged``     ``no_history`` active or due for over a minute, and fewer than ten runs to compare with
    ..               ``file_mtime`` too old only if its file was exported when it was last modified
    ================ ============== =================================================================================

    A worker is lost to BullMQ when it does not renew its lock: it has crashed, or its event loop is blocked.

    The bound of running is that of the ended runs of the same connector instance, of its kind where these are fewer
    than ten, else of all: p90 x (p90 / p50)², see :mod:`jobstats.analysis.bounds`. It is about one attempt, so the
    clock starts at the latest start, never at creation or queueing. The bound of waiting is the time to the next run
    of the schedule, which this run keeps from being made; where there is none (one-time jobs), it is found like that
    of running from waits known exactly. No bound is under a minute.

    A run is as old as it was when last seen: its age does not grow while nobody looks. One that a later list leaves
    out is no row, unless that list was cut off at ten jobs. Neither is one that failed by stalls once its connector
    has completed a later run, nor one that completed after a stall: :func:`~jobstats.analysis.retry_rates.retry_rates`
    counts these (``n_rerun``). Today's server does not list queued runs: long waits show in dumps of a queue alone.

    Args:
        jobs: A jobs table: Polars, DuckDB or Spark. Earlier observations (not ``is_latest``) tell of progress; a
            history no longer has them.
        since: Only runs in trouble at or after this (last seen so, or failed); a datetime, ISO text or an age such as
            ``"7d"``.
        until: Only runs in trouble before this.

    Returns:
        ``kind``, ``evidence``, ``org_id``, ``connector``, ``connector_id``, ``job_id``, ``created_at``, ``state``,
        ``since_at`` (start of the clock; of stalled runs their failure, of requeued ones the lost start),
        ``observed_at`` (when last seen; where only a file's modification time tells, the newest that happened in the
        file), ``age_ms`` (between the two), ``bound_ms``, ``bound_of`` (schedule, connector_id, connector or all),
        ``n_history`` (runs the bound rests on; null for a schedule's), ``progress_pct``, ``attempts_made``,
        ``is_rerun_suspected``. The bound is null where none was needed or known. Sorted by kind in the order above; of
        lost workers the newest first, of the others the age that is most above its bound.

    Raises:
        ArgumentError: A time that cannot be read.
        TableError: ``jobs`` is not a jobs table.

    >>> import jobstats as js
    >>> jobs, rejects = js.load("data/polls")
    >>> stuck(jobs).select("kind", "evidence", "connector", "age_ms").rows()
    [('lost_worker', 'stalled', 'Calendar', 3501)]
    """
    frame = opened(jobs)
    first, last = window(since, until, lambda: as_of(frame))
    runs = _suspects(frame)
    answer = pl.DataFrame(schema=SCHEMA)
    if len(runs):
        answer = _judged(_aged(_progressed(runs, frame), frame), frame)
    at = pl.when(evidence="stalled").then("since_at").otherwise("observed_at")
    if first:
        answer = answer.filter(at >= first)
    if last:
        answer = answer.filter(at < last)
    return returned(answer, jobs)


def _suspects(frame: Any) -> pl.DataFrame:
    """Runs that may be stuck, but for those that have ended unseen or that a later list leaves out."""
    latest = frame.filter(nw.col("is_latest"))
    # Of each organisation the newest list, which is no answer about a single job, and how many it holds of each kind.
    timed = latest.filter(IS_TOLD, nw.col("state") != "paused")
    lists = timed.group_by("org_id", "connector", "observed_at").agg(nw.len().cast(nw.Int64).alias("_n_listed"))
    times = lists.group_by("org_id", "observed_at").agg(nw.col("_n_listed").sum()).filter(nw.col("_n_listed") > 1)
    newest = times.group_by("org_id").agg(nw.col("observed_at").max().alias("_looked_at"))
    lists = lists.rename({"observed_at": "_looked_at"}).join(newest, on=["org_id", "_looked_at"])
    has_ends = "ended_before_at" in frame.collect_schema().names()
    gone = {
        "_left_out": IS_TOLD & (nw.col("observed_at") < nw.col("_looked_at")),
        "_cut_off": nw.col("_n_listed") == MOST_LISTED,
        "_ended": ~nw.col("ended_before_at").is_null() if has_ends else nw.lit(0) == 1,
        "_timed": IS_TOLD,
    }
    is_gone = (nw.col("_left_out") > nw.col("_cut_off")) | (nw.col("_ended") > 0)
    found = {f"_{name}": condition for name, condition in _FOUND.items()}
    suspects = (
        latest.with_columns(*flags(found))
        .filter(nw.max_horizontal(*found) > 0)
        .join(newest, on="org_id", how="left")
        .join(lists.drop("_looked_at"), on=["org_id", "connector"], how="left")
        .with_columns(*flags(gone))
        .filter((nw.col("_stalled") > 0) | ~is_gone)
        .select(*_CARRIED, *found, "_left_out", "_timed")
    )
    first = pl.coalesce(pl.when(pl.col(f"_{name}") > 0).then(pl.lit(name)) for name in _FOUND)
    return collected(suspects).with_columns(pl.col("_left_out", "_timed") > 0, evidence=first).drop(found)


def _progressed(runs: pl.DataFrame, frame: Any) -> pl.DataFrame:
    """With ``_progressed_at``: when active runs were first seen at their progress after having been seen at another."""
    active = runs.filter("_timed", evidence="start")
    now = active.select(*RUN_KEY, "processed_at", _now="progress_json", _last="observed_at")
    ids = active["job_id"].drop_nulls().unique().to_list()
    rows = frame.filter(~nw.col("is_latest"), nw.col("job_id").is_in(ids), IS_TOLD)
    earlier = collected(rows.select(*RUN_KEY, "processed_at", "observed_at", "progress_json"))
    is_other = pl.col("progress_json").ne_missing(pl.col("_now"))
    seen = earlier.join(now, on=[*RUN_KEY, "processed_at"], nulls_equal=True).with_columns(
        _other=pl.col("observed_at").filter(is_other).max().over(RUN_KEY)
    )
    first = pl.col("observed_at").filter(pl.col("observed_at") > pl.col("_other")).min()
    changed = seen.filter(pl.col("_other").is_not_null()).group_by(RUN_KEY)
    progressed = changed.agg(_progressed_at=pl.coalesce(first, pl.col("_last").first()))
    return runs.join(progressed, on=RUN_KEY, how="left", nulls_equal=True)


def _aged(runs: pl.DataFrame, frame: Any) -> pl.DataFrame:
    """With ``since_at``, ``age_ms``, and ``_claimed_ms``: the age if a file's modification time is to be believed."""
    newest = reach(frame, "_newest")
    since = (
        pl.when(evidence="stalled")
        .then(pl.coalesce("finished_at", "processed_at"))
        .when(evidence="due")
        .then("eligible_at")
        .otherwise(pl.max_horizontal("processed_at", "_progressed_at"))
    )
    seen = pl.when("_timed").then("observed_at").otherwise(pl.min_horizontal("observed_at", "_newest"))
    return (
        runs.join(newest, on="source", how="left", nulls_equal=True)
        .with_columns(since_at=pl.coalesce(since, "created_at"), _claimed_at="observed_at", observed_at=seen)
        .with_columns(
            (pl.col(at) - pl.col("since_at")).dt.total_milliseconds().alias(age)
            for at, age in (("observed_at", "age_ms"), ("_claimed_at", "_claimed_ms"))
        )
    )


def _judged(runs: pl.DataFrame, frame: Any) -> pl.DataFrame:
    """The runs that are stuck or cannot be judged, worst first."""
    is_old = pl.max_horizontal("age_ms", "_claimed_ms") > FLOOR_MS
    running = runs.filter(evidence="start")
    # What was due after all that is known to have happened may not have been due.
    waiting = intervals(runs.filter(is_old, pl.col("age_ms") >= 0, evidence="due"))
    has_next = pl.col("interval_ms").is_not_null()
    parts = [
        _verdicts(bounded(running.filter(is_old), frame, RAN)),
        _verdicts(running.filter(~is_old).with_columns(bound_ms=pl.lit(None, pl.Int64))),
        _verdicts(bounded(waiting.filter(~has_next), frame, WAITED)),
        _verdicts(waiting.filter(has_next).with_columns(bound_ms="interval_ms", bound_of=pl.lit("schedule"))),
        _lost(runs.filter(~pl.col("evidence").is_in(["start", "due"])), frame),
    ]
    kinds = {name: kind for kind, names in _KINDS.items() for name in names}
    kind = pl.col("evidence").replace_strict(kinds, return_dtype=pl.String)
    judged = pl.concat([pl.DataFrame(schema=SCHEMA), *parts], how="diagonal").with_columns(kind=kind)
    order = pl.col("kind").replace_strict(list(_KINDS), range(len(_KINDS)), return_dtype=pl.Int64)
    newest, worst = pl.col("since_at").to_physical(), pl.col("age_ms") / pl.col("bound_ms").fill_null(FLOOR_MS)
    first = pl.when(kind="lost_worker").then(newest).otherwise(worst)
    return judged.sort(order, -first, *RUN_KEY, nulls_last=True).select(SCHEMA.names())


def _verdicts(runs: pl.DataFrame) -> pl.DataFrame:
    """Runs that are too old for their bound, that were restarted, or whose age or bound is not known."""
    bound = pl.col("bound_ms").fill_null(FLOOR_MS)
    is_restarted = (pl.col("evidence") == "start") & pl.col("is_rerun_suspected") & ~pl.col("_left_out")
    verdict = (
        pl.when(pl.col("age_ms") > pl.col("bound_ms"))
        .then(pl.when(pl.col("_progressed_at").is_null()).then("evidence").otherwise(pl.lit("progress")))
        .when(is_restarted)
        .then(pl.lit("restarted"))
        .when(pl.col("age_ms") > bound)
        .then(pl.lit("no_history"))
        .when(pl.col("_claimed_ms") > bound)
        .then(pl.lit("file_mtime"))
    )
    return runs.with_columns(evidence=verdict).drop_nulls("evidence")


def _lost(runs: pl.DataFrame, frame: Any) -> pl.DataFrame:
    """Those that lost their worker and have it still to get over: their connector has completed none since."""
    stalled = runs.filter(evidence="stalled")
    ids = stalled["connector_id"].drop_nulls().unique().to_list()
    completed = frame.filter(nw.col("is_latest"), nw.col("state") == "completed", nw.col("connector_id").is_in(ids))
    newest = collected(completed.group_by("org_id", "connector_id").agg(nw.col("finished_at").max().alias("_done_at")))
    is_over = (pl.col("_done_at") > pl.col("since_at")).fill_null(False)
    still = stalled.join(newest, on=["org_id", "connector_id"], how="left").filter(~is_over).drop("_done_at")
    return pl.concat([still, runs.filter(pl.col("evidence") != "stalled", ~pl.col("_left_out"))])
