"""How many runs run at the same time, and how many end?"""

from typing import TypeVar

import narwhals as nw

from jobstats.analysis.asking import STARTED, By, returned
from jobstats.analysis.levels import Place, levels
from jobstats.moments import Moment

Frame = TypeVar("Frame")
_PROCESSED, _FINISHED = ~nw.col("processed_at").is_null(), ~nw.col("finished_at").is_null()
_AT_WORK = (nw.col("delay_ms").is_null() | (nw.col("delay_ms") <= 0)) & (
    # The state is read last: a run that had ended by then was at work when its times were read.
    (nw.col("state") == "active") | nw.col("is_ended")
)
WORKERS = Place(
    name="running",
    where=STARTED | nw.col("is_ended"),
    is_known=_PROCESSED & _FINISHED,
    is_open=_PROCESSED & ~_FINISHED & _AT_WORK,
    entered_at="processed_at",
    left_at="finished_at",
    oldest="oldest_run_ms",
    at=["processed_at", "started_at", "finished_at", "created_at"],
    n_entered="n_started",
    n_left="n_ended",
    marks={"n_retried": nw.col("is_retried") | nw.col("is_rerun_suspected")},
)


def concurrency(
    jobs: Frame, *, by: By = None, every: str | None = None, since: Moment = None, until: Moment = None
) -> Frame:
    """How many runs ran at once: the highest, the mean, and the ends of each window; with throughput.

    A run is running from *processedOn* to *finishedOn*. Of a run that was started more than once that is its last
    attempt: where the earlier ones began and ended is not recorded. It would be no better to count such a run from its
    first start, for between attempts it waits, mostly for longer than it works. So the level is a floor, and
    ``n_retried`` says of how many runs it lacks something.

    A run at work when last seen runs to the end of what the data cover if it was seen in the newest observation, and
    else to its own last one; how it went on is not known (``n_unseen``). Runs that ran at a time not known are counted
    in ``n_unknown``: those that wait for another attempt, and those whose start only the next run of their schedule
    shows. Most runs are of this kind in answers of today's server, which does not list completed runs: there the
    level tells little, and ``n_ended`` no throughput.

    An export is not read at one instant, so at its time a run or two more than there are workers may seem to run.

    Args:
        jobs: A jobs table: Polars, DuckDB or Spark.
        by: Column or columns to group by.
        every: Length of time windows, such as ``"1h"``, ``"1d"``, ``"1w"``; weeks start on Monday, days at 0:00 UTC.
            Without it, all the time is one window.
        since: Start of what is asked for; a datetime, ISO text or an age such as ``"7d"``. Runs that started before
            and were still running then count.
        until: End of what is asked for.

    Returns:
        ``by`` columns, ``bucket`` (UTC start, with ``every``), ``max_running``, ``mean_running`` (over the time
        covered), ``running_at_start`` (just before the window), ``running_at_end``, ``oldest_run_ms`` (at the end, for
        how long the attempt has run that began first; null where none runs), ``covered_ms`` (the part of the window
        that is within ``since`` and ``until`` and that the data cover), ``n_started`` (last attempts that began),
        ``n_ended`` (throughput), ``n_retried`` (of those started: not the first attempt), ``n_unseen`` (last seen
        running), ``n_unknown`` (ran, time not known) and ``is_partial`` (not all of the window is covered). What runs
        at the end is what ran at the start and ``n_started - n_ended - n_unseen``. Where nothing is covered, all before
        ``covered_ms`` is null. Sorted by group and bucket.

    Raises:
        ArgumentError: A column, time or length that does not exist, or too many windows.
        TableError: ``jobs`` is not a jobs table.

    >>> import jobstats as js
    >>> jobs, rejects = js.load("data/dump")
    >>> concurrency(jobs, every="1m").select("max_running", "n_started", "n_ended", "n_retried").rows()[1:3]
    [(10, 258, 258, 37), (10, 392, 392, 73)]
    """
    return returned(levels(jobs, WORKERS, by=by, every=every, since=since, until=until), jobs)
