"""The jobs table: every column with its type, unit and meaning.

This is the single declaration. The loader builds frames from it, Parquet files carry its descriptions, the
documentation is printed from it. Instants end in ``_at`` (UTC, milliseconds), lengths in ``_ms`` (integers, exact
on every engine), booleans start with ``is_``.
"""

from typing import NamedTuple

import polars as pl

from jobstats.errors import TableError

FORMAT_VERSION = 2
"""Version of the jobs table, written into every Parquet file. A reader refuses a newer one.

Version 2 added the parts of a store; a jobs table is the same in 1 and 2."""

_AT = pl.Datetime("ms", "UTC")


class Column(NamedTuple):
    """One column of the jobs table."""

    name: str
    dtype: pl.DataType | type[pl.DataType]
    unit: str
    description: str


RECORD_COLUMNS = (
    Column("job_id", pl.String, "", "id of the job; null when the export had none"),
    Column("name", pl.String, "", "name of the job, as exported"),
    Column("org_id", pl.String, "", "organisation that owns the connector"),
    Column("user_id", pl.String, "", "user who made the schedule"),
    Column("connector", pl.String, "", "kind of connector, such as Drive or SharePoint Online"),
    Column("connector_id", pl.String, "", "instance of the connector; null from servers before December 2025"),
    Column("state", pl.String, "", "state as exported; read a moment after the other fields"),
    Column(
        "attempts_made", pl.Int64, "attempts", "attempts that had ended, as exported; a stalled attempt is not counted"
    ),
    Column("failed_reason", pl.String, "", "message of the last error, as exported; survives a later success"),
    Column("created_at", _AT, "UTC", "timestamp: when the job was put into the queue, mostly long before it was due"),
    Column("processed_at", _AT, "UTC", "processedOn: start of the latest attempt"),
    Column("finished_at", _AT, "UTC", "finishedOn: end of the final attempt"),
    Column("delay_ms", pl.Int64, "ms", "current delay, as exported: 0 once promoted, the backoff while a retry waits"),
    Column("progress_pct", pl.Float64, "percent", "progress as a number, or its percentage"),
    Column("progress_current", pl.Float64, "items", "progress.current"),
    Column("progress_total", pl.Float64, "items", "progress.total"),
    Column("progress_json", pl.String, "JSON", "progress as exported, whatever its form"),
    Column(
        "schedule_type", pl.String, "", "hourly, daily, weekly, monthly, custom, once, interval, or an unknown type"
    ),
    Column("schedule_enabled", pl.Boolean, "", "isEnabled; true when not said, as on the server"),
    Column("schedule_timezone", pl.String, "IANA", "time zone of the schedule; UTC when not said, as on the server"),
    Column("schedule_cron", pl.String, "cron", "cron expression as the server builds it; null for once and interval"),
    Column("schedule_every_ms", pl.Int64, "ms", "interval between runs; null for all other types"),
    Column("schedule_at", _AT, "UTC", "time of a one-time schedule; null for all other types"),
    Column("schedule_json", pl.String, "JSON", "scheduleConfig as exported, either shape"),
    Column("requested_at", _AT, "UTC", "data.timestamp: when the schedule was made, the same in all its runs"),
    Column("metadata_json", pl.String, "JSON", "data.metadata as exported"),
    Column(
        "extra_json", pl.String, "JSON", "keys outside the contract, from the record and (under data) from its data"
    ),
    Column("observed_at", _AT, "UTC", "when the record was seen; null when nothing says"),
    Column("observed_at_source", pl.String, "", "caller, file_name, file_mtime, or null"),
    Column("source", pl.String, "", "file the record came from, or the kind of object"),
)
"""What a record says, and where and when it was seen."""

