"""How long does it take from a run being due to its end?"""

from collections.abc import Sequence
from typing import TypeVar

import narwhals as nw

from jobstats.analysis.asking import STARTED, WAITING, By
from jobstats.analysis.durations import QUANTILES, Lengths, summarised
from jobstats.moments import Moment

Frame = TypeVar("Frame")
_ENDED = nw.col("is_ended")
_TIMED = _ENDED & ~nw.col("turnaround_ms").is_null()
_IS_BOUND = nw.coalesce("eligible_source", nw.lit("")) == "id_suffix_lower_bound"
# A wait too negative to be one says that the due time does not hold.
_HOLDS = nw.col("queue_latency_quality") != "unknown"
_KNOWN = _TIMED & ~_IS_BOUND & _HOLDS
LENGTHS = Lengths(
    where=STARTED | WAITING | _ENDED,
    at=("eligible_at", "created_at"),
    column="turnaround_ms",
    known=_KNOWN,
    left_out={
        "n_upper_bound": _TIMED & _IS_BOUND,
        "n_unknown": _ENDED & ~_KNOWN & ~(_TIMED & _IS_BOUND),
    },
    open=("n_open", ~_ENDED),
    begin="eligible_at",
    begins=~nw.col("eligible_at").is_null() & ~_IS_BOUND & _HOLDS,
    to_end=True,
)


def turnaround(
    jobs: Frame,
    *,
    by: By = None,
    every: str | None = None,
    since: Moment = None,
    until: Moment = None,
    q: float | Sequence[float] = QUANTILES,
    censored: bool = False,
    confidence: float = 0.95,
) -> Frame:
    """Quantiles of the time from becoming eligible to the end: waits, all attempts and the backoffs between them.

    The response time of the literature on parallel workloads (wait and run time together), from *eligible* rather than
    from submission, which for a scheduled crawl is the run before. It needs no knowledge of the first start, so runs
    that were retried are in it.

    Runs that have not ended are in no quantile, which flatters a queue that is stuck; ``censored`` counts them as at
    least as long as they were last seen to be, see :func:`jobstats.queue_latency`.

    Where most ends are not in the data (today's server lists no completed runs) those that are seen do not stand for
    all: the measures are then null, as those of :func:`jobstats.retry_rates` are, and ``is_estimable`` says so.

    Args:
        jobs: A jobs table: Polars, DuckDB or Spark.
        by: Column or columns to group by; ``hour`` and ``weekday`` are those of a run's time, in UTC.
        every: Length of time windows, such as ``"1h"``, ``"1d"``, ``"1w"``; weeks start on Monday, days at 0:00 UTC.
        since: Only runs eligible at or after this; a datetime, ISO text or an age such as ``"7d"``.
        until: Only runs eligible before this.
        q: Quantile or quantiles, each between 0 and 1.
        censored: Count runs that have not ended.
        confidence: Level of the intervals that ``censored`` quantiles have.

    Returns:
        ``by`` columns, ``bucket`` (UTC start, with ``every``), ``p50_ms`` … for each quantile (``censored``: with
        ``_low`` and ``_high``), ``mean_ms``, ``max_ms``, all as in :func:`jobstats.queue_latency`; ``n`` (ended runs
        measured), ``n_excluded`` (the other ended runs), and of these ``n_upper_bound`` (the due time is a lower bound)
        and ``n_unknown`` (no due time that holds, or no time of the end); ``n_open`` (due or started, and not seen to
        end) and ``is_estimable``. Sorted by group and bucket.

    Raises:
        ArgumentError: A column, time, length, quantile or level that does not exist.
        TableError: ``jobs`` is not a jobs table.

    >>> import jobstats as js
    >>> jobs, rejects = js.load("data/dump")
    >>> turnaround(jobs, q=0.5).select("p50_ms", "n", "n_excluded", "n_open").row(0)
    (4130.0, 1908, 2, 71)
    """
    return summarised(
        jobs,
        LENGTHS,
        by=by,
        every=every,
        since=since,
        until=until,
        q=q,
        censored=censored,
        confidence=confidence,
    )
