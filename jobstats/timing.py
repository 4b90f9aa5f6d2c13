"""What happened when: due times, first starts and waits, recovered from what a record no longer says.

Queue latency is the wait between becoming eligible and starting: *processedOn - timestamp - delay*. Three facts of
BullMQ 5 make the obvious reading of that formula wrong, and this module right it with evidence from all records:

* ``delay`` is set to 0 when a delayed job is promoted (promoteDelayedJobs.lua), and every scheduled crawl starts
  delayed. The delay a run was created with is recovered as ``eligible_at``; ``eligible_source`` says from what:

  ========================= ============================================================================ =======
  ``observed``              a record of the run while it was still pending: timestamp + delay            exact
  ``id_suffix``             the fire time in a ``repeat:`` id                                            exact
  ``id_suffix_offset``      the same, plus the constant offset that BullMQ 5.36-5.58.7 adds to an        exact
                            interval schedule, learned from other runs of the schedule
  ``id_suffix_lower_bound`` the same with that offset unknown: eligible then or later                    bound
  ``scheduled_time``        the time of a one-time schedule, not before the job was created              exact
  ``immediate``             none of these: the job was created without a delay                           exact
  ========================= ============================================================================ =======

* ``processedOn`` is the start of the *latest* attempt (prepareJobForProcessing.lua). The first one is ``started_at``,
  and ``start_source`` says from what: ``processed_on`` (first attempt, or a record that saw it), ``successor`` (a
  schedule's next run is created the moment this one is first picked up, so its timestamp is this one's first start)
  or ``last_attempt`` (all that is known: the first start was no later). The successor also tells the start of a run
  that was seen pending and never again, as completed runs are in the answers of today's server.

* A stalled run starts again without counting an attempt. ``is_rerun_suspected`` marks runs whose successor was
  created, or whose own earlier record shows a start, well before the start that is exported.

``queue_latency_quality`` is the verdict: ``exact``; ``upper_bound`` (the due time is a lower bound, or later runs
started first, so a start is missing); ``gap_or_late`` (the next run seen may not be the next one there was);
``last_attempt_only``; ``unknown`` (then the latency is null). The wait is that of the *run*, the same on all its
rows; ``processing_ms``, ``turnaround_ms`` and the flags are those of the record.
"""

from statistics import median

import polars as pl

from jobstats.contract import LAST_MS
from jobstats.table import RUN_KEY, SCHEMA, TIME_COLUMNS

RERUN_MS = 500
"""A successor is created within 60 ms of the first start (95 in 100); half a second later is another start."""
FIRST_RUN_MS = 1_500
"""A schedule's first run is created at most this long after the schedule was requested, and has no offset."""
OFFSET_NOISE_MS = 2
"""Observed offsets of one schedule agree within this, and a server without offsets shows none above it."""
OVERTAKEN_BY_MS = 1_000
"""A queue is first in, first out. A run that starts this long after runs that were due well after it did not start
for the first time: it had been picked up, lost its worker and was picked up again."""
DUE_WELL_AFTER_MS = 2_000
"""What *due well after it* means; closer than this, the order of picking is not certain."""
EARLY_MS = 60_000
"""A wait more negative than this is no wait: someone promoted the job, or the due time is not what it seems."""
STALLED = "job stalled more than allowable limit"
"""BullMQ's own failure: the job was started several times, and the record keeps only the last, a phantom."""

_SCHEDULE_KEY = ("org_id", "schedule_key", "requested_at")
_MILLIS_DIGITS = 13
_CRON_FIELDS = 5
_FACTS = (
    *("org_id", "state", "attempts_made", "failed_reason", "created_at", "processed_at", "finished_at", "delay_ms"),
    *("schedule_type", "schedule_cron", "schedule_every_ms", "schedule_at", "requested_at", "observed_at"),
    *("schedule_key", "iteration_at", "is_ended", "attempts", "is_retried", "is_torn"),
)
"""What the conclusions rest on; the rest of a record is carried around them, not through them.

On the way, a frame of runs gains columns of its own. From all records of a run: ``_observed_eligible``; the earliest
and latest start that any record shows for the first attempt, ``_first_start`` and ``_last_first_start``; and
``_last_start``, of any attempt. From the other runs: ``_offset_ms`` (interval schedules), ``_successor`` (creation of
the next run seen), ``_period`` (at most the time to the next run there was) and ``_is_overtaken``.
"""


