"""How many times as long as its work does a run take, for having to wait?"""

from collections.abc import Sequence
from typing import Any, TypeVar

import narwhals as nw
import polars as pl

from jobstats.analysis.asking import HAS_STALLED, By, answered, ask, collected, flags, outcomes_are_seen, returned
from jobstats.analysis.durations import QUANTILES, quantile_columns
from jobstats.moments import Moment, length_ms

Frame = TypeVar("Frame")
_TIMED = nw.col("is_ended") & ~nw.col("processing_ms").is_null()
_IS_ONE_ATTEMPT = ~nw.col("is_retried") & ~nw.col("is_rerun_suspected") & ~HAS_STALLED
_IS_EXACT = nw.col("queue_latency_quality") == "exact"
_KNOWN = _TIMED & _IS_ONE_ATTEMPT & _IS_EXACT
_COUNTED = {
    "n": _KNOWN,
    "n_instant": _KNOWN & (nw.col("processing_ms") <= 0),
    "n_retried": _TIMED & ~_IS_ONE_ATTEMPT,
    "n_wait_unknown": _TIMED & _IS_ONE_ATTEMPT & ~_IS_EXACT,
    "n_torn": ~_TIMED,
}
COUNTS = ("n", "n_instant", "n_excluded", "n_retried", "n_wait_unknown", "n_torn")


def slowdown(
    jobs: Frame,
    *,
    by: By = None,
    every: str | None = None,
    since: Moment = None,
    until: Moment = None,
    q: float | Sequence[float] = QUANTILES,
    bound: str = "10s",
) -> Frame:
    """Quantiles of slowdown and bounded slowdown, by group and time of becoming eligible.

    Slowdown is *(wait + processing time) / processing time*: 1 for a run that did not wait. Runs of milliseconds make
    it huge, so the bounded slowdown counts none as shorter than ``bound``:
    *max(1, (wait + processing time) / max(processing time, bound))* (Feitelson, D. G. & Rudolph, L. (1998), Metrics and
    benchmarking for parallel job scheduling; 10 s is customary, and what it is must be told with the figure).

    Only ended runs of one attempt and a wait known exactly have one: of the others the record forgets how long earlier
    attempts worked. A wait below 0, which is skew of clocks, makes a slowdown below 1.

    Args:
        jobs: A jobs table: Polars, DuckDB or Spark.
        by: Column or columns to group by; ``hour`` and ``weekday`` are those of a run's time, in UTC.
        every: Length of time windows, such as ``"1h"``, ``"1d"``, ``"1w"``; weeks start on Monday, days at 0:00 UTC.
        since: Only runs eligible at or after this; a datetime, ISO text or an age such as ``"7d"``.
        until: Only runs eligible before this.
        q: Quantile or quantiles, each between 0 and 1.
        bound: What shorter runs count as, such as ``"10s"``.

    Returns:
        ``by`` columns, ``bucket`` (UTC start, with ``every``), ``p50_slowdown`` … for each quantile, ``mean_slowdown``,
        ``p50_bounded_slowdown`` …, ``mean_bounded_slowdown`` (null where nothing is measured, or outcomes are not in
        the data, see :func:`jobstats.turnaround`), ``n`` (runs measured), ``n_instant`` (of them those that took 0 ms
        or less: these have a bounded slowdown only), ``n_excluded`` (other ended runs), and of these ``n_retried``
        (several attempts, or a stall), ``n_wait_unknown``, ``n_torn`` (without their times); ``is_estimable``. Sorted
        by group and bucket.

    Raises:
        ArgumentError: A column, time, length or quantile that does not exist.
        TableError: ``jobs`` is not a jobs table.

    >>> import jobstats as js
    >>> jobs, rejects = js.load("data/dump")
    >>> slowdown(jobs, q=0.95).select(pl.col("p95_bounded_slowdown").round(2), "n", "n_instant", "n_excluded").row(0)
    (1.54, 1582, 0, 328)
    """
    quantiles = {name.removesuffix("_ms"): share for name, share in quantile_columns(q).items()}
    kinds = ("slowdown", "bounded_slowdown")
    measures = [f"{name}_{kind}" for kind in kinds for name in (*quantiles, "mean")]
    bound_ms = length_ms(bound, "bound")
    asked = ask(
        jobs,
        where=nw.col("is_ended"),
        at=("eligible_at", "created_at"),
        taken=(*measures, *COUNTS, "is_estimable"),
        by=by,
        every=every,
        since=since,
        until=until,
    )
    counts = collected(asked.runs.with_columns(*flags(_COUNTED)).group_by(asked.keys).agg(nw.col(*_COUNTED).sum()))
    known = collected(
        asked.runs.filter(_KNOWN)
        .with_columns(**_slowdowns(bound_ms))
        .group_by(asked.keys)
        .agg(
            *(
                nw.col(kind).quantile(share, interpolation="linear").alias(f"{name}_{kind}")
                for kind in kinds
                for name, share in quantiles.items()
            ),
            *(nw.col(kind).mean().alias(f"mean_{kind}") for kind in kinds),
        )
    )
    measured = counts.with_columns(n_excluded=pl.sum_horizontal(COUNTS[3:]))
    table = answered(asked, measured.join(known, on=asked.keys, how="left", nulls_equal=True))
    seen = outcomes_are_seen(jobs)
    table = table.with_columns(
        pl.col(COUNTS).cast(pl.Int64), pl.when(seen).then(pl.col(measures)), is_estimable=pl.lit(seen)
    )
    return returned(table.select(*asked.shown, *measures, *COUNTS, "is_estimable"), jobs)


def _slowdowns(bound_ms: int) -> dict[str, Any]:
    wait, work = nw.col("queue_latency_ms").cast(nw.Float64), nw.col("processing_ms").cast(nw.Float64)
    at_least = nw.when(work > bound_ms).then(work).otherwise(float(bound_ms))
    bounded = (wait + work) / at_least
    return {
        "slowdown": (wait + work) / nw.when(work > 0).then(work),
        "bounded_slowdown": nw.when(bounded > 1).then(bounded).otherwise(1.0),
    }
