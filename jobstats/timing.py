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

import polars as pl

from jobstats.facts import OFFSET_NOISE_MS, Evidence, add_own, facts, hashes, interval_evidence
from jobstats.table import SCHEMA

RERUN_MS = 500
"""A successor is created within 60 ms of the first start (95 in 100); half a second later is another start."""
OVERTAKEN_BY_MS = 1_000
"""A queue is first in, first out. A run that starts this long after runs that were due well after it did not start
for the first time: it had been picked up, lost its worker and was picked up again."""
DUE_WELL_AFTER_MS = 2_000
"""What *due well after it* means; closer than this, the order of picking is not certain."""
EARLY_MS = 60_000
"""A wait more negative than this is no wait: someone promoted the job, or the due time is not what it seems."""

_NEVER = 2**60
"""Later than any time."""


def _put(values: pl.Series, at: pl.Series, length: int) -> pl.Series:
    """A column of this length with the values at these places, null elsewhere."""
    return pl.Series(values.name, [None], values.dtype).new_from_index(0, length).scatter(at, values)


def add_times(records: pl.DataFrame) -> pl.DataFrame:
    """The jobs table: records of one or many exports with the derived columns, in the order given.

    The conclusions about a run rest on all its records and on the other runs of its schedule, so records that
    belong together should be passed together. The order of the rows does not matter.

    Records that do not fit in memory come to the same in steps: :func:`~jobstats.facts.facts` of each batch, apart by
    :func:`~jobstats.facts.partitions`; the sum of :func:`~jobstats.facts.interval_evidence` over the parts;
    :func:`conclude` on each part; :func:`overtaken` on slices of the :func:`starts` of all parts; and, with the
    conclusions back in the order of the records, :func:`finish` on each batch.
    """
    rows = add_own(records)
    told = facts(rows, hashed=False)
    concluded = conclude(told, interval_evidence(told), rows)
    late, _ = overtaken(starts(concluded))
    return finish(rows, concluded, late)


# ---- what the records of a schedule say together -----------------------------------------------------------------


def conclude(told: pl.DataFrame, evidence: Evidence, rows: pl.DataFrame | None = None) -> pl.DataFrame:
    """What the facts say together: a row a record, in the order given, the same for all records of a run.

    Facts of one run or one schedule must come together; no others are looked at. ``_run`` is the row of the record
    that was seen last, which stands for the run. Times are integers. A wait is ``exact`` here if nothing within its
    schedule speaks against it; :func:`overtaken` has the last word.

    Args:
        told: All facts, or a part as :func:`partitions` makes it.
        evidence: Of all facts, not of this part.
        rows: What all facts were told of, where they come without a hash: it costs more than all else, and is
            seldom asked for.
    """
    # All runs of a repeat: key, or of another id, share a line.
    told = told.with_columns(_line=pl.col("_row").first().over("org_id", "schedule_key", "_other_id"))
    order = _in_order(told)
    run = order["_rank"].rle_id()
    if run.is_empty() or run[-1] == len(told) - 1:
        runs = told.with_columns(_last_first_start="_first_start", _last_start="processed_at")
        return _concluded(runs, order, evidence)
    told = told.with_columns(_number=_put(run, order["_at"], len(told)))
    runs = _newest(told, rows)
    concluded = _concluded(runs, _in_order(runs), evidence).with_columns(runs["_number"])
    return (
        told.select("_row", "_number")
        .join(concluded.drop("_row"), on="_number", how="left", maintain_order="left")
        .drop("_number")
    )


def _in_order(runs: pl.DataFrame) -> pl.DataFrame:
    """Where (``_at``) the runs are, line by line in the order of their times.

    ``_rank`` packs line, time and creation into one number, which is exact (32, 44 and 50 bits are enough for each)
    and sorts many times as fast as three columns.
    """
    at = pl.col("_line").cast(pl.Int128) * 2**44 + pl.col("iteration_at").fill_null(0)
    return runs.select(_rank=at * 2**50 + pl.col("created_at"), _at=pl.int_range(pl.len())).sort("_rank")