def _ms(expression: pl.Expr) -> pl.Expr:
    return expression.dt.total_milliseconds()


def _after(start: str, milliseconds: pl.Expr) -> pl.Expr:
    return pl.col(start) + pl.duration(milliseconds=milliseconds, time_unit="ms")


def add_times(records: pl.DataFrame) -> pl.DataFrame:
    """The jobs table: records of one or many exports with the derived columns, in the order given.

    The conclusions about a run rest on all its records and on the other runs of its schedule, so records that
    belong together should be passed together. The order of the rows does not matter.
    """
    facts = records.with_row_index("_row").with_columns(_halves_of_id()).with_columns(*_record_flags(), *_identity())
    facts = facts.select("_row", "_run", "_schedule", "_is_recurring", *_FACTS)
    runs = _one_row_per_run(facts, records)
    runs = runs.pipe(_add_eligible).pipe(_add_successor).pipe(_add_started).pipe(_add_overtaken)
    verdicts = runs.select(
        *("_run", "eligible_at", "eligible_source", "started_at", "start_source", "is_rerun_suspected"),
        *_wait_columns(),
        _latest="_row",
    )
    derived = (
        facts.join(verdicts, on="_run", how="left", maintain_order="left")
        .with_columns(_record_times())
        .with_columns(is_clock_skewed=_clock_skewed(), is_latest=pl.col("_row") == pl.col("_latest"))
    )
    return records.hstack(derived.select(column.name for column in TIME_COLUMNS)).cast(SCHEMA)


def _halves_of_id() -> list[pl.Expr]:
    """The halves of a ``repeat:<key>:<millis>`` id, null for other ids."""
    job_id = pl.col("job_id")
    millis = job_id.str.tail(_MILLIS_DIGITS).cast(pl.Int64, strict=False)
    is_repeat = (
        job_id.str.starts_with("repeat:")
        & (job_id.str.len_bytes() > len("repeat::") + _MILLIS_DIGITS)
        & (job_id.str.slice(-1 - _MILLIS_DIGITS, 1) == ":")
        & (millis >= 10 ** (_MILLIS_DIGITS - 1))
    )
    key = job_id.str.slice(len("repeat:")).str.head(-1 - _MILLIS_DIGITS)
    return [
        job_id.str.starts_with("repeat:").fill_null(False).alias("_is_recurring"),
        pl.when(is_repeat).then(key).alias("schedule_key"),
        pl.when(is_repeat).then(millis).cast(SCHEMA["iteration_at"]).alias("iteration_at"),
    ]


def _identity() -> list[pl.Expr]:
    """A number for the run and one for the schedule; a record without an id is a run of its own."""
    row = pl.col("_row").cast(pl.Int64)
    return [
        pl.when(pl.col("job_id").is_null()).then(-1 - row).otherwise(row.min().over(RUN_KEY)).alias("_run"),
        row.min().over(_SCHEDULE_KEY).alias("_schedule"),
    ]


def _record_flags() -> list[pl.Expr]:
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


