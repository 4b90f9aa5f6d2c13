"""How many runs wait, and for how long has the first of them waited?"""

from typing import TypeVar

import narwhals as nw

from jobstats.analysis.asking import STARTED, WAITING, By, returned
from jobstats.analysis.levels import Place, levels
from jobstats.moments import Moment

Frame = TypeVar("Frame")
QUEUE = Place(
    name="waiting",
    where=STARTED | nw.col("is_ended") | ~nw.col("eligible_at").is_null(),
    is_known=nw.col("queue_latency_quality") == "exact",
    is_open=WAITING,
    entered_at="eligible_at",
    left_at="started_at",
    oldest="oldest_wait_ms",
    at=["eligible_at", "started_at", "finished_at", "created_at"],
    n_entered="n_arrived",
    n_left="n_started",
    marks={},
)


def backlog(
    jobs: Frame, *, by: By = None, every: str | None = None, since: Moment = None, until: Moment = None
) -> Frame:
    """How many runs were due and had not started: the highest, the mean, and the ends of each window.

    The backlog is the number of runs in the queue of queueing theory: a run is in it from the moment it is eligible
    to its first start. With no one waiting at either end of a window, the area under it is the sum of the waits:
    Little, J. D. C. (1961), A proof for the queuing formula L = λW.

    Counted are the waits of :func:`jobstats.queue_latency`, which are known exactly, and runs that were due and had
    not started when last seen. A run seen in the newest observation waits to the end of what the data cover; any other
    to its own last observation, and how it left is not known (``n_unseen``). Runs that were due and may have waited,
    nobody knows for how long, are counted in ``n_unknown`` and have no time in the backlog: where there are some it is
    a floor, and each adds at most 1. A run that starts before it is due, by a difference of clocks or because someone
    promoted it, arrives when it starts and has no wait. A retry that waits for a worker again leaves no trace in a
    record, so only the wait before the first start counts.

    What the data cover begins with the first run due that they hold. Servers forget runs that ended: what the first
    export does not show is in no level.

    Args:
        jobs: A jobs table: Polars, DuckDB or Spark.
        by: Column or columns to group by.
        every: Length of time windows, such as ``"1h"``, ``"1d"``, ``"1w"``; weeks start on Monday, days at 0:00 UTC.
            Without it, all the time is one window.
        since: Start of what is asked for; a datetime, ISO text or an age such as ``"7d"``. Runs that were due before
            and still waited then count.
        until: End of what is asked for.

    Returns:
        ``by`` columns, ``bucket`` (UTC start, with ``every``), ``max_waiting``, ``mean_waiting`` (over the time
        covered), ``waiting_at_start`` (just before the window), ``waiting_at_end``, ``oldest_wait_ms`` (at the end,
        how long the run has waited that was due first; null where none waits), ``covered_ms`` (the part of the window
        that is within ``since`` and ``until`` and that the data cover), ``n_arrived`` (became eligible), ``n_started``,
        ``n_unseen`` (last seen waiting), ``n_unknown`` (due, wait not known) and ``is_partial`` (not all of the window
        is covered). What waits at the end is what waited at the start and ``n_arrived - n_started - n_unseen``.
        Where nothing is covered, all before ``covered_ms`` is null. Sorted by group and bucket.

    Raises:
        ArgumentError: A column, time or length that does not exist, or too many windows.
        TableError: ``jobs`` is not a jobs table.

    >>> import jobstats as js
    >>> jobs, rejects = js.load("data/dump")
    >>> backlog(jobs, every="1m").select("max_waiting", "waiting_at_end", "n_arrived", "n_started").rows()[-2:]
    [(108, 0, 377, 377), (96, 46, 170, 124)]
    """
    return returned(levels(jobs, QUEUE, by=by, every=every, since=since, until=until), jobs)