def _newest(told: pl.DataFrame, rows: pl.DataFrame | None) -> pl.DataFrame:
    """The newest record of each run, with what any of its records reveals about due time and first start."""
    n_runs = told["_number"].n_unique()
    told = told.with_columns(
        pl.col("_observed_due").max().over("_number"),
        pl.col("_first_start").min().over("_number"),
        _last_first_start=pl.col("_first_start").max().over("_number"),
        _last_start=pl.col("processed_at").max().over("_number"),
    )
    # What was seen last, then what knows more. Records that differ in anything else are told apart by a hash, so
    # that which one stands for the run never depends on the order they came in.
    for name in ("observed_at", "is_ended", "attempts_made", "processed_at", "finished_at", "_hash", "_place", "_row"):
        if len(told) == n_runs:
            break
        if name == "_hash" and rows is not None:
            told = told.hstack(hashes(rows[told["_row"]]))
        told = told.filter(pl.col(name).eq_missing(pl.col(name).max().over("_number")))
    return told


def _concluded(runs: pl.DataFrame, order: pl.DataFrame, evidence: Evidence) -> pl.DataFrame:
    """What is known of each run by its own records and the other runs of its schedule."""
    columns = ("_line", "iteration_at", "created_at", "requested_at")
    ordered = runs.select(pl.col(columns).gather(order["_at"]))
    is_next = (pl.col("_line") == pl.col("_line").shift(-1)) & pl.col("iteration_at").is_not_null()
    if ordered.select((is_next & pl.col("requested_at").ne_missing(pl.col("requested_at").shift(-1))).any()).item():
        # A key in use again, by a schedule requested anew, whose runs do not follow those of the former.
        runs = runs.with_columns(_line=pl.col("_row").first().over("_line", "requested_at"))
        order = _in_order(runs)
        ordered = runs.select(pl.col(columns).gather(order["_at"]))
    ordered = ordered.select(
        "_line",
        _successor=pl.when(is_next).then(pl.col("created_at").shift(-1)),
        _spacing=pl.when(is_next).then(pl.col("iteration_at").shift(-1) - pl.col("iteration_at")),
    ).with_columns(pl.col("_spacing").min().over("_line"))
    at, n = order["_at"], len(runs)
    known = runs.with_columns(
        _put(ordered["_successor"], at, n),
        _put(ordered["_spacing"], at, n),
        _interval_offsets(runs, at, evidence),
    )
    # A start that the record does not show rests on the successor alone, which may not be the next run there was.
    is_seen = pl.col("_last_start").is_not_null()
    is_confirmed = is_seen & (pl.col("started_at") - pl.col("_successor")).is_between(-RERUN_MS, RERUN_MS)
    concluded = (
        known.lazy()
        .with_columns(*_eligible())
        .with_columns(*_started())
        .with_columns(queue_latency_ms=_wait())
        .select(
            *("_row", "org_id", "eligible_at", "eligible_source", "started_at", "start_source", "is_rerun_suspected"),
            *("queue_latency_ms", _quality().alias("queue_latency_quality")),
            _is_confirmed=is_confirmed.fill_null(False),
            _run="_row",
        )
    )
    return concluded.collect()


def _interval_offsets(runs: pl.DataFrame, at: pl.Series, evidence: Evidence) -> pl.Series:
    """Per run of an interval schedule: what its server adds to the suffix of the id, null when nothing tells.

    The first run of a schedule has no offset. Later ones share a constant that BullMQ 5.36-5.58.7 fixed when the
    first run was picked up (job-scheduler.ts), which is when the second was created. Newer servers add none, and
    say so by the pending runs of any schedule.
    """
    at = at.filter(runs["_is_interval"].gather(at))
    slot, is_later = pl.col("iteration_at"), ~pl.col("_is_first")
    is_same = pl.col("_line") == pl.col("_line").shift(1)
    known = ("_observed_due", "_first_start", "_last_start", "_is_first", "_period")
    columns = ("_line", "iteration_at", "created_at", *known)
    ordered = runs.select(pl.col(columns).gather(at)).with_columns(
        _seen=pl.when(is_later).then(pl.col("_observed_due") - slot),
        # No run starts before it is due, so the offset is no longer than the soonest start of any after its slot.
        _soonest=pl.when(is_later).then(pl.col("_last_start") - slot),
        _spacing=pl.when(is_same).then(slot - slot.shift(1)),
        _previous_start=pl.col("_first_start").shift(1),
        _follows_first=is_same & is_later & pl.col("_is_first").shift(1),
    )
    schedules = ordered.group_by("_line").agg(
        pl.col("_seen").median(),
        pl.col("_soonest").min(),
        _shortest=pl.col("_spacing").min(),
        _n_spacings=pl.col("_spacing").count(),
    )
    learned = [pl.col("_seen")]
    if evidence.adds_offsets:
        second = ordered.filter("_follows_first").drop("_seen", "_soonest").join(schedules, on="_line")
        fixed = second.group_by("_line").agg(_fixed_offset().max().alias("_fixed"))
        schedules = schedules.join(fixed, on="_line", how="left")
        learned.append(pl.col("_fixed"))
    if evidence.adds_none:
        learned.append(pl.lit(0))
    schedules = schedules.select("_line", _offset=pl.coalesce(learned).round().cast(pl.Int64))
    offset = pl.when(is_later).then("_offset").otherwise(0)
    offsets = (
        ordered.select("_line", "_is_first")
        .join(schedules, on="_line", how="left", maintain_order="left")
        .select(_offset=pl.when(offset.abs() <= OFFSET_NOISE_MS).then(0).otherwise(offset))
    )
    return _put(offsets.to_series(), at, len(runs))


