"""Jobs tables made quickly, with failures in bursts and waits that a whole queue shares."""

import numpy as np
import polars as pl

from jobstats.table import SCHEMA

from ..factories import T0

DAY = 86_400_000
SINCE = "2026-12-21"
"""Four weeks after the first day."""
_MIDNIGHT = T0 - T0 % DAY


def table(**columns) -> pl.DataFrame:
    """A jobs table of ended runs with these columns: times in ms, the rest as usual."""
    n = len(columns["at"])
    at = pl.Series(columns.pop("at"), dtype=pl.Int64)
    failed = pl.Series(columns.pop("failed", [False] * n), dtype=pl.Boolean)
    wait = pl.Series(columns.pop("wait", [100] * n), dtype=pl.Int64)
    usual = {
        "job_id": [str(i) for i in range(n)],
        "org_id": ["o"] * n,
        "connector": ["Drive"] * n,
        "schedule_type": ["daily"] * n,
        "schedule_timezone": ["UTC"] * n,
        "attempts": [1] * n,
        "is_retried": [False] * n,
        "processing_ms": [1_000] * n,
    }
    frame = pl.DataFrame({name: columns.get(name, values) for name, values in usual.items()} | columns).with_columns(
        *(_instant(at).alias(name) for name in ("created_at", "eligible_at", "started_at", "processed_at")),
        _instant(at + 1_000).alias("finished_at"),
        pl.when(failed).then(pl.lit("failed")).otherwise(pl.lit("completed")).alias("state"),
        wait.alias("queue_latency_ms"),
        pl.lit("exact").alias("queue_latency_quality"),
        pl.lit(True).alias("is_ended"),
        pl.lit(True).alias("is_latest"),
        pl.when(failed).then(pl.lit("Request failed with status code 500")).alias("failed_reason"),
    )
    missing = [pl.lit(None).alias(name) for name in SCHEMA if name not in frame.columns]
    return frame.with_columns(missing).select(SCHEMA.names()).cast(dict(SCHEMA))


def _instant(at: pl.Series) -> pl.Series:
    return at.cast(pl.Datetime("ms")).dt.replace_time_zone("UTC")


def fleet(
    seed, *, connectors=30, days=35, daily=12, base=0.05, burst=0.03, incident=0.0, more=0.0, bad=None, unlike=0.7
) -> pl.DataFrame:
    """Connectors of five kinds and six organisations that fail in bursts, all of them on days with an incident.

    From the 28th day on ``more`` of the runs fail. ``bad`` is a kind of connector that fails in 0.3 more of its runs.
    ``unlike`` is how much connectors differ for good.
    """
    rng = np.random.default_rng(seed)
    runs = rng.poisson(rng.lognormal(np.log(daily), 0.8, connectors)[:, None] * np.ones(days))
    kind, org = np.arange(connectors) % 5, rng.integers(0, 6, connectors)
    rate = np.clip(base * rng.lognormal(0, unlike, connectors), 0, 1)[:, None] * np.ones(days)
    rate = np.where(rng.random((connectors, days)) < burst, 0.9, rate)
    rate = np.maximum(rate, np.where(rng.random(days) < incident, 0.5, 0)[None, :])
    rate[:, 28:] += more
    if bad is not None:
        rate[kind == bad] += 0.3
    connector, day = (np.repeat(index.ravel(), runs.ravel()) for index in np.indices(runs.shape))
    queue = np.exp(0.8 * rng.standard_normal(days * 24))  # how busy the whole queue is, by the hour
    at = _MIDNIGHT + day * DAY + rng.integers(0, DAY, len(day))
    wait = 1_000 * queue[((at - _MIDNIGHT) // 3_600_000)] * rng.lognormal(0, 0.5, len(day))
    return table(
        at=at,
        wait=wait.astype(int),
        failed=rng.random(len(day)) < rate[connector, day],
        connector=[f"kind {kind[i]}" for i in connector],
        connector_id=[f"c{i}" for i in connector],
        org_id=[f"o{org[i]}" for i in connector],
    )
