"""How long do runs wait between being due and being started?"""

from collections.abc import Sequence
from typing import TypeVar

import narwhals as nw

from jobstats.analysis.asking import STARTED, WAITING, By
from jobstats.analysis.durations import QUANTILES, Lengths, summarised
from jobstats.moments import Moment

Frame = TypeVar("Frame")
_QUALITY = nw.col("queue_latency_quality")
LENGTHS = Lengths(
    where=STARTED | WAITING,
    at=("eligible_at", "created_at"),
    column="queue_latency_ms",
    known=STARTED & (_QUALITY == "exact"),
    left_out={
        "n_upper_bound": STARTED & (_QUALITY == "upper_bound"),
        "n_gap": STARTED & (_QUALITY == "gap_or_late"),
        "n_last_attempt": STARTED & (_QUALITY == "last_attempt_only"),
        "n_unknown": STARTED & (_QUALITY == "unknown"),
    },
    open=("n_waiting", WAITING),
    begin="eligible_at",
    begins=nw.col("eligible_source") != "id_suffix_lower_bound",
    to_end=False,
)


def queue_latency(
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
    """Quantiles of the wait between becoming eligible and starting, by group and time of becoming eligible.

    Queue latency is *processedOn - timestamp - delay* of a run's first attempt with the delay the run was created
    with: Slurm's ``Planned`` time, from eligible to start. Only waits known exactly are in the quantiles; the others
    are counted. Quantiles interpolate linearly between order statistics (Hyndman & Fan type 7). A bound on p95
    needs 59 runs, on p99 it needs 299; with fewer, the value is merely the longest waits seen.

    Runs that still wait are in no quantile, which flatters a queue that is stuck. With ``censored`` they count as
    waits at least as long as they were last seen to be, and quantiles are those of the product-limit estimate with
    their intervals (:mod:`jobstats.analysis.durations`): the shortest wait after which a share of at least q had
    started, null where so many have not.

    Args:
        jobs: A jobs table: Polars, DuckDB or Spark.
        by: Column or columns to group by; ``hour`` and ``weekday`` are those of a run's time, in UTC.
        every: Length of time windows, such as ``"1h"``, ``"1d"``, ``"1w"``; weeks start on Monday, days at 0:00 UTC.
        since: Only runs eligible at or after this; a datetime, ISO text or an age such as ``"7d"``.
        until: Only runs eligible before this.
        q: Quantile or quantiles, each between 0 and 1.
        censored: Count runs that still wait.
        confidence: Level of the intervals that ``censored`` quantiles have.

    Returns:
        ``by`` columns, ``bucket`` (UTC start, with ``every``), ``p50_ms`` … for each quantile (``censored``: with
        ``_low`` and ``_high``, null where not known), ``mean_ms``, ``max_ms`` (null where no wait is known;
        ``censored``: mean of the estimate, null where the longest wait has not ended, and the longest wait seen), ``n``
        (runs measured), ``n_excluded`` (runs that started, with a wait not known exactly), and of these
        ``n_upper_bound`` (at most so long: due time or a start is not fully known), ``n_gap`` (may span a missing run),
        ``n_last_attempt`` (only the last start is known), ``n_unknown`` (no due time that holds); ``n_waiting`` (runs
        seen due and not started). Sorted by group and bucket.

    Raises:
        ArgumentError: A column, time, length, quantile or level that does not exist.
        TableError: ``jobs`` is not a jobs table.

    >>> import jobstats as js
    >>> jobs, rejects = js.load("data/dump")
    >>> queue_latency(jobs, q=[0.5, 0.95]).select("n", "n_excluded", "n_waiting").row(0)
    (1900, 35, 46)
    >>> queue_latency(jobs, q=0.95, censored=True).select("p95_ms", "p95_ms_low", "p95_ms_high").row(0)
    (15080.0, 14455.0, 15282.0)
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
