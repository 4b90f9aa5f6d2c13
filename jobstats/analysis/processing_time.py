"""How long do runs work, once started?"""

from collections.abc import Sequence
from typing import TypeVar

import narwhals as nw

from jobstats.analysis.asking import HAS_STALLED, STARTED, By
from jobstats.analysis.durations import QUANTILES, Lengths, summarised
from jobstats.moments import Moment

Frame = TypeVar("Frame")
_ENDED = nw.col("is_ended")
_TIMED = _ENDED & ~nw.col("processing_ms").is_null()
_RUNNING = ~_ENDED & (nw.col("state") == "active") & ~nw.col("processed_at").is_null()
LENGTHS = Lengths(
    where=STARTED | _ENDED,
    at=("processed_at", "started_at", "finished_at", "created_at"),
    column="processing_ms",
    known=_TIMED & ~HAS_STALLED,
    left_out={
        "n_stalled": _TIMED & HAS_STALLED,
        "n_torn": _ENDED & ~_TIMED,
        "n_unseen": ~_ENDED & ~_RUNNING,
    },
    open=("n_running", _RUNNING),
    begin="processed_at",
    begins=nw.lit(0) == 0,
    to_end=True,
)


def processing_time(
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
    """Quantiles of the time from the last start of a run to its end, by group and time of that start.

    Processing time is *finishedOn - processedOn*: the last attempt alone, as the record forgets earlier ones. Runs that
    failed are in it. On an unmodified server the job of a crawl hands a sync event on and has then completed, so this
    is the time of handing on, not of the crawl.

    Runs still at work are in no quantile, which flatters a worker that hangs; ``censored`` counts them as at least as
    long as they were last seen to be, see :func:`jobstats.queue_latency`.

    Where most ends are not in the data (today's server lists no completed runs) those that are seen do not stand for
    all: the measures are then null, as those of :func:`jobstats.retry_rates` are, and ``is_estimable`` says so.

    Args:
        jobs: A jobs table: Polars, DuckDB or Spark.
        by: Column or columns to group by; ``hour`` and ``weekday`` are those of a run's time, in UTC.
        every: Length of time windows, such as ``"1h"``, ``"1d"``, ``"1w"``; weeks start on Monday, days at 0:00 UTC.
        since: Only runs whose last start is at or after this; a datetime, ISO text or an age such as ``"7d"``.
        until: Only runs whose last start is before this.
        q: Quantile or quantiles, each between 0 and 1.
        censored: Count runs still at work.
        confidence: Level of the intervals that ``censored`` quantiles have.

    Returns:
        ``by`` columns, ``bucket`` (UTC start, with ``every``), ``p50_ms`` … for each quantile (``censored``: with
        ``_low`` and ``_high``), ``mean_ms``, ``max_ms``, all as in :func:`jobstats.queue_latency`; ``n`` (ended runs
        measured), ``n_excluded`` (the others that started or ended), and of these ``n_stalled`` (failed for stalling:
        the start kept is no start), ``n_torn`` (ended, without its times), ``n_unseen`` (not seen at work nor to end,
        between attempts included); ``n_running`` (at work when last seen) and ``is_estimable``. Sorted by group and
        bucket.

    Raises:
        ArgumentError: A column, time, length, quantile or level that does not exist.
        TableError: ``jobs`` is not a jobs table.

    >>> import jobstats as js
    >>> jobs, rejects = js.load("data/dump")
    >>> processing_time(jobs, q=0.5).select("p50_ms", "n", "n_excluded", "n_running").row(0)
    (329.0, 1903, 23, 9)
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