def _fixed_offset() -> pl.Expr:
    """The offset as the second run of an interval schedule shows it, null where it does not.

    Only the true second run was created when the first one started; runs between the two would stretch the offset.
    Where a retry hides that start, the shortest spacing of several stands for it.
    """
    created, start, spacing = pl.col("created_at"), pl.col("_previous_start"), pl.col("_spacing")
    is_next_slot = (spacing == pl.col("_shortest")) & (pl.col("_n_spacings") > 1)
    is_second = pl.when(start.is_null()).then(is_next_slot).otherwise((created - start).is_between(-RERUN_MS, RERUN_MS))
    # A first run that waited for more than an interval has skipped slots, and the offset counts from the last of them.
    fixed = created - (pl.col("iteration_at") - pl.min_horizontal(spacing, "_period"))
    return pl.when(is_second & fixed.is_between(0, pl.col("_soonest") + RERUN_MS)).then(fixed)


def _eligible() -> list[pl.Expr]:
    """``eligible_at`` and the evidence for it, best first."""
    source, offset = pl.col("_due_source"), pl.col("_offset")
    is_observed = source.is_not_null() & pl.col("_observed_due").is_not_null()
    is_bound = source == "id_suffix_lower_bound"
    return [
        pl.when(is_observed)
        .then(pl.lit("observed"))
        .when(is_bound & (offset == 0))
        .then(pl.lit("id_suffix"))
        .when(is_bound & offset.is_not_null())
        .then(pl.lit("id_suffix_offset"))
        .otherwise(source)
        .alias("eligible_source"),
        pl.when(is_observed)
        .then("_observed_due")
        .when(source.is_not_null())
        .then(pl.col("_due") + offset.fill_null(0))
        .alias("eligible_at"),
    ]


def _started() -> list[pl.Expr]:
    """``started_at`` and the evidence for it, and whether a start is missing."""
    first, successor = pl.col("_first_start"), pl.col("_successor")
    exported = pl.coalesce("_first_start", "_last_start")
    lead = exported - successor
    is_due = (successor - pl.col("eligible_at") >= -RERUN_MS) & (successor >= pl.col("created_at"))
    precedes = is_due & (lead >= -RERUN_MS)
    restarted = precedes & (lead > RERUN_MS)
    unseen = is_due & exported.is_null()
    from_successor = (restarted | (precedes & first.is_null()) | unseen).fill_null(False)
    stalled = pl.col("_is_stalled").fill_null(False)
    several_starts = (restarted & first.is_not_null()) | (pl.col("_last_first_start") > first)
    return [
        pl.when(from_successor)
        .then(pl.lit("successor"))
        .when(exported.is_null())
        .then(None)
        .when(first.is_null() | stalled)
        .then(pl.lit("last_attempt"))
        .otherwise(pl.lit("processed_on"))
        .alias("start_source"),
        pl.when(from_successor).then(successor).otherwise(exported).alias("started_at"),
        (several_starts.fill_null(False) | stalled).alias("is_rerun_suspected"),
    ]


def _wait() -> pl.Expr:
    known = pl.col("started_at") - pl.col("eligible_at")
    # So long before its time a run does not start by a difference of clocks: the due time does not hold.
    return pl.when(known >= -EARLY_MS).then(known)


