from datetime import timedelta

import polars as pl
import pytest

import jobstats as js
from jobstats.facts import STALLED

from ..factories import immediate, jobs


@pytest.fixture
def five():
    """First try, recovered on the second, recovered on the third, exhausted, failed at once; and one under way."""
    return jobs(
        immediate("1"),
        immediate("2", attemptsMade=2),
        immediate("3", attemptsMade=3),
        immediate("4", attemptsMade=3, state="failed"),
        immediate("5", attemptsMade=1, state="failed"),
        immediate("6", attemptsMade=1, state="active", finishedOn=None),
    )


def test_five_runs_by_hand(five, engine, as_polars):
    row = as_polars(js.retry_rates(engine(five))).row(0, named=True)
    counts = {
        "n": 5, "n_completed": 3, "n_failed": 2, "n_exhausted": 1, "n_unrecoverable": 1, "n_stalled": 0,
        "n_retried": 3, "n_recovered": 2, "n_rerun": 0, "n_open": 1, "n_lost": 1, "n_lost_unknown": 3,
    }  # fmt: skip
    assert {name: row[name] for name in counts} == counts
    assert (row["retry_rate"], row["failure_rate"], row["recovery_rate"]) == pytest.approx((3 / 5, 2 / 5, 2 / 3))
    assert row["mean_attempts"] == pytest.approx((1 + 2 + 3 + 3 + 1) / 5)
    # Wilson for 3 of 5 at 95 %, by hand: centre 0.5566, half width 0.3258.
    assert (row["retry_rate_low"], row["retry_rate_high"]) == pytest.approx((0.2307, 0.8824), abs=1e-4)
    assert row["is_estimable"]
    assert row["lost_ms"] == 1_000  # the run that failed at once; of the others the first start is forgotten


def test_a_stalled_run_was_done_again_although_attempts_say_one():
    table = jobs(immediate("1"), immediate("2", state="failed", failedReason=STALLED))
    assert js.retry_rates(table).select("n", "n_retried", "n_rerun", "n_stalled").row(0) == (2, 0, 1, 1)


def test_time_lost_is_that_of_the_log(dump, truth_of_dump):
    ended = dump.jobs.filter("is_ended").join(truth_of_dump, on=["job_id", "created_at"])
    is_failed = pl.col("final_state") == "failed"
    lost = pl.when(is_failed).then("finished_ms").otherwise("last_active_ms") - pl.col("first_active_ms")
    known = ended.filter(is_failed | pl.col("is_retried"), pl.col("start_source") != "last_attempt", ~pl.col("is_torn"))
    row = js.retry_rates(dump.jobs).row(0, named=True)
    assert (row["n_lost"], row["n_lost"] + row["n_lost_unknown"]) == (len(known), row["n_failed"] + row["n_recovered"])
    assert row["lost_ms"] == pytest.approx(known.select(lost.sum()).item(), rel=0.01)
    assert row["n_failed"] == row["n_exhausted"] + row["n_unrecoverable"] + row["n_stalled"]


def test_without_completed_runs_rates_are_not_estimated(five):
    failed = five.filter(pl.col("state") == "failed")
    row = js.retry_rates(failed).row(0, named=True)
    assert (row["failure_rate"], row["retry_rate_low"], row["mean_attempts"]) == (None, None, None)
    assert (row["n"], row["n_failed"], row["is_estimable"]) == (2, 2, False)


def test_answers_of_todays_server_give_no_rate(polls, truth_of_polls):
    row = js.retry_rates(polls.jobs).row(0, named=True)
    ended = truth_of_polls["final_state"].is_in(["completed", "failed"]).sum()
    naive = row["n_failed"] / row["n"]
    true = (truth_of_polls["final_state"] == "failed").sum() / ended
    assert naive > 0.9 > 0.3 > true  # what would have been printed, and what was
    assert not row["is_estimable"]
    assert row["failure_rate"] is None
    assert row["n_open"] > row["n"]


def test_the_log_agrees_on_the_dump(dump, truth_of_dump):
    row = js.retry_rates(dump.jobs).row(0, named=True)
    ended = dump.jobs.filter("is_ended").join(truth_of_dump, on=["job_id", "created_at"])
    assert row["n_failed"] == (ended["final_state"] == "failed").sum()
    assert row["n_completed"] == (ended["final_state"] == "completed").sum()
    more_errors = (ended["attempts_errored"] + (ended["final_state"] == "completed").cast(pl.Int64)) > 1
    assert abs(row["n_retried"] - more_errors.sum()) <= 1  # one attempt lost its lock and errored unseen


def test_what_can_be_estimated_does_not_depend_on_the_window(polls):
    moment = polls.jobs.filter("is_latest", pl.col("state") == "completed")["started_at"][0]
    row = js.retry_rates(polls.jobs, since=moment, until=moment + timedelta(milliseconds=20)).row(0, named=True)
    assert (row["n_completed"], row["is_estimable"], row["failure_rate"]) == (1, False, None)


def test_an_empty_window_has_no_rate_and_is_no_verdict_on_the_data(five):
    row = js.retry_rates(five, since="2030-01-01").row(0, named=True)
    assert (row["n"], row["retry_rate"], row["is_estimable"]) == (0, None, True)


def test_bounds_by_hand(five, engine, as_polars):
    # Five have ended, three of them retried and two failed; the sixth is in its second attempt.
    row = as_polars(js.retry_rates(engine(five))).row(0, named=True)
    assert (row["retry_rate_min"], row["retry_rate_max"]) == pytest.approx((3 / 5, 4 / 6))
    assert (row["failure_rate_min"], row["failure_rate_max"]) == pytest.approx((2 / 6, 3 / 6))


def test_bounds_of_a_history_by_hand(five, engine, as_polars):
    ended = pl.Series([None] * 5 + [five["finished_at"][0]], dtype=five.schema["finished_at"])
    ruled_out = pl.Series([None] * 5 + [True])
    runs = five.with_columns(
        ended_before_at=ended,
        is_failure_ruled_out=ruled_out,
        is_retry_ruled_out=ruled_out,
        is_retried=pl.col("is_retried") & pl.col("is_ended"),
    )
    row = as_polars(js.retry_rates(engine(runs))).row(0, named=True)
    assert (row["n_open"], row["n_ended_unseen"]) == (1, 1)
    assert (row["retry_rate_min"], row["retry_rate_max"]) == pytest.approx((3 / 6, 3 / 6))
    assert (row["failure_rate_min"], row["failure_rate_max"]) == pytest.approx((2 / 6, 2 / 6))
    # Three of five is more than three of six, which is known: those five do not stand for all.
    assert (row["retry_rate"], row["failure_rate"], row["failure_rate_low"]) == (None, None, None)
    assert (row["recovery_rate"], row["is_estimable"]) == (pytest.approx(2 / 3), True)


@pytest.mark.parametrize("by", [None, "connector", "org_id", "schedule_type"])
def test_no_rate_lies_outside_its_bounds(dump, polls, by):
    runs = js.history(pl.concat([dump.jobs, polls.jobs]))
    for jobs_ in (runs, dump.jobs):
        table = js.retry_rates(jobs_, by=by)
        for name in ("retry_rate", "failure_rate"):
            within = table.filter(pl.col(name).is_not_null())
            assert within[name].is_between(within[f"{name}_min"], within[f"{name}_max"]).all()
            assert len(within) > len(table) / 2
