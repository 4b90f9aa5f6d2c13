"""What each record says by itself: the halves of its id, its flags, and the facts that conclusions rest on.

Nothing here looks at a second record, so records may come in batches; :mod:`jobstats.timing` concludes from the facts
of all of them. Facts are narrow, with times as integers, and can be kept apart by schedule.
"""

from dataclasses import dataclass

import polars as pl

from jobstats.moments import LAST_MS
from jobstats.table import OBSERVATION, SCHEMA

FIRST_RUN_MS = 1_500
"""A schedule's first run is created at most this long after the schedule was requested, and has no offset."""
OFFSET_NOISE_MS = 2
"""Observed offsets of one schedule agree within this, and a server without offsets shows none above it."""
STALLED = "job stalled more than allowable limit"
"""BullMQ's own failure: the job was started several times, and the record keeps only the last, a phantom."""

_REPEAT = "repeat:"
_MILLIS_DIGITS = 13
_CRON_FIELDS = 5


def _ms(name: str) -> pl.Expr:
    return pl.col(name).to_physical()


@dataclass(frozen=True)
class Evidence:
    """Later runs of interval schedules that were seen pending: how many are due after their slot, how many at it.

    A server adds offsets to all such schedules or to none, so the evidence of all runs, added up, is needed before
    anything is concluded from a part of them. Runs count, not records: how often one was seen says nothing.
    """

    n_above: int = 0
    n_within: int = 0

    def __add__(self, other: "Evidence") -> "Evidence":
        return Evidence(self.n_above + other.n_above, self.n_within + other.n_within)

    @property
    def adds_offsets(self) -> bool:
        """Most wait longer than their slot says."""
        return self.n_above > self.n_within

    @property
    def adds_none(self) -> bool:
        """Some were seen, and none waits longer."""
        return self.n_within > 0 and self.n_above == 0


def add_own(records: pl.DataFrame) -> pl.DataFrame:
    """Records with those derived columns that rest on the record alone."""
    own = records.lazy().with_columns(
        *_halves_of_id(),
        *_flags(),
        queue_latency_literal_ms=_ms("processed_at") - _ms("created_at") - pl.col("delay_ms").fill_null(0),
        processing_ms=_ms("finished_at") - _ms("processed_at"),
    )
    return own.collect()  # lazy, so that what several columns share is worked out once


def _halves_of_id() -> list[pl.Expr]:
    """The halves of a ``repeat:<key>:<millis>`` id, null for other ids."""
    job_id = pl.col("job_id")
    millis = job_id.str.tail(_MILLIS_DIGITS).cast(pl.Int64, strict=False)
    is_repeat = (
        job_id.str.starts_with(_REPEAT)
        & (job_id.str.len_bytes() > len("repeat::") + _MILLIS_DIGITS)
        & (job_id.str.slice(-1 - _MILLIS_DIGITS, 1) == ":")
        & (millis >= 10 ** (_MILLIS_DIGITS - 1))
    )
    key = job_id.str.slice(len(_REPEAT)).str.head(-1 - _MILLIS_DIGITS)
    return [
        pl.when(is_repeat).then(key).alias("schedule_key"),
        pl.when(is_repeat).then(millis).cast(SCHEMA["iteration_at"]).alias("iteration_at"),
    ]


def _flags() -> list[pl.Expr]:
    state, delay = pl.col("state"), pl.col("delay_ms").fill_null(0)
    ended, finished = state.is_in(["completed", "failed"]), pl.col("finished_at").is_not_null()
    # Fields are read at once and the state a moment later. A record that was read in its last attempt and
    # ended in between has not yet counted that attempt.
    attempts_of_ended = (pl.col("attempts_made") + (~finished).cast(pl.Int64)).clip(lower_bound=1)
    attempts = pl.when(ended).then(attempts_of_ended).otherwise(pl.col("attempts_made"))
    torn = (
        (ended & ~finished)
        | (~ended & finished)
        | (state.is_in(["waiting", "prioritized", "active"]) & (delay > 0))
        | ((state == "active") & pl.col("processed_at").is_null())
        | ((state == "delayed") & (delay <= 0))
    )
    return [
        ended.alias("is_ended"),
        attempts.alias("attempts"),
        pl.when(ended).then(attempts > 1).otherwise(attempts >= 1).alias("is_retried"),
        torn.alias("is_torn"),
    ]