def _quality() -> pl.Expr:
    wait, source = pl.col("queue_latency_ms"), pl.col("start_source")
    # The shortest spacing seen may span runs that were not, so what the schedule itself says bounds it.
    is_next = wait < pl.min_horizontal("_spacing", "_period")
    return (
        pl.when(wait.is_null())
        .then(pl.lit("unknown"))
        .when(source == "last_attempt")
        .then(pl.lit("last_attempt_only"))
        .when((source == "successor") & ~is_next)
        .then(pl.lit("gap_or_late"))
        .when(pl.col("eligible_source") == "id_suffix_lower_bound")
        .then(pl.lit("upper_bound"))
        .otherwise(pl.lit("exact"))
    )


# ---- what the runs of an organisation say together ---------------------------------------------------------------


def starts(concluded: pl.DataFrame) -> pl.DataFrame:
    """The events that :func:`overtaken` compares, each with the time at which it counts, ``due``.

    A start counts when its run was due. A run whose start nothing confirms (then with its ``_run``) counts once more
    when others would have been due well after it.
    """
    started = concluded.filter(
        pl.col("_row") == pl.col("_run"), pl.col("started_at").is_not_null(), pl.col("eligible_at").is_not_null()
    )
    in_question = started.filter(~pl.col("_is_confirmed"), pl.col("queue_latency_quality") == "exact")
    return pl.concat(
        [
            started.select("org_id", "started_at", due="eligible_at", _run=pl.lit(None, pl.Int64)),
            in_question.select("org_id", "started_at", due=pl.col("eligible_at") + DUE_WELL_AFTER_MS, _run="_run"),
        ]
    )


def overtaken(events: pl.DataFrame, carry: pl.DataFrame | None = None) -> tuple[pl.Series, pl.DataFrame]:
    """Runs (``_run``) that started after others of their organisation that were due well after them.

    Args:
        events: What :func:`starts` makes of all runs; or, to take the runs in slices, those within a range of
            ``due``, the latest range first.
        carry: What the call for the slice before this one returned.

    Returns:
        The runs, and for each organisation its earliest start so far.
    """
    if carry is not None:
        events = pl.concat([carry, events], how="diagonal")
    is_start = pl.col("_run").is_null()
    ordered = (
        events.with_row_index("_org")
        .with_columns(pl.col("_org").first().over("org_id"))
        # From the end; at the same time, starts come before the questions and so are seen by them.
        .select("_run", "_org", "started_at", _rank=-2 * pl.col("due") - is_start.cast(pl.Int64))
        .sort("_rank")
        .with_columns(_earliest=pl.when(is_start).then("started_at").otherwise(_NEVER).cum_min().over("_org"))
    )
    late = ordered.filter(~is_start, pl.col("started_at") - pl.col("_earliest") > OVERTAKEN_BY_MS)
    earliest = ordered.group_by("_org").agg(started_at=pl.col("_earliest").min())
    return late["_run"], earliest.select(
        "started_at",
        org_id=events["org_id"].gather(earliest["_org"]),
        due=pl.lit(_NEVER, pl.Int64),
        _run=pl.lit(None, pl.Int64),
    )


# ---- the jobs table ----------------------------------------------------------------------------------------------


def finish(rows: pl.DataFrame, concluded: pl.DataFrame, late: pl.Series) -> pl.DataFrame:
    """The jobs table of what :func:`add_own` made.

    Args:
        rows: All records, or a batch of them.
        concluded: Of these records, in their order.
        late: What :func:`overtaken` found, in any slice.
    """
    quality = pl.col("queue_latency_quality")
    if len(late):
        is_gap = pl.col("start_source") == "successor"
        doubt = pl.when(is_gap).then(pl.lit("gap_or_late")).otherwise(pl.lit("upper_bound"))
        quality = pl.when(pl.col("_run").is_in(late.implode())).then(doubt).otherwise(quality)
    too_early = pl.col("started_at") < pl.col("eligible_at")
    return (
        rows.hstack(concluded.drop("org_id", strict=False))
        .with_columns(
            quality.alias("queue_latency_quality"),
            turnaround_ms=pl.col("finished_at").to_physical() - pl.col("eligible_at"),
            is_clock_skewed=too_early.fill_null(False) | (pl.col("processing_ms") < 0).fill_null(False),
            is_latest=pl.col("_row") == pl.col("_run"),
        )
        .select(SCHEMA.names())
        .cast(SCHEMA)
    )