def _one_row_per_run(facts: pl.DataFrame, records: pl.DataFrame) -> pl.DataFrame:
    """The newest record of each run, with what any of its records reveals about due time and first start."""
    made, delay, started = (
        pl.col("attempts_made"),
        pl.col("delay_ms").fill_null(0),
        pl.col("processed_at").is_not_null(),
    )
    still_pending = (delay > 0) & (made == 0) & ~started
    is_in_range = pl.col("created_at").dt.epoch("ms") + delay <= LAST_MS
    # In a backoff (delay > 0 after one attempt) and at the end, processedOn still is that one attempt's start.
    in_first_attempt = started & ((made == 0) | ((made == 1) & ((delay > 0) | pl.col("finished_at").is_not_null())))
    revealing = {
        "_observed_eligible": pl.when(still_pending & is_in_range).then(_after("created_at", pl.col("delay_ms"))),
        "_first_start": pl.when(in_first_attempt).then("processed_at"),
        "_last_first_start": pl.when(in_first_attempt).then("processed_at"),
        "_last_start": pl.col("processed_at"),
    }
    facts = facts.with_columns(**revealing)
    is_seen_again = facts["_run"].is_duplicated()
    if not is_seen_again.any():
        return facts
    # What was seen last, then what knows more. Records that differ in anything else are told apart by a hash, so
    # that which one stands for the run never depends on the order they came in.
    several = facts.filter(is_seen_again).with_columns(
        _hash=records.filter(is_seen_again).select(pl.struct(pl.all()).hash()).to_series()
    )
    by_knowledge = ("observed_at", "is_ended", "attempts_made", "processed_at", "finished_at", "_hash", "_row")
    newest = (
        several.sort(by_knowledge, nulls_last=False)
        .group_by("_run", maintain_order=True)
        .agg(
            pl.exclude(revealing).last(),
            _observed_eligible=pl.col("_observed_eligible").max(),
            _first_start=pl.col("_first_start").min(),
            _last_first_start=pl.col("_last_first_start").max(),
            _last_start=pl.col("_last_start").max(),
        )
    )
    return pl.concat([facts.filter(~is_seen_again), newest.select(facts.columns)])


def _add_eligible(runs: pl.DataFrame) -> pl.DataFrame:
    """``eligible_at`` and the evidence for it, best first.

    Paused records are made up and were never due. A ``repeat:`` id without its time says that there was a delay, and
    not how long.
    """
    runs = runs.join(_interval_offsets(runs), on="_row", how="left")
    is_repeat, is_interval = pl.col("iteration_at").is_not_null(), pl.col("schedule_type") == "interval"
    once = pl.max_horizontal("schedule_at", "created_at")
    source = (
        pl.when((pl.col("state") == "paused") | (pl.col("_is_recurring") & ~is_repeat))
        .then(None)
        .when(pl.col("_observed_eligible").is_not_null())
        .then(pl.lit("observed"))
        .when(is_repeat & ~is_interval)
        .then(pl.lit("id_suffix"))
        .when(is_repeat & (pl.col("_offset_ms") == 0))
        .then(pl.lit("id_suffix"))
        .when(is_repeat & pl.col("_offset_ms").is_not_null())
        .then(pl.lit("id_suffix_offset"))
        .when(is_repeat)
        .then(pl.lit("id_suffix_lower_bound"))
        .when(pl.col("schedule_at").is_not_null())
        .then(pl.lit("scheduled_time"))
        .otherwise(pl.lit("immediate"))
    )
    eligible = {
        "observed": pl.col("_observed_eligible"),
        "id_suffix": pl.col("iteration_at"),
        "id_suffix_offset": _after("iteration_at", pl.col("_offset_ms")),
        "id_suffix_lower_bound": pl.col("iteration_at"),
        "scheduled_time": once,
        "immediate": pl.col("created_at"),
    }
    chosen = pl.coalesce(pl.when(pl.col("eligible_source") == name).then(value) for name, value in eligible.items())
    return runs.with_columns(eligible_source=source).with_columns(eligible_at=chosen)