def facts(rows: pl.DataFrame, first_row: int = 0, *, hashed: bool = True) -> pl.DataFrame:
    """What the conclusions rest on, a narrow row a record, with times as integers.

    Args:
        rows: What :func:`add_own` made of records.
        first_row: Number of the first record, when records come in batches.
        hashed: Add ``_hash``, which tells records apart that agree in all that decides which one is newest, and
            ``_place``, which tells the same records apart by where they were found.
    """
    made, delay, started = (
        pl.col("attempts_made"),
        pl.col("delay_ms").fill_null(0),
        pl.col("processed_at").is_not_null(),
    )
    still_pending = (delay > 0) & (made == 0) & ~started & (_ms("created_at") + delay <= LAST_MS)
    # In a backoff (delay > 0 after one attempt) and at the end, processedOn still is that one attempt's start.
    in_first_attempt = started & ((made == 0) | ((made == 1) & ((delay > 0) | pl.col("finished_at").is_not_null())))
    is_repeat, is_once = pl.col("iteration_at").is_not_null(), pl.col("schedule_at").is_not_null()
    # Paused records are made up and were never due. A repeat: id without its time says that there was a delay, and
    # not how long.
    never_due = (pl.col("state") == "paused") | (pl.col("job_id").str.starts_with(_REPEAT) & ~is_repeat)
    is_interval = pl.col("schedule_type") == "interval"
    due_source = (
        pl.when(never_due)
        .then(None)
        .when(is_repeat & ~is_interval)
        .then(pl.lit("id_suffix"))
        .when(is_repeat)
        .then(pl.lit("id_suffix_lower_bound"))
        .when(is_once)
        .then(pl.lit("scheduled_time"))
        .otherwise(pl.lit("immediate"))
    )
    once = pl.max_horizontal(_ms("schedule_at"), _ms("created_at"))
    told = rows.select(
        *("org_id", "schedule_key"),
        pl.when(~is_repeat).then(_known_by() if rows["job_id"].null_count() else "job_id").alias("_other_id"),
        *(_ms(name).alias(name) for name in ("iteration_at", "created_at", "requested_at", "observed_at")),
        *("is_ended", "attempts_made"),
        *(_ms(name).alias(name) for name in ("processed_at", "finished_at")),
        _row=pl.int_range(first_row, first_row + pl.len(), dtype=pl.Int64),
        _is_interval=is_interval & is_repeat,
        _is_first=(_ms("created_at") - _ms("requested_at")).is_between(-FIRST_RUN_MS, FIRST_RUN_MS),
        _is_stalled=(pl.col("failed_reason") == STALLED) & (pl.col("state") == "failed"),
        _period=pl.min_horizontal("schedule_every_ms", _cron_period_ms(rows["schedule_cron"])),
        _due=pl.when(is_repeat).then(_ms("iteration_at")).otherwise(once),
        _due_source=due_source,
        _observed_due=pl.when(still_pending).then(_ms("created_at") + delay),
        _first_start=pl.when(in_first_attempt).then(_ms("processed_at")),
    )
    return told.hstack(hashes(rows)) if hashed else told


def hashes(rows: pl.DataFrame) -> pl.DataFrame:
    """A hash of each observation (``_hash``), and one of where its file lies (``_place``)."""
    return rows.select(_hash=pl.struct(OBSERVATION).hash(), _place=pl.col("source").hash())


def _cron_period_ms(crons: pl.Series) -> pl.Expr:
    """No longer than the time between two runs of the schedule, as its cron is written.

    A change of the clocks takes an hour from a day, and in some zones half an hour from an hour.
    """
    fields = pl.col("schedule_cron").str.strip_chars().str.split(" ")
    minute, hour = fields.list.get(0, null_on_oob=True), fields.list.get(1, null_on_oob=True)
    one_minute, one_hour = minute.str.contains(r"^\d+$"), hour.str.contains(r"^\d+$")
    period = (
        pl.when(fields.list.len() != _CRON_FIELDS)
        .then(1_000)
        .when(one_minute & one_hour)
        .then(82_800_000)
        .when(one_minute)
        .then(1_800_000)
        .otherwise(60_000)
    )
    # There are few crons and many runs, so each text is looked into once.
    known = crons.drop_nulls().unique().to_frame().with_columns(period=period.cast(pl.Int64))
    return pl.col("schedule_cron").replace_strict(
        known["schedule_cron"], known["period"], default=None, return_dtype=pl.Int64
    )


def _known_by() -> pl.Expr:
    """The id, or what stands for it: a connector does not make two jobs in the same millisecond."""
    columns = ("name", "connector", "connector_id", _ms("requested_at"))
    return pl.coalesce("job_id", pl.concat_str(columns, separator="\x1f", ignore_nulls=True))


EVIDENCE = ("org_id", "schedule_key", "created_at", "iteration_at", "_observed_due", "_is_interval", "_is_first")
"""The facts that :func:`interval_evidence` looks at."""


def interval_evidence(told: pl.DataFrame) -> Evidence:
    """Whether the server adds offsets to interval schedules, as far as these facts tell.

    All facts of a run must be among them: what parts of the facts say is added up by schedule, not by batch.
    """
    later = told.lazy().filter("_is_interval", ~pl.col("_is_first"), pl.col("_observed_due").is_not_null())
    above = (
        later.group_by("org_id", "schedule_key", "iteration_at", "created_at")
        .agg(pl.col("_observed_due").max())
        .select(pl.col("_observed_due") - pl.col("iteration_at") > OFFSET_NOISE_MS)
        .collect()
        .to_series()
    )
    return Evidence(int(above.sum()), int((~above).sum()))


def partitions(told: pl.DataFrame, n: int) -> dict[int, pl.DataFrame]:
    """Facts apart by schedule, or by id where there is none, so that each part can be concluded on its own."""
    part = (pl.struct("org_id", pl.coalesce("schedule_key", "_other_id")).hash() % n).cast(pl.Int64).alias("_part")
    parts = told.with_columns(part).partition_by("_part", as_dict=True, include_key=False)
    return {number: rows for (number,), rows in parts.items()}
