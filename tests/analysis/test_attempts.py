from collections import Counter

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

import jobstats as js
from jobstats.facts import STALLED

from ..factories import immediate, jobs

COUNTS = ["attempts", "n", "n_completed", "n_failed", "n_open", "n_reached", "n_ended"]
RETRYING = {"state": "active", "finishedOn": None}


@pytest.fixture
def eight():
    """Done at once (two), by the 2nd and the 4th attempt, failed by the 1st and 4th; one in its 2nd, one in its 1st."""
    return jobs(
        immediate("1"),
        immediate("2", attemptsMade=0),  # an older BullMQ does not count the first
        immediate("3", attemptsMade=2),
        immediate("4", attemptsMade=4),
        immediate("5", attemptsMade=1, state="failed"),
        immediate("6", attemptsMade=4, state="failed"),
        immediate("7", attemptsMade=1, **RETRYING),
        immediate("8", attemptsMade=0, **RETRYING),
    )


def test_eight_runs_by_hand(eight, engine, as_polars):
    answer = as_polars(js.attempts(engine(eight)))
    assert answer.select(COUNTS).rows() == [
        (1, 3, 2, 1, 1, 7, 6),
        (2, 1, 1, 0, 0, 3, 6),
        (3, 0, 0, 0, 0, 2, 6),
        (4, 2, 1, 1, 0, 2, 6),
    ]
    assert answer["share"].to_list() == pytest.approx([3 / 6, 1 / 6, 0, 2 / 6])
    assert answer["success_rate"].to_list() == pytest.approx([2 / 7, 1 / 3, 0, 1 / 2])
    # Wilson for 2 of 7 at 95 %, by hand: centre 0.3617, half width 0.2796.
    assert answer.row(0, named=True)["success_rate_low"] == pytest.approx(0.0822, abs=1e-4)
    assert answer.row(0, named=True)["success_rate_high"] == pytest.approx(0.6411, abs=1e-4)
    assert answer["is_estimable"].all()


def test_every_attempt_of_a_group_is_a_row_in_every_window(eight, engine, as_polars):
    late = eight.filter(pl.col("job_id") == "1").with_columns(
        pl.col("started_at") + pl.duration(minutes=2), job_id=pl.lit("late")
    )
    other = eight.filter(pl.col("job_id") == "8").with_columns(connector=pl.lit("Gmail"))
    table = pl.concat([eight.filter(pl.col("job_id") != "8"), other, late])
    answer = as_polars(js.attempts(engine(table), by="connector", every="1m"))
    assert answer.select("connector", pl.col("bucket").dt.minute(), *COUNTS[:2], "n_ended").rows() == [
        *(("Drive", 10, k, n, 6) for k, n in ((1, 3), (2, 1), (3, 0), (4, 2))),
        *(("Drive", 11, k, 0, 0) for k in (1, 2, 3, 4)),
        *(("Drive", 12, k, n, 1) for k, n in ((1, 1), (2, 0), (3, 0), (4, 0))),
        *(("Gmail", minute, 1, 0, 0) for minute in (10, 11, 12)),
    ]
    assert answer.filter(pl.col("n_ended") == 0)["share"].null_count() == 7


def test_without_completed_runs_nothing_is_estimated(eight, polls):
    for table in (eight.filter(pl.col("state") != "completed"), polls.jobs):
        answer = js.attempts(table)
        assert answer.select(pl.col("^(share|success_rate).*$").null_count()).row(0) == (len(answer),) * 6
        assert answer["n"].sum() == table.filter("is_latest", "is_ended").height
        assert not answer["is_estimable"].any()


def test_nothing_gives_an_empty_answer_of_the_same_shape(eight, engine, as_polars):
    nothing = engine(eight.head(0))
    assert as_polars(js.attempts(nothing)).select(COUNTS).rows() == [(1, 0, 0, 0, 0, 0, 0)]
    for arguments in ({"by": "connector"}, {"every": "1h"}, {"by": "connector", "every": "1h"}):
        empty = as_polars(js.attempts(nothing, **arguments))
        assert empty.is_empty()
        assert empty.schema == js.attempts(eight, **arguments).schema
    window = js.attempts(nothing, every="1h", since="2026-01-01", until="2026-01-02")
    assert as_polars(window).select(pl.len(), pl.col("n").sum(), pl.col("share").null_count()).row(0) == (24, 0, 24)


def test_an_odd_number_of_attempts_does_not_fill_the_memory():
    with pytest.raises(js.ArgumentError, match="at most 1,000 attempts are told apart, found a run with 5,000,000"):
        js.attempts(jobs(immediate("1", attemptsMade=5_000_000)))


@pytest.mark.parametrize("arguments", [{"by": "attempts"}, {"by": "n_open"}, {"confidence": 1.0}, {"every": "x"}])
def test_arguments_outside_the_vocabulary_are_refused(eight, arguments):
    with pytest.raises(js.ArgumentError):
        js.attempts(eight, **arguments)


RUNS = st.lists(st.tuples(st.sampled_from(["completed", "failed", "active"]), st.integers(0, 6)), max_size=25)


@settings(max_examples=40, deadline=None)
@given(RUNS)
def test_a_counter_and_statsmodels_agree_on_any_runs(runs):
    ends = {"active": {"finishedOn": None}}
    table = jobs(*(immediate(f"{i}", state=s, attemptsMade=k, **ends.get(s, {})) for i, (s, k) in enumerate(runs)))
    if not runs:
        return
    ended = Counter(max(k, 1) for state, k in runs if state != "active")
    done = Counter(max(k, 1) for state, k in runs if state == "completed")
    still = Counter(k for state, k in runs if state == "active")
    answer = js.attempts(table, confidence=0.9)
    assert answer["attempts"].to_list() == list(range(1, max([1, *ended, *still]) + 1))
    for row in answer.iter_rows(named=True):
        k = row["attempts"]
        reached = sum(n for tried, n in (ended + still).items() if tried >= k)
        assert (row["n"], row["n_completed"], row["n_open"]) == (ended[k], done[k], still[k])
        assert (row["n_reached"], row["n_ended"]) == (reached, ended.total())
        if row["is_estimable"] and reached:
            low, high = proportion_confint(done[k], reached, 0.1, "wilson")
            assert row["success_rate"] == pytest.approx(done[k] / reached)
            assert (row["success_rate_low"], row["success_rate_high"]) == pytest.approx((low, high), abs=1e-9)
    assert answer["is_estimable"][0] == (done.total() > 0 and ended.total() >= len(runs) - ended.total())


def test_the_log_agrees_on_the_dump(dump, truth_of_dump):
    ended = dump.jobs.filter("is_ended").join(truth_of_dump, on=["job_id", "created_at"])
    phantoms = (pl.col("failed_reason") == STALLED).fill_null(False) & (pl.col("state") == "failed")
    errors = pl.col("attempts_errored") + (phantoms | (pl.col("final_state") == "completed")).cast(pl.Int64)
    true = Counter(ended.select(errors).to_series().to_list())
    answer = js.attempts(dump.jobs)
    counted = dict(answer.select("attempts", "n").rows())
    assert sum(abs(true[k] - counted.get(k, 0)) for k in true | counted) <= 2  # one lost its lock and errored unseen
    rates = js.retry_rates(dump.jobs).row(0, named=True)
    assert (answer["n"].sum(), answer["n_failed"].sum()) == (rates["n"], rates["n_failed"])
    assert answer.filter(pl.col("attempts") > 1)["n"].sum() == rates["n_retried"]
    assert (answer["attempts"] * answer["share"]).sum() == pytest.approx(rates["mean_attempts"])