def _interval_offsets(runs: pl.DataFrame) -> pl.DataFrame:
    """Per run of an interval schedule: what its server adds to the suffix of the id, null when nothing tells.

    The first run of a schedule has no offset. Later ones share a constant that BullMQ 5.36-5.58.7 fixed when the
    first run was picked up (job-scheduler.ts), which is when the second was created. Newer servers add none, and
    say so by the pending runs of any schedule.
    """
    ordered = runs.filter((pl.col("schedule_type") == "interval") & pl.col("iteration_at").is_not_null()).sort(
        "_schedule", "iteration_at", "created_at", "_row"
    )
    is_first = _ms(pl.col("created_at") - pl.col("requested_at")).is_between(-FIRST_RUN_MS, FIRST_RUN_MS)
    previous = pl.col("iteration_at").shift(1).over("_schedule")
    # Only the true second run was created when the first one started; runs between the two would stretch the offset.
    # Where a retry hides that start, the shortest spacing of several stands for it.
    first_start = pl.col("_first_start").shift(1).over("_schedule")
    is_created_then = _ms(pl.col("created_at") - first_start).is_between(-RERUN_MS, RERUN_MS)
    spacing = _ms(pl.col("iteration_at") - previous)
    is_next_slot = (spacing == spacing.min().over("_schedule")) & (spacing.count().over("_schedule") > 1)
    follows_first = pl.col("_is_first").shift(1).over("_schedule") & pl.when(first_start.is_null()).then(
        is_next_slot
    ).otherwise(is_created_then)
    ordered = ordered.with_columns(_is_first=is_first).with_columns(
        _seen=pl.when(~pl.col("_is_first")).then(_ms(pl.col("_observed_eligible") - pl.col("iteration_at"))),
        _fixed=pl.when(~pl.col("_is_first") & follows_first).then(_ms(pl.col("created_at") - previous)),
    )
    seen: list[int] = ordered["_seen"].drop_nulls().to_list()
    server_adds_offsets = bool(seen) and median(seen) > OFFSET_NOISE_MS
    server_adds_none = bool(seen) and max(seen) <= OFFSET_NOISE_MS
    # No run starts before it is due, so the offset is no longer than the soonest start of any later run after its slot.
    soonest = pl.when(~pl.col("_is_first")).then(_ms(pl.col("_last_start") - pl.col("iteration_at")))
    is_possible = pl.col("_fixed").is_between(0, soonest.min().over("_schedule") + RERUN_MS)
    fixed = pl.when(pl.lit(server_adds_offsets) & is_possible).then("_fixed")
    learned = pl.coalesce(
        pl.col("_seen").median().over("_schedule"),
        fixed.max().over("_schedule"),
        pl.when(pl.lit(server_adds_none)).then(0),
    )
    offset = pl.when("_is_first").then(0).otherwise(learned.round().cast(pl.Int64))
    return ordered.select("_row", _offset_ms=pl.when(offset.abs() <= OFFSET_NOISE_MS).then(0).otherwise(offset))


def _add_successor(runs: pl.DataFrame) -> pl.DataFrame:
    """When the next run of the schedule that was seen was created, and how soon the true next one was due at least."""
    ordered = runs.filter(pl.col("schedule_key").is_not_null()).sort("_schedule", "iteration_at", "created_at", "_row")
    ordered = ordered.with_columns(
        _successor=pl.col("created_at").shift(-1).over("_schedule"),
        _spacing=_ms(pl.col("iteration_at").shift(-1).over("_schedule") - pl.col("iteration_at")),
    )
    # The shortest spacing seen may span runs that were not, so what the schedule itself says bounds it.
    period = pl.min_horizontal(pl.col("_spacing").min().over("_schedule"), "schedule_every_ms", _cron_period_ms())
    return runs.join(ordered.select("_row", "_successor", _period=period), on="_row", how="left")


def _cron_period_ms() -> pl.Expr:
    """No longer than the time between two runs of the schedule, as its cron is written.

    A change of the clocks takes an hour from a day, and in some zones half an hour from an hour.
    """
    fields = pl.col("schedule_cron").str.strip_chars().str.split(" ")
    minute, hour = fields.list.get(0, null_on_oob=True), fields.list.get(1, null_on_oob=True)
    one_minute, one_hour = minute.str.contains(r"^\d+$"), hour.str.contains(r"^\d+$")
    return (
        pl.when(fields.list.len() != _CRON_FIELDS)
        .then(1_000)
        .when(one_minute & one_hour)
        .then(82_800_000)
        .when(one_minute)
        .then(1_800_000)
        .when(pl.col("schedule_cron").is_not_null())
        .then(60_000)
    )


