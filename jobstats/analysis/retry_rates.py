"""How often do runs need another attempt, and how often does it help?"""

from typing import Any, TypeVar

import narwhals as nw
import polars as pl

from jobstats.analysis.asking import (
    HAS_STALLED,
    STARTED,
    By,
    answered,
    ask,
    at_ms,
    collected,
    flags,
    outcomes_are_seen,
    rate,
    returned,
)
from jobstats.moments import Moment

Frame = TypeVar("Frame")
RATES = (
    ("retry_rate", "n_retried", "n"),
    ("failure_rate", "n_failed", "n"),
    ("recovery_rate", "n_recovered", "n_retried"),
)
BOUNDED = ("retry_rate", "failure_rate")
"""The rates that can be bounded where ends were not seen."""
ESTIMATES = (*(f"{name}{end}" for name, *_ in RATES for end in ("", "_low", "_high")), "mean_attempts")
MEASURES = (*ESTIMATES, *(f"{name}{end}" for name in BOUNDED for end in ("_min", "_max")), "lost_ms")
_ENDED, _RETRIED, _COMPLETED = nw.col("is_ended"), nw.col("is_retried"), nw.col("state") == "completed"
_FAILED = nw.col("state") == "failed"
_LOST = _FAILED | (_COMPLETED & _RETRIED)
_LOSS_KNOWN = (
    _LOST
    & ~nw.col("started_at").is_null()
    & ~nw.col("finished_at").is_null()
    & ~nw.col("processed_at").is_null()
    & (nw.coalesce("start_source", nw.lit("")) != "last_attempt")
)
_NO = nw.lit(0) == 1
COUNTS = {
    "n": _ENDED,
    "n_completed": _COMPLETED,
    "n_failed": _FAILED,
    "n_exhausted": _FAILED & _RETRIED & ~HAS_STALLED,
    "n_unrecoverable": _FAILED & ~_RETRIED & ~HAS_STALLED,
    "n_stalled": HAS_STALLED,
    "n_retried": _ENDED & _RETRIED,
    "n_recovered": _COMPLETED & _RETRIED,
    "n_rerun": _ENDED & nw.col("is_rerun_suspected"),
    "n_open": ~_ENDED,
    "n_ended_unseen": _NO,
    "n_lost": _LOSS_KNOWN,
    "n_lost_unknown": _LOST & ~_LOSS_KNOWN,
}
"""Which of the runs that started or ended each count is of."""


