"""How long is too long: bounds from what runs of the same connector took, and from when a schedule fires next.

A bound of a history is p90 x (p90 / p50)², which is median + 3 x (p90 - median) on the scale of orders of magnitude.
Durations are nearly symmetric on that scale, and up to a tenth of them may be stuck ones without moving it. Tukey's
outer fence (Tukey, J. W. (1977), Exploratory Data Analysis) does the same from both quartiles; here the lower half is
left out, since runs that fail at once say nothing of how long a run may take, and would widen the bound.
"""

from typing import Any

import narwhals as nw
import polars as pl

from jobstats.analysis.asking import HAS_STALLED, collected
from jobstats.firing import fire_times
from jobstats.moments import UNITS, epoch_ms

FLOOR_MS = 60_000
"""No bound is shorter. BullMQ needs up to a minute to see by itself that a worker is gone: its lock lasts 30 s, and
expired locks are looked for every 30 s."""
FEWEST = 10
"""With fewer runs, p90 is merely the longest of them."""
REACH = 2
"""How often the way from p50 to p90 is gone beyond p90. On the bundled dump, bounds from the first half of the runs
flag, without the floor, 1 of 245 in the second half by connector instance, none of 826 by kind and of 952 by all. A
reach of 1 flags 10, 5 and 2; a reach of 3 none, with bounds four times as wide."""

_LEVELS = {"connector_id": ("org_id", "connector_id"), "connector": ("connector",), "all": ()}
_BOUND = pl.Schema({"bound_ms": pl.Int64, "bound_of": pl.String, "n_history": pl.Int64})
_LONGEST_MS = 2.0**53
_HORIZONS_MS = (UNITS["h"], *(days * UNITS["d"] for days in (2, 8, 32, 367, 1_830)))
"""How far ahead the next fire of a cron is looked for, one after another."""
_FIRE = ("schedule_cron", "schedule_timezone", "eligible_at")
_AFTER_MS = 1_000
"""A due time may lie a moment before the fire it stands for; crons of five fields fire at most every minute."""

# What BullMQ failed by itself did not run: its last start is a phantom.
RAN = nw.when(nw.col("is_ended") & ~HAS_STALLED).then(nw.col("processing_ms"))
"""How long an ended run took, in its last attempt."""
WAITED = nw.when(nw.col("queue_latency_quality") == "exact").then(nw.col("queue_latency_ms"))
"""How long a run waited, where that is known exactly."""


def bounded(runs: pl.DataFrame, frame: Any, took: Any) -> pl.DataFrame:
    """Runs with ``bound_ms``, ``bound_of`` and ``n_history`` of the nearest history that is long enough, or null.

    Args:
        runs: Runs to bound, few.
        frame: All runs, as :func:`~jobstats.analysis.asking.opened` makes it. Only the histories that are needed are
            looked into, so most often none of all runs.
        took: :data:`RAN` or :data:`WAITED`.
    """
    done = []
    for level, keys in _LEVELS.items():
        if runs.is_empty():
            break
        known = _histories(frame, took, runs, keys).with_columns(bound_of=pl.lit(level))
        found = runs.join(known, on=keys, how="left") if keys else runs.join(known, how="cross")
        is_known = (pl.col("n_history") >= FEWEST).fill_null(False)
        done.append(found.filter(is_known))
        runs = found.filter(~is_known).select(runs.columns)
    unknown = runs.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in _BOUND.items())
    return pl.concat([*done, unknown], how="diagonal").select(*runs.columns, *_BOUND)


def _histories(frame: Any, took: Any, runs: pl.DataFrame, keys: tuple[str, ...]) -> pl.DataFrame:
    """The bounds of the histories that share these keys with some of the runs."""
    of_these = [nw.col(key).is_in(runs[key].drop_nulls().unique().to_list()) for key in keys]
    past = frame.filter(nw.col("is_latest"), *of_these).with_columns(_took=took)
    measures = [nw.col("_took").count().alias("n")]
    measures += [nw.col("_took").quantile(q, interpolation="linear").alias(p) for p, q in (("p50", 0.5), ("p90", 0.9))]
    measured = collected(past.group_by(*keys).agg(*measures) if keys else past.select(*measures))
    # A time of 0 is one below the tick of the clock, and has no order of magnitude.
    p50, p90 = pl.col("p50").clip(1), pl.col("p90").clip(1)
    bound = (p90 * (p90 / p50) ** REACH).clip(FLOOR_MS, _LONGEST_MS).round().cast(pl.Int64)
    return measured.select(*keys, bound_ms=bound, n_history=pl.col("n").cast(pl.Int64))


def intervals(runs: pl.DataFrame) -> pl.DataFrame:
    """Runs with ``interval_ms``: from their due time to the next of their schedule; null where there is none."""
    is_cron = pl.col("schedule_cron").is_not_null() & pl.col("eligible_at").is_not_null()
    fires = runs.filter(is_cron).select(_FIRE).unique()
    gaps = pl.Series([_until_next(cron, zone, epoch_ms(due)) for cron, zone, due in fires.rows()], dtype=pl.Int64)
    known = runs.join(fires.with_columns(_gap_ms=gaps), on=_FIRE, how="left", nulls_equal=True)
    interval = pl.coalesce("schedule_every_ms", "_gap_ms").clip(FLOOR_MS)
    return known.with_columns(interval_ms=interval).drop("_gap_ms")


def _until_next(cron: str, timezone: str, due_ms: int) -> int | None:
    begin = due_ms + _AFTER_MS
    for horizon in _HORIZONS_MS:
        fires = fire_times(cron, timezone, begin, begin + horizon)
        if fires is None:
            return None
        if fires:
            return fires[0] - due_ms
    return None