def _add_started(runs: pl.DataFrame) -> pl.DataFrame:
    """``started_at`` and the evidence for it, whether a start is missing, and what bounds the wait."""
    exported = pl.coalesce("_first_start", "_last_start")
    successor, lead = pl.col("_successor"), _ms(exported - pl.col("_successor"))
    is_due = (_ms(successor - pl.col("eligible_at")) >= -RERUN_MS) & (successor >= pl.col("created_at"))
    precedes = is_due & (lead >= -RERUN_MS)
    restarted = precedes & (lead > RERUN_MS)
    unseen = is_due & exported.is_null()
    from_successor = (restarted | (precedes & pl.col("_first_start").is_null()) | unseen).fill_null(False)
    stalled = (pl.col("failed_reason") == STALLED) & (pl.col("state") == "failed")
    source = (
        pl.when(from_successor)
        .then(pl.lit("successor"))
        .when(exported.is_null())
        .then(None)
        .when(pl.col("_first_start").is_null() | stalled)
        .then(pl.lit("last_attempt"))
        .otherwise(pl.lit("processed_on"))
    )
    several_starts = (restarted & pl.col("_first_start").is_not_null()) | (
        pl.col("_last_first_start") > pl.col("_first_start")
    )
    return runs.with_columns(
        start_source=source,
        started_at=pl.when(from_successor).then(successor).otherwise(exported),
        is_rerun_suspected=several_starts.fill_null(False) | stalled.fill_null(False),
    )


def _add_overtaken(runs: pl.DataFrame) -> pl.DataFrame:
    """Whether runs of the same organisation due later started first, where no successor confirms the start."""
    started = runs.filter(pl.col("started_at").is_not_null() & pl.col("eligible_at").is_not_null())
    due_later = (
        started.select("org_id", "started_at", _due="eligible_at")
        .sort("org_id", "_due", "started_at")
        .select("org_id", "_due", _earliest=pl.col("started_at").reverse().cum_min().reverse().over("org_id"))
    )
    confirmed = _ms(pl.col("started_at") - pl.col("_successor")).is_between(-RERUN_MS, RERUN_MS)
    alone = started.filter(~confirmed.fill_null(False)).select(
        "_row", "org_id", "started_at", _due=_after("eligible_at", pl.lit(DUE_WELL_AFTER_MS))
    )
    overtaken = alone.sort("_due", "_row").join_asof(
        due_later.sort("_due"), on="_due", by="org_id", strategy="forward", check_sortedness=False
    )
    late = _ms(pl.col("started_at") - pl.col("_earliest")) > OVERTAKEN_BY_MS
    return runs.join(overtaken.select("_row", _is_overtaken=late), on="_row", how="left")


def _wait_columns() -> list[pl.Expr]:
    known = _ms(pl.col("started_at") - pl.col("eligible_at"))
    # So long before its time a run does not start by a difference of clocks: the due time does not hold.
    wait = pl.when(known >= -EARLY_MS).then(known)
    source = pl.col("start_source")
    quality = (
        pl.when(wait.is_null())
        .then(pl.lit("unknown"))
        .when(source == "last_attempt")
        .then(pl.lit("last_attempt_only"))
        .when((source == "successor") & ~(wait < pl.col("_period")))
        .then(pl.lit("gap_or_late"))
        .when((pl.col("eligible_source") == "id_suffix_lower_bound") | pl.col("_is_overtaken"))
        .then(pl.lit("upper_bound"))
        .otherwise(pl.lit("exact"))
    )
    return [wait.alias("queue_latency_ms"), quality.alias("queue_latency_quality")]


def _record_times() -> list[pl.Expr]:
    started_wait = _ms(pl.col("processed_at") - pl.col("created_at"))
    return [
        (started_wait - pl.col("delay_ms").fill_null(0)).alias("queue_latency_literal_ms"),
        _ms(pl.col("finished_at") - pl.col("processed_at")).alias("processing_ms"),
        _ms(pl.col("finished_at") - pl.col("eligible_at")).alias("turnaround_ms"),
    ]


def _clock_skewed() -> pl.Expr:
    too_early = pl.col("started_at") < pl.col("eligible_at")
    return too_early.fill_null(False) | (pl.col("processing_ms") < 0).fill_null(False)