def retry_rates(
    jobs: Frame,
    *,
    by: By = None,
    every: str | None = None,
    since: Moment = None,
    until: Moment = None,
    confidence: float = 0.95,
) -> Frame:
    """Shares of ended runs that were retried, that failed, and of the retried that recovered, with Wilson intervals.

    A run has ended when it completed or failed for good. Retried: more than one attempt. Recovered: completed on a
    later attempt. Stalls restart a run without counting an attempt, so the retry rate is a lower bound of how often
    work was done again; ``n_rerun`` counts the suspected ones.

    Of the failed runs, *exhausted* ones failed on a later attempt, *unrecoverable* ones on the first, which BullMQ does
    for errors that say so; those that *stalled* lost their worker too often. Attempts that failed cost ``lost_ms``:
    from the first start of a run to the start of the attempt that completed, or to the end of one that failed. Backoffs
    are in it, as no record tells them apart.

    Rates need the completed runs. Today's server does not export them, and any server forgets them soon. When ``jobs``
    holds no completed run, or more runs that started without a known end than runs that ended, the rates are not
    estimable and are null; the counts stand. This is decided for the data as a whole, before grouping.

    Bounds assume nothing of what was not seen (Manski, C. F. (2003), Partial identification of probability
    distributions): whichever of the runs that started have ended, and however, the share lies between ``…_min`` and
    ``…_max``. Give a :func:`jobstats.history` to have them narrower: it rules failure or retry out for many of these
    runs, see :mod:`jobstats.ends`. Where that shows that the ends seen do not stand for all, a rate lies outside its
    bounds and is null.

    Args:
        jobs: A jobs table: Polars, DuckDB or Spark.
        by: Column or columns to group by; ``hour`` and ``weekday`` are those of a run's time, in UTC.
        every: Length of time windows, such as ``"1h"``, ``"1d"``, ``"1w"``; weeks start on Monday, days at 0:00 UTC.
        since: Only runs whose first start is at or after this; a datetime, ISO text or an age such as ``"7d"``.
        until: Only runs whose first start is before this.
        confidence: Level of the intervals.

    Returns:
        ``by`` columns, ``bucket`` (UTC start, with ``every``), ``retry_rate``, ``failure_rate``, ``recovery_rate`` each
        followed by ``_low`` and ``_high``, ``mean_attempts``, ``retry_rate_min``, ``retry_rate_max``,
        ``failure_rate_min`` and ``failure_rate_max`` (bounds), ``lost_ms`` (all of ``n_lost`` together; null without
        any), ``n`` (ended runs), ``n_completed``, ``n_failed``, of these ``n_exhausted``, ``n_unrecoverable`` and
        ``n_stalled``, ``n_retried``, ``n_recovered``, ``n_rerun``, ``n_open`` (started, end not seen),
        ``n_ended_unseen`` (those of them that a history says have ended), ``n_lost`` (failed or recovered, first start
        known), ``n_lost_unknown`` (not known) and ``is_estimable``. A rate is null where its denominator is 0, it is
        not estimable, or outside its bounds. Sorted by group and bucket.

    Raises:
        ArgumentError: A column, time, length or level that does not exist.
        TableError: ``jobs`` is not a jobs table.

    >>> import jobstats as js
    >>> jobs, rejects = js.load("data/dump")
    >>> retry_rates(jobs).select("n", "n_failed", "n_retried", "n_recovered", "is_estimable").row(0)
    (1910, 122, 260, 155, True)
    """
    at = ("started_at", "finished_at", "eligible_at", "created_at")  # torn records can lack all but the last
    asked = ask(
        jobs,
        where=_ENDED | STARTED,
        at=at,
        taken=(*MEASURES, *COUNTS, "is_estimable"),
        by=by,
        every=every,
        since=since,
        until=until,
    )
    counts = COUNTS | _unseen(asked.runs.collect_schema().names())
    measured = (
        asked.runs.with_columns(
            *flags(counts),
            _attempts=nw.when(_ENDED).then(nw.col("attempts")),
            lost_ms=_lost_ms(asked.runs),
        )
        .group_by(asked.keys)
        .agg(nw.col("_attempts").mean().alias("mean_attempts"), nw.col("lost_ms", *counts).sum())
    )
    table = answered(asked, collected(measured)).with_columns(
        pl.col(list(counts)).fill_null(0).cast(pl.Int64), pl.col("lost_ms").cast(pl.Int64)
    )
    table = table.with_columns(lost_ms=pl.when(pl.col("n_lost") > 0).then("lost_ms"))
    estimable = outcomes_are_seen(jobs)
    rates = [column for name, part, whole in RATES for column in rate(part, whole, name, confidence)]
    table = table.with_columns(*rates, *_bounds(), is_estimable=pl.lit(estimable)).with_columns(
        pl.when(pl.col(name).is_between(f"{name}_min", f"{name}_max")).then(f"{name}{end}").alias(f"{name}{end}")
        for name in BOUNDED
        for end in ("", "_low", "_high")
    )
    if not estimable:
        table = table.with_columns(pl.lit(None, dtype=pl.Float64).alias(name) for name in ESTIMATES)
    return returned(table.select(*asked.shown, *MEASURES, *COUNTS, "is_estimable"), jobs)


def _lost_ms(runs: Any) -> Any:
    until = nw.when(_FAILED).then(at_ms(runs, "finished_at")).otherwise(at_ms(runs, "processed_at"))
    return nw.when(_LOSS_KNOWN).then(until - at_ms(runs, "started_at"))


def _unseen(columns: list[str]) -> dict[str, Any]:
    """What may have become of runs whose end was not seen, as far as a history tells."""
    unseen, no_failure, no_retry = _NO, _NO, _NO
    if "ended_before_at" in columns:
        unseen = ~nw.col("ended_before_at").is_null()
        no_failure, no_retry = (unseen & nw.col(f"is_{what}_ruled_out") for what in ("failure", "retry"))
    return {
        "n_ended_unseen": unseen,
        "_unseen_retried": unseen & _RETRIED,
        "_still_retried": ~_ENDED & ~unseen & _RETRIED,
        "_maybe_retried": ~_ENDED & ~_RETRIED & ~no_retry,
        "_maybe_failed": ~_ENDED & ~no_failure,
    }


def _bounds() -> list[pl.Expr]:
    n, retried = pl.col("n") + pl.col("n_open"), pl.col("n_retried") + pl.col("_unseen_retried")
    # Of those that may not have ended at all, each counts where that makes the bounds the wider.
    bounds = {
        "retry_rate_min": (retried, n - pl.col("_still_retried")),
        "retry_rate_max": (retried + pl.col("_still_retried") + pl.col("_maybe_retried"), n),
        "failure_rate_min": (pl.col("n_failed"), n),
        "failure_rate_max": (pl.col("n_failed") + pl.col("_maybe_failed"), n),
    }
    return [pl.when(whole > 0).then(part / whole).alias(name) for name, (part, whole) in bounds.items()]
