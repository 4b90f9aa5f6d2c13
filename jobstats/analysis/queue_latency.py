"""How long do runs wait between being due and being started?"""

from collections.abc import Sequence
from typing import TypeVar

import narwhals as nw
import polars as pl

from jobstats.analysis.asking import STARTED, WAITING, By, answered, ask, collected, flags, returned
from jobstats.errors import ArgumentError
from jobstats.moments import Moment

Frame = TypeVar("Frame")
QUANTILES = (0.5, 0.9, 0.95, 0.99)
MEASURES = ("max_ms", "n", "n_excluded", "n_waiting")
"""The columns of the answer behind its quantiles."""


def queue_latency(
    jobs: Frame,
    *,
    by: By = None,
    every: str | None = None,
    since: Moment = None,
    until: Moment = None,
    q: float | Sequence[float] = QUANTILES,
) -> Frame:
    """Quantiles of the wait between becoming eligible and starting, by group and time of becoming eligible.

    Queue latency is *processedOn - timestamp - delay* of a run's first attempt with the delay the run was created
    with: Slurm's ``Planned`` time, from eligible to start. Only waits known exactly are in the quantiles; the others
    are counted. Quantiles interpolate linearly between order statistics (Hyndman & Fan type 7). A bound on p95
    needs 59 runs, on p99 it needs 299; with fewer, the value is merely the longest waits seen.

    Args:
        jobs: A jobs table: Polars, DuckDB or Spark.
        by: Column or columns to group by.
        every: Length of time windows, such as ``"1h"``, ``"1d"``, ``"1w"``; weeks start on Monday, days at 0:00 UTC.
        since: Only runs eligible at or after this; a datetime, ISO text or an age such as ``"7d"``.
        until: Only runs eligible before this.
        q: Quantile or quantiles, each between 0 and 1.

    Returns:
        ``by`` columns, ``bucket`` (UTC start, with ``every``), ``p50_ms`` … for each quantile, ``max_ms`` (null where
        no wait is known), ``n`` (runs measured), ``n_excluded`` (runs that started, with a wait not known exactly)
        and ``n_waiting`` (runs seen due and not started). Sorted by group and bucket.

    Raises:
        ArgumentError: A column, time, length or quantile that does not exist.
        TableError: ``jobs`` is not a jobs table.

    >>> import jobstats as js
    >>> jobs, rejects = js.load("data/dump")
    >>> queue_latency(jobs, q=[0.5, 0.95]).select("n", "n_excluded", "n_waiting").row(0)
    (1900, 35, 46)
    """
    quantiles = _quantiles(q)
    known = nw.col("queue_latency_quality") == "exact"
    asked = ask(
        jobs,
        where=STARTED | WAITING,
        at=("eligible_at", "created_at"),
        taken=(*quantiles, *MEASURES),
        by=by,
        every=every,
        since=since,
        until=until,
    )
    measured = (
        asked.runs.with_columns(
            *flags({"_excluded": STARTED & ~known, "_waiting": WAITING}),
            _wait=nw.when(known).then(nw.col("queue_latency_ms")),
        )
        .group_by(asked.keys)
        .agg(
            *(nw.col("_wait").quantile(at, interpolation="linear").alias(name) for name, at in quantiles.items()),
            nw.col("_wait").max().alias("max_ms"),
            nw.col("_wait").count().alias("n"),
            nw.col("_excluded").sum().alias("n_excluded"),
            nw.col("_waiting").sum().alias("n_waiting"),
        )
    )
    table = answered(asked, collected(measured))
    return returned(table.with_columns(pl.col(MEASURES).cast(pl.Int64)), jobs)


def _quantiles(q: float | Sequence[float]) -> dict[str, float]:
    """Each quantile by the name of its column."""
    values = [q] if isinstance(q, int | float) else list(q)
    for value in values:
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
            raise ArgumentError(f"q must hold numbers between 0 and 1, found {value!r}")
    return {quantile_column(value): value for value in values}


def quantile_column(q: float) -> str:
    """The column of a quantile.

    >>> quantile_column(0.95), quantile_column(0.999)
    ('p95_ms', 'p99_9_ms')
    """
    return f"p{q * 100:.10g}_ms".replace(".", "_")
