"""Runs that ended unseen: what a series of lists says by leaving a run out.

Today's server lists jobs that wait, run or have failed, and neither completed nor queued (*prioritized*) ones, so a
run that has started is missing from a complete list because it has completed, because it has failed and was
forgotten since, or because it is queued for another attempt. What follows from that is inferred, and labelled so:

* *Complete list.* The jobs of one organisation and kind of connector that were seen at one time: not exactly ten,
  which is the most the server shows, at least one of them not ended, and in a file that holds other jobs of the
  organisation too, unlike an answer about a single connector. The time must be told by the caller or the file's name:
  the parts of one export are written at several.
* *Ended unseen.* A run that a complete list leaves out may be queued at that time. A queue is first in, first out:
  once a run that was due later has started, it no longer is. If a complete list after that leaves it out again, it
  has ended. One that is left out within five seconds of its start, or of being seen at work, has ended already:
  a second attempt waits that long first. A schedule must have been seen since, or it may have been removed.
* *Failure ruled out.* A queue keeps its newest failed runs. While one that failed earlier is still listed, all that
  failed after it are kept, so a run that complete lists leave out until it has ended did not fail.
* *Retry ruled out.* It had ended within five seconds, as above.

A run that ended unseen is never called completed: ``outcome`` is ``ended_unseen``, and its end lies between
``ended_after_at`` and ``ended_before_at``.
"""

import polars as pl

from jobstats.facts import add_own, facts, interval_evidence
from jobstats.table import HISTORY_SCHEMA, SERIES_COLUMNS
from jobstats.timing import RERUN_MS, conclude, finish, overtaken, starts

MOST_LISTED = 10
"""The server lists at most this many jobs for a kind of connector and organisation."""
FIRST_BACKOFF_MS = 5_000
"""A second attempt waits this long before it is queued, later ones longer."""

_NEVER = 2**60
_SERIES = [column.name for column in SERIES_COLUMNS]
_PROGRESS = ["progress_pct", "progress_current", "progress_total", "progress_json"]
_ASKED = ("_schedule_seen", "_seen_open", "_list", "attempts_made", "is_ended")
_IS_TIMED = pl.col("observed_at").is_not_null() & pl.col("observed_at_source").ne_missing("file_mtime")
_ORG, _LIST = pl.col("org_id").hash(), pl.struct("org_id", "connector").hash()


def listed(rows: pl.DataFrame) -> pl.DataFrame:
    """Which jobs were seen when, a narrow row each: the ground on which lists are called complete.

    Args:
        rows: What :func:`~jobstats.facts.add_own` made of records; those of one time may come in batches.
    """
    # Paused records are made up beside the list.
    return rows.filter(pl.col("state") != "paused", _IS_TIMED).select(
        _org=_ORG,
        _file=pl.col("source").hash(),
        _list=_LIST,
        _at=pl.col("observed_at").to_physical(),
        _job=pl.struct("job_id", "name", "created_at").hash(),
        _is_open=~pl.col("is_ended"),
    )


def failed(rows: pl.DataFrame) -> pl.DataFrame:
    """The earliest end among the failed runs that an organisation was seen to have, by time."""
    is_kept = (pl.col("state") == "failed") & pl.col("finished_at").is_not_null() & _IS_TIMED
    seen = rows.filter(is_kept).select(
        _org=_ORG, _at=pl.col("observed_at").to_physical(), _since=pl.col("finished_at").to_physical()
    )
    return earliest(seen)


def earliest(failures: pl.DataFrame) -> pl.DataFrame:
    """What several batches of :func:`failed` say together."""
    return failures.group_by("_org", "_at").agg(pl.col("_since").min())


def complete(seen: pl.DataFrame) -> pl.DataFrame:
    """The complete lists (``_org``, ``_list``, ``_at``) among all that was seen at some times."""
    jobs = seen.group_by("_org", "_list", "_at", "_job").agg(pl.col("_is_open").any())
    lists = jobs.group_by("_org", "_list", "_at").agg(n=pl.len(), is_open=pl.col("_is_open").any())
    files = seen.group_by("_org", "_at", "_file").agg(is_list=pl.col("_job").n_unique() > 1)
    shown = files.filter("is_list").select("_org", "_at").unique()
    complete = lists.filter(pl.col("n") != MOST_LISTED, "is_open").join(shown, on=["_org", "_at"], how="semi")
    return complete.select("_org", "_list", "_at")


