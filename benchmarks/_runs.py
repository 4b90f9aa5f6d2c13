"""A jobs table of any length for the benchmark of the analyses, the same in every run.

2,400 hourly schedules of 26 kinds of connectors and five organisations run for as long as it takes. Kinds and failure
texts come from the bundled dump, which a real queue wrote. 88 in 100 runs complete, 8 fail, a tenth is retried; waits
and processing times are lognormal; at the end a few still wait or are at work.
"""

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

import jobstats as js
from jobstats.parquet import described
from jobstats.table import SCHEMA

SCHEDULES = 2_400
HOUR_MS = 3_600_000
BEGIN_MS = 1_735_689_600_000
"""2025-01-01, midnight UTC."""
_ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo", "Australia/Sydney")
_AT = pl.Datetime("ms", "UTC")


def write(path: Path, runs: int) -> None:
    """Write a jobs table of about so many runs as one Parquet file, in the order of their times."""
    dump = js.load(Path(__file__).parents[1] / "data/dump").jobs
    kinds = dump["connector"].unique().sort()
    texts = dump.filter(pl.col("state") == "failed")["failed_reason"].drop_nulls().sort()
    hours = -(-runs // SCHEDULES)
    end_ms = BEGIN_MS + (hours - 1) * HOUR_MS + 59 * 60_000 + 2_000  # just after the last were due
    random = np.random.default_rng(7)
    with pq.ParquetWriter(path, described(SCHEMA), compression="zstd", compression_level=1) as writer:
        for first in range(0, hours, 800):
            piece = _piece(first, min(first + 800, hours), end_ms, kinds, texts, random)
            writer.write_table(piece.to_arrow(compat_level=pl.CompatLevel.oldest()), row_group_size=250_000)


def _piece(
    first: int, last: int, end_ms: int, kinds: pl.Series, texts: pl.Series, random: np.random.Generator
) -> pl.DataFrame:
    n = (last - first) * SCHEDULES
    schedule = np.tile(np.arange(SCHEDULES), last - first)
    due = BEGIN_MS + np.repeat(np.arange(first, last), SCHEDULES) * HOUR_MS + (schedule % 60) * 60_000
    wait = np.rint(random.lognormal(7.5, 1.2, n)).astype(np.int64)
    work = np.rint(random.lognormal(6, 1, n)).astype(np.int64)
    attempts = random.choice([1, 2, 3], n, p=[0.9, 0.06, 0.04])
    failed = random.random(n) < np.where(attempts == 3, 0.8, 0.05)
    start = due + wait
    last_start = start + (attempts - 1) * 7_000
    finish = last_start + work
    began, ended = start <= end_ms, finish <= end_ms
    raw = pl.DataFrame(
        {"s": schedule, "due": due, "start": start, "last_start": last_start, "finish": finish, "began": began}
    ).with_columns(ended=pl.Series(ended), failed=pl.Series(failed), attempts=pl.Series(attempts, dtype=pl.Int64))
    has_error = pl.col("failed") | (pl.col("attempts") > 1)
    text = pl.lit(texts).gather((pl.col("due") // 1000 + pl.col("s") * 31) % len(texts))
    zone = pl.lit(pl.Series(_ZONES)).gather(pl.col("s") % len(_ZONES))
    minute = (pl.col("s") % 60).cast(pl.String)
    key = pl.col("s").cast(pl.String).str.zfill(32)
    when_began, when_ended = pl.when("began"), pl.when("ended")
    columns = {
        "job_id": pl.format("repeat:{}:{}", key, "due"),
        "name": pl.format("crawl-{}", "s"),
        "org_id": pl.format("organisation {}", pl.col("s") % 5),
        "user_id": pl.lit("user"),
        "connector": pl.lit(kinds).gather(pl.col("s") % len(kinds)),
        "connector_id": pl.format("connector {}", "s"),
        "state": when_ended.then(pl.when("failed").then(pl.lit("failed")).otherwise(pl.lit("completed")))
        .when("began").then(pl.lit("active")).otherwise(pl.lit("prioritized")),
        "attempts_made": when_ended.then("attempts").otherwise(0),
        "failed_reason": when_ended.then(pl.when(has_error).then(text)),
        "created_at": pl.col("due") - HOUR_MS,
        "processed_at": when_began.then("last_start"),
        "finished_at": when_ended.then("finish"),
        "delay_ms": pl.lit(0),
        "progress_pct": pl.lit(50.0),
        "schedule_type": pl.lit("hourly"),
        "schedule_enabled": pl.lit(True),
        "schedule_timezone": zone,
        "schedule_cron": pl.format("{} */1 * * *", minute),
        "requested_at": pl.lit(BEGIN_MS - HOUR_MS),
        "observed_at": pl.lit(end_ms),
        "observed_at_source": pl.lit("caller"),
        "source": pl.lit("benchmark"),
        "schedule_key": key,
        "iteration_at": pl.col("due"),
        "eligible_at": pl.col("due"),
        "eligible_source": pl.lit("id_suffix"),
        "started_at": when_began.then("start"),
        "start_source": when_began.then(pl.lit("successor")),
        "queue_latency_ms": when_began.then(pl.col("start") - pl.col("due")),
        "queue_latency_quality": when_began.then(pl.lit("exact")).otherwise(pl.lit("unknown")),
        "processing_ms": when_ended.then(pl.col("finish") - pl.col("last_start")),
        "turnaround_ms": when_ended.then(pl.col("finish") - pl.col("due")),
        "attempts": when_ended.then("attempts").otherwise(0),
        "is_ended": pl.col("ended"),
        "is_retried": pl.col("attempts") > 1,
        "is_rerun_suspected": pl.lit(False),
        "is_torn": pl.lit(False),
        "is_clock_skewed": pl.lit(False),
        "is_latest": pl.lit(True),
    }  # fmt: skip
    return raw.select(columns.get(name, pl.lit(None)).cast(dtype).alias(name) for name, dtype in SCHEMA.items())
