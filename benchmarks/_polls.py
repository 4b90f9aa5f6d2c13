"""A year of polls of a queue, day by day, as the frames that loading them would give: the same for the same seed.

A thousand schedules of a hundred organisations run every hour and are polled every ten minutes, the way today's server
answers: each list shows a schedule's next run, and what failed a little while ago, and no run that has completed. That
is 147,000 observations a day of 24,000 runs.
"""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from jobstats.table import RECORD_SCHEMA

SCHEDULES, PER_ORG, POLLS_A_DAY = 1_000, 10, 144
FIRST_DAY = datetime(2025, 11, 23, tzinfo=UTC)
_HOUR, _POLL = 3_600_000, 600_000
_CONNECTORS = ("Drive", "Gmail", "Slack", "Jira", "Confluence")
_REASONS = ("Invalid Credentials", "User Rate Limit Exceeded", "socket hang up", "Request failed with status code 429")


def day(number: int) -> pl.DataFrame:
    """The observations of one day, numbered from 0."""
    begun = int((FIRST_DAY + timedelta(days=number)).timestamp() * 1000)
    schedule = np.tile(np.arange(SCHEDULES), POLLS_A_DAY)
    poll = begun + np.repeat(np.arange(POLLS_A_DAY), SCHEDULES) * _POLL + schedule // PER_ORG * 37
    offset = schedule * 3_571 % _HOUR
    run = (poll - offset) // _HOUR + 1  # the next one that is due
    pending = _runs(schedule, run, poll, offset)
    failed = _runs(schedule, run - 1, poll, offset).filter(
        pl.col("_is_failed"),
        pl.col("observed_at") - pl.col("_finished") < 20 * 60_000,
        pl.col("_finished") < pl.col("observed_at"),
    )
    listed = pl.concat(
        [
            pending.with_columns(
                delay_ms=pl.col("_due") - pl.col("created_at"),
                attempts_made=pl.lit(0, pl.Int64),
                state=pl.lit("delayed"),
                processed_at=pl.lit(None, pl.Int64),
                finished_at=pl.lit(None, pl.Int64),
                failed_reason=pl.lit(None, pl.String),
            ),
            failed.with_columns(
                delay_ms=pl.lit(0, pl.Int64),
                attempts_made=pl.lit(3, pl.Int64),
                state=pl.lit("failed"),
                processed_at="_processed",
                finished_at="_finished",
                failed_reason=pl.lit(pl.Series(_REASONS)).gather((pl.col("_draw") % len(_REASONS)).cast(pl.UInt32)),
            ),
        ]
    )
    number_ = pl.col("_schedule")
    connector = pl.lit(pl.Series(_CONNECTORS)).gather((number_ % len(_CONNECTORS)).cast(pl.UInt32))
    connector_id = pl.format("00000000-0000-4000-8000-{}", number_.cast(pl.String).str.zfill(12))
    rows = listed.with_columns(
        job_id=pl.format("repeat:{}:{}", number_.cast(pl.String).str.zfill(32), "_due"),
        connector=connector,
        connector_id=connector_id,
        name=pl.format("crawl-{}-{}", connector.str.to_lowercase(), connector_id),
        org_id=pl.format("69de15251f3f3480bf{}", (number_ // PER_ORG).cast(pl.String).str.zfill(6)),
        user_id=pl.lit("69de15251f3f3480bf27efc2"),
        progress_pct=0.0,
        progress_json=pl.lit("0"),
        schedule_type=pl.lit("hourly"),
        schedule_enabled=True,
        schedule_timezone=pl.lit("UTC"),
        schedule_cron=pl.format("{} * * * *", number_ * 3_571 % _HOUR // 60_000),
        schedule_json=pl.lit('{"scheduleType":"hourly","isEnabled":true,"timezone":"UTC","minute":0,"interval":1}'),
        requested_at=pl.lit(FIRST_DAY - timedelta(days=3)),
        observed_at_source=pl.lit("file_name"),
        source=pl.format("polls/{}.json", "observed_at"),
    )
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in RECORD_SCHEMA.items() if name not in rows.columns]
    return rows.with_columns(missing).select(RECORD_SCHEMA.names()).cast(RECORD_SCHEMA)


def _runs(schedule: np.ndarray, run: np.ndarray, poll: np.ndarray, offset: np.ndarray) -> pl.DataFrame:
    """What happens to runs, drawn from their numbers: created when the one before starts, due on the hour."""

    def wait(numbers: np.ndarray) -> np.ndarray:
        return 20 + _draw(schedule, numbers) % 997

    due, draw = run * _HOUR + offset, _draw(schedule, run)
    return pl.DataFrame(
        {
            "_schedule": schedule,
            "_due": due,
            "_draw": draw,
            "_is_failed": draw % 11 == 0,
            "created_at": due - _HOUR + wait(run - 1),
            "_processed": due + wait(run) + 16_000,
            "_finished": due + wait(run) + 16_900,
            "observed_at": poll,
        }
    )


def _draw(schedule: np.ndarray, run: np.ndarray) -> np.ndarray:
    """A number that looks random, the same for the same run."""
    mixed = (run.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) ^ (
        schedule.astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
    )
    return ((mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9) >> np.uint64(33)).astype(np.int64)