def polls(lists: pl.DataFrame, failures: pl.DataFrame) -> pl.DataFrame:
    """Complete lists in order of time, each with what it says about failed runs.

    ``_since``: failed runs are listed if they failed then or later. ``_n_broken``: how many lists of this kind, up to
    this one, do not show all that failed since the one before.
    """
    # A failed run that is still seen later was kept all the time between.
    kept = (
        failures.sort("_at")
        .with_columns(pl.col("_since").reverse().cum_min().reverse().over("_org"))
        .select("_org", "_since", _kept="_at")
    )
    known = lists.sort("_at").join_asof(
        kept, left_on="_at", right_on="_kept", by="_org", strategy="forward", check_sortedness=False
    )
    is_whole = pl.col("_since").fill_null(_NEVER) <= pl.col("_at").shift(1).over("_list")
    broken = (~is_whole.fill_null(False)).cast(pl.Int64)
    return known.select("_list", "_at", "_since", _n_broken=broken.cum_sum().over("_list"))


def noted(rows: pl.DataFrame, first_row: int = 0) -> pl.DataFrame:
    """:func:`~jobstats.facts.facts` of records, and what :func:`runs` asks beyond them."""
    asked = rows.select("attempts", "state", _list=_LIST, _has_progress=pl.col("progress_json").is_not_null())
    return facts(rows, first_row).hstack(asked)


def runs(told: pl.DataFrame, concluded: pl.DataFrame) -> pl.DataFrame:
    """What is concluded of each run, a row each, with what the series of its records says.

    ``_progress_row``, where it is known, is the record that says how far the run was better than its newest one.

    Args:
        told: What :func:`noted` made, all of a schedule together, with hashes.
        concluded: What :func:`~jobstats.timing.conclude` made of it.
    """
    told = told.with_columns(concluded["_run"])
    series = told.group_by("_run").agg(
        n_observations=pl.col("observed_at").drop_nulls().n_unique().cast(pl.Int64).clip(lower_bound=1),
        first_seen_at=pl.col("observed_at").min(),
        last_seen_at=pl.col("observed_at").max(),
        _n_processed=pl.col("processed_at").drop_nulls().n_unique().cast(pl.Int64),
        _first_processed=pl.col("processed_at").min(),
    )
    names = ("is_ended", "attempts", "attempts_made", "state", "requested_at", "schedule_key", "_list", "_has_progress")
    known = concluded.hstack(told.select(names)).filter(pl.col("_row") == pl.col("_run"))
    lacking = known.filter(~pl.col("_has_progress")).select("_run")
    others = told.filter("_has_progress").join(lacking, on="_run", how="semi").sort("observed_at", "_hash")
    before = (pl.col("_first_processed") - pl.col("started_at") > RERUN_MS).fill_null(True)
    of_schedule = pl.col("last_seen_at").max().over("org_id", "schedule_key", "requested_at")
    return (
        known.join(series, on="_run")
        .join(others.group_by("_run").agg(_progress_row=pl.col("_row").last()), on="_run", how="left")
        .with_columns(
            n_starts=pl.col("_n_processed") + (pl.col("started_at").is_not_null() & before).cast(pl.Int64),
            # A state that is not known belongs to a run that was gone when its state was asked for.
            _seen_open=pl.when(pl.col("state") != "unknown").then("last_seen_at"),
            _schedule_seen=pl.when(pl.col("schedule_key").is_null()).then(_NEVER).otherwise(of_schedule),
        )
        .with_columns(
            is_rerun_suspected=pl.col("is_rerun_suspected")
            | (pl.col("n_starts") > pl.col("attempts") + (~pl.col("is_ended")).cast(pl.Int64))
        )
        .drop("_n_processed", "_first_processed", "attempts", "state", "requested_at", "schedule_key", "_has_progress")
    )