TIME_COLUMNS = (
    Column("schedule_key", pl.String, "", "schedule half of a repeat: id; null otherwise"),
    Column("iteration_at", _AT, "UTC", "nominal fire time, the other half of a repeat: id; null otherwise"),
    Column("eligible_at", _AT, "UTC", "when the run could first start; null when unknown"),
    Column("eligible_source", pl.String, "", "evidence for eligible_at, see jobstats.timing"),
    Column("started_at", _AT, "UTC", "first start of the run; null when it has not started"),
    Column("start_source", pl.String, "", "evidence for started_at, see jobstats.timing"),
    Column("queue_latency_ms", pl.Int64, "ms", "started_at - eligible_at; null when either is unknown"),
    Column("queue_latency_quality", pl.String, "", "exact, upper_bound, gap_or_late, last_attempt_only, unknown"),
    Column("queue_latency_literal_ms", pl.Int64, "ms", "processedOn - timestamp - delay with the delay as exported"),
    Column("processing_ms", pl.Int64, "ms", "finished_at - processed_at: the last attempt only"),
    Column("turnaround_ms", pl.Int64, "ms", "finished_at - eligible_at"),
    Column("attempts", pl.Int64, "attempts", "attempts that have ended, at least 1 for an ended run"),
    Column("is_ended", pl.Boolean, "", "completed or failed"),
    Column("is_retried", pl.Boolean, "", "more than one attempt, ended or under way"),
    Column("is_rerun_suspected", pl.Boolean, "", "started more often than its attempts say: a stall"),
    Column("is_torn", pl.Boolean, "", "state contradicts the other fields: trust these for times"),
    Column("is_clock_skewed", pl.Boolean, "", "starts before it is eligible or ends before it starts"),
    Column("is_latest", pl.Boolean, "", "newest observation of its run; analyses count these rows only"),
)
"""What the loader concludes from all records together; see :mod:`jobstats.timing`."""

SERIES_COLUMNS = (
    Column("n_observations", pl.Int64, "times", "at how many different times the run was seen"),
    Column("first_seen_at", _AT, "UTC", "first time it was seen; null when nothing says"),
    Column("last_seen_at", _AT, "UTC", "last time it was seen; null when nothing says"),
    Column("n_starts", pl.Int64, "starts", "different starts known of: no more than there were"),
    Column("outcome", pl.String, "", "completed, failed, or ended_unseen (inferred, see jobstats.ends); else null"),
    Column("ended_after_at", _AT, "UTC", "of a run that ended unseen: it had not ended before this"),
    Column("ended_before_at", _AT, "UTC", "of a run that ended unseen: it had ended by this"),
    Column("is_failure_ruled_out", pl.Boolean, "", "ended unseen, and would have been listed had it failed; else null"),
    Column("is_retry_ruled_out", pl.Boolean, "", "ended unseen, too soon for a second attempt; else null"),
)
"""What only a series of observations says; see :mod:`jobstats.ends`."""

COLUMNS = RECORD_COLUMNS + TIME_COLUMNS
HISTORY_COLUMNS = COLUMNS + SERIES_COLUMNS
RECORD_SCHEMA = pl.Schema({column.name: column.dtype for column in RECORD_COLUMNS})
SCHEMA = pl.Schema({column.name: column.dtype for column in COLUMNS})
HISTORY_SCHEMA = pl.Schema({column.name: column.dtype for column in HISTORY_COLUMNS})
FILE = pl.col("source").str.extract(r"([^/\\]*?)(?:\.gz|\.zst)?$")
"""The file that a record was found in, wherever it lies and whether or not it is compressed."""
OBSERVATION = [*(name for name in RECORD_SCHEMA if name != "source"), FILE]
"""What makes an observation: what the record said, when it was seen, and in which file."""
RUN_KEY = ("org_id", "job_id", "created_at")
"""Identity of a run. The id alone is not enough: BullMQ uses the id of a one-time job again."""


def describe() -> pl.DataFrame:
    """The columns of the jobs table and of a history with type, unit and meaning.

    Returns:
        ``column``, ``type``, ``unit``, ``description``, ``tables`` (``jobs, history``, or ``history`` alone); one row a
        column, in table order.

    >>> describe().row(6)
    ('state', 'String', '', 'state as exported; read a moment after the other fields', 'jobs, history')
    """
    rows = [
        (column.name, str(column.dtype), column.unit, column.description, tables)
        for columns, tables in ((COLUMNS, "jobs, history"), (SERIES_COLUMNS, "history"))
        for column in columns
    ]
    return pl.DataFrame(rows, schema=["column", "type", "unit", "description", "tables"], orient="row")


def check_columns(names: list[str], source: str, schema: pl.Schema = SCHEMA, kind: str = "a jobs table") -> None:
    """Raise a TableError that names what a table of this kind has and this frame lacks."""
    if missing := [name for name in schema if name not in names]:
        shown = ", ".join(missing[:4]) + (" …" if len(missing) > 4 else "")
        raise TableError(f"{source}: not {kind}, it lacks {shown}; load the export with jobstats first")
