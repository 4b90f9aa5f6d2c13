"""Records → typed columns. The only place that knows both the names of the export and those of the table."""

import json
from collections.abc import Iterable
from typing import Any

import polars as pl

from jobstats.contract import JobStatus, Refusal, Schedule
from jobstats.moments import epoch_ms
from jobstats.table import RECORD_SCHEMA

_SEEN = ("observed_at", "observed_at_source", "source")
FLAT_SCHEMA = pl.Schema({name: dtype for name, dtype in RECORD_SCHEMA.items() if name not in _SEEN})
"""What a record itself says, without where and when it was seen."""


def flatten(record: dict[str, Any], job: JobStatus) -> tuple[Any, ...]:
    """One row in the order of :data:`FLAT_SCHEMA`: the validated job, and the JSON text of what is nested.

    Raises:
        Refusal: A number in progress or in nested JSON is beyond the range of a double.
    """
    data, exported = job.data, record["data"]
    config = exported.get("scheduleConfig", exported.get("schedule_config"))
    return (
        job.id,
        job.name,
        data.org_id,
        data.user_id,
        data.connector,
        data.connector_id,
        job.state,
        job.attempts_made,
        job.failed_reason,
        job.timestamp,
        job.processed_on,
        job.finished_on,
        job.delay,
        *progress_columns(job.progress),
        *schedule_columns(config, data.schedule_config),
        epoch_ms(data.timestamp),
        json_text(data.metadata, "data.metadata"),
        json_text(_extra(job), ""),
    )


def progress_columns(progress: Any) -> tuple[float | None, float | None, float | None, str | None]:
    """Percentage, current and total of either form; other forms that BullMQ allows stay in the JSON text."""
    text = json_text(progress, "progress")
    if isinstance(progress, dict):
        return (
            _number(progress.get("percentage")),
            _number(progress.get("current")),
            _number(progress.get("total")),
            text,
        )
    return _number(progress), None, None, text


def schedule_columns(exported: Any, schedule: Schedule) -> tuple[Any, ...]:
    """What a schedule says, in either shape, with the server's defaults; and its JSON text."""
    return (
        schedule.schedule_type,
        schedule.is_enabled is not False,
        schedule.timezone or "UTC",
        schedule.cron,
        schedule.every_ms,
        None if schedule.at is None else epoch_ms(schedule.at),
        json_text(exported, "data.scheduleConfig"),
    )


def frame(rows: Iterable[tuple[Any, ...]], schema: pl.Schema = FLAT_SCHEMA) -> pl.DataFrame:
    """Rows as a frame; instants, integers until here, become UTC timestamps."""
    integers = {name: pl.Int64() if dtype.is_temporal() else dtype for name, dtype in schema.items()}
    columns = list(zip(*rows, strict=True)) or [()] * len(integers)
    series = [
        pl.Series(name, list(values), dtype=dtype, strict=True)
        for (name, dtype), values in zip(integers.items(), columns, strict=True)
    ]
    return pl.DataFrame(series).cast(schema)


def _number(value: Any) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:
        raise Refusal("progress", "progress: holds a number beyond the range of JSON readers") from None


def _extra(job: JobStatus) -> dict[str, Any] | None:
    outer, inner = job.__pydantic_extra__ or {}, job.data.__pydantic_extra__ or {}
    return (outer | ({"data": inner} if inner else {})) or None


def json_text(value: Any, field: str) -> str | None:
    """A value as compact JSON; null, which says nothing, as nothing."""
    if value is None:
        return None
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:
        raise Refusal(field, f"{field or 'record'}: holds a number beyond the range of JSON readers") from None