def first_starts(starts: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
    """By organisation and due time: when the first of those due then or later started.

    Args:
        starts: What :func:`~jobstats.timing.starts` made of all runs.
    """
    return (
        starts.lazy()
        .filter(pl.col("_run").is_null())
        .select("due", _org=_ORG, _moved="started_at")
        .sort("due")
        .with_columns(pl.col("_moved").reverse().cum_min().reverse().over("_org"))
        .collect()
    )


def ends(known: pl.DataFrame, polls: pl.DataFrame, moved: pl.DataFrame, late: pl.Series) -> pl.DataFrame:
    """What :func:`runs` made of all runs or a part, with the bounds of ends that were not seen.

    Args:
        known: The runs.
        polls: What the function of that name made of all lists.
        moved: What :func:`first_starts` made of all runs.
        late: What :func:`~jobstats.timing.overtaken` found.
    """
    is_asked = pl.col("started_at").is_not_null() & ~pl.col("is_ended") & pl.col("last_seen_at").is_not_null()
    is_exact = (pl.col("queue_latency_quality") == "exact") & ~pl.col("_run").is_in(late.implode())
    asked = known.filter(is_asked).select(
        *("_run", "_list", "attempts_made", "_schedule_seen"),
        _is_exact=is_exact,
        _org=_ORG,
        _after=pl.max_horizontal("_seen_open", pl.when(is_exact).then("started_at").otherwise("eligible_at")),
        _from=pl.max_horizontal("last_seen_at", "started_at"),
    )
    asked = _next_list(asked, "_from", polls, "_first").with_columns(pl.col("_at_first").fill_null(_NEVER))
    asked = asked.sort("_at_first").join_asof(
        moved,
        left_on="_at_first",
        right_on="due",
        by="_org",
        strategy="forward",
        allow_exact_matches=False,
        check_sortedness=False,
    )
    asked = asked.with_columns(_moved=pl.max_horizontal(pl.col("_moved").fill_null(_NEVER), "_at_first"))
    asked = _next_list(asked, "_moved", polls, "_then")
    is_soon = (
        (_read_by("_at_first") - pl.col("_from") < FIRST_BACKOFF_MS)
        & (pl.col("attempts_made") == 0)
        & pl.col("_is_exact")
    )
    n_broken = pl.when(is_soon).then("_n_broken_first").otherwise("_n_broken_then") - pl.col("_n_broken_first")
    found = (
        asked.with_columns(_end=pl.when(is_soon).then("_at_first").otherwise("_at_then"))
        .filter(pl.col("_end") <= pl.col("_schedule_seen"))
        .select(
            "_run",
            ended_after_at="_after",
            ended_before_at=_read_by("_end"),
            is_failure_ruled_out=(pl.col("_since_first") <= pl.col("_after")).fill_null(False) & (n_broken == 0),
            is_retry_ruled_out=is_soon,
        )
    )
    return known.join(found, on="_run", how="left").drop(_ASKED)


def _read_by(at: str) -> pl.Expr:
    """A time told to the second was cut off: what was seen then was seen up to a second later."""
    return pl.col(at) + pl.when(pl.col(at) % 1_000 == 0).then(999).otherwise(0)


def _next_list(asked: pl.DataFrame, after: str, polls: pl.DataFrame, suffix: str) -> pl.DataFrame:
    """With the first complete list after a time that should show the run."""
    lists = polls.select("_list", *(pl.col(name).alias(name + suffix) for name in ("_at", "_since", "_n_broken")))
    return asked.sort(after).join_asof(
        lists,
        left_on=after,
        right_on="_at" + suffix,
        by="_list",
        strategy="forward",
        allow_exact_matches=False,
        coalesce=False,
        check_sortedness=False,
    )


def fold(records: pl.DataFrame) -> pl.DataFrame:
    """A row a run, of all its records: the columns of a history, in the order of the times the runs were created.

    Records that do not fit in memory come to the same in the steps that :func:`~jobstats.timing.add_times` names, with
    :func:`noted` for the facts, :func:`runs` after the conclusions, and :func:`ends` when all starts are known.
    """
    rows = add_own(records)
    told = noted(rows)
    concluded = conclude(told, interval_evidence(told))
    begun = starts(concluded)
    late, _ = overtaken(begun)
    lists = polls(complete(listed(rows)), failed(rows))
    known = ends(runs(told, concluded), lists, first_starts(begun), late)
    folded = finish_runs(rows[known["_run"]], known, late, progress(rows, known["_progress_row"]))
    return folded.sort("created_at", "org_id", "job_id", "name", "observed_at")


def progress(rows: pl.DataFrame, wanted: pl.Series, first_row: int = 0) -> pl.DataFrame:
    """What some records say about progress.

    Args:
        rows: Records, or a batch of them.
        wanted: Numbers of records; others and nulls are passed over.
        first_row: Number of the first record of the batch.
    """
    wanted = wanted.drop_nulls().cast(pl.Int64) - first_row
    wanted = wanted.filter(wanted.is_between(0, len(rows), closed="left"))
    return rows.select(_PROGRESS)[wanted].with_columns(_progress_row=wanted + first_row)


def finish_runs(rows: pl.DataFrame, known: pl.DataFrame, late: pl.Series, progress: pl.DataFrame) -> pl.DataFrame:
    """The rows of a history.

    Args:
        rows: The newest record of each run, as :func:`~jobstats.facts.add_own` made it.
        known: What :func:`ends` made of these runs, in the order of ``rows``.
        late: What :func:`~jobstats.timing.overtaken` found, in any slice.
        progress: What the function of that name found in all records.
    """
    known = known.with_columns(pl.col("_progress_row").cast(pl.Int64))
    others = known.select("_progress_row").join(progress, on="_progress_row", how="left", maintain_order="left")
    is_other = known["_progress_row"].is_not_null()
    rows = rows.with_columns(
        pl.when(is_other).then(others[name]).otherwise(pl.col(name)).alias(name) for name in _PROGRESS
    )
    outcome = (
        pl.when("is_ended").then("state").when(pl.col("ended_before_at").is_not_null()).then(pl.lit("ended_unseen"))
    )
    series = known.select(name for name in _SERIES if name != "outcome")
    return (
        finish(rows, known.drop(series.columns), late)
        .hstack(series)
        .with_columns(outcome=outcome)
        .select(HISTORY_SCHEMA.names())
        .cast(HISTORY_SCHEMA)
    )
