"""A history is a function of the set of observations, and says what the log of the real queue says."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import jobstats as js
from jobstats import spool
from jobstats.table import HISTORY_COLUMNS, HISTORY_SCHEMA, OBSERVATION, RUN_KEY

from .factories import T0, iteration, jobs, record

ORDER = ("created_at", "org_id", "job_id", "name", "observed_at")


@pytest.fixture(scope="module")
def observations(polls, dump) -> pl.DataFrame:
    """A real series, and records that are odd: no id, no time of observation, no progress, torn, in two orgs."""
    odd = [
        record(id=None),
        record(id=None, progress=...),
        record(id=None, timestamp=T0 - 59_000, state="active", finishedOn=..., attemptsMade=0),
        record(id="1", progress=50, state="active", finishedOn=..., attemptsMade=0),
        record(id="1", progress=...),
        record(id="1", data={"orgId": "o2"}),
        iteration(1),
        iteration(2, finishedOn=...),
        iteration(2, state="unknown", finishedOn=...),
        iteration(3, data={"timestamp": "2026-11-23T14:00:01.000Z"}),
    ]
    real = polls.jobs.filter(pl.col("org_id") == polls.jobs["org_id"][0])
    return pl.concat([real, jobs(*odd), js.load(odd, observed_at=real["observed_at"][0]).jobs, dump.jobs.tail(200)])


def test_runs_and_columns(observations):
    runs = js.history(observations)
    assert runs.schema == HISTORY_SCHEMA
    assert list(HISTORY_SCHEMA) == [column.name for column in HISTORY_COLUMNS]
    with_id = runs.filter(pl.col("job_id").is_not_null())
    assert (
        len(with_id)
        == with_id.select(RUN_KEY).n_unique()
        == observations.drop_nulls("job_id").select(RUN_KEY).n_unique()
    )
    assert runs["is_latest"].all()
    assert_frame_equal(runs, runs.sort(ORDER))


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_order_repetition_and_splits_change_nothing(data, observations, tmp_path_factory):
    whole = js.history(observations)
    rows = data.draw(st.randoms(use_true_random=False)).sample(range(len(observations)), len(observations))
    again = data.draw(st.lists(st.integers(0, len(observations) - 1), max_size=300))
    shuffled = observations[rows + again]
    assert_frame_equal(js.history(shuffled), whole)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(shuffled)), max_size=4)))
    store = js.store(tmp_path_factory.mktemp("store") / "s")
    for since, until in zip([0, *cuts], [*cuts, len(shuffled)], strict=True):
        if since < until:
            store.append(shuffled[since:until])
    if data.draw(st.booleans()):
        store.compact()
    stored = js.history(store.scan()).collect().sort(ORDER)
    assert_frame_equal(stored.drop("source"), whole.drop("source"))
    assert store.scan().select(pl.len()).collect().item() == observations.select(OBSERVATION).n_unique()


@pytest.mark.parametrize("most", [1, 7, 300])
def test_what_does_not_fit_in_memory_comes_to_the_same(observations, monkeypatch, most):
    if most == 1:
        observations = observations.sample(60, seed=1)
    whole = js.history(observations)
    monkeypatch.setattr(spool, "MOST_IN_MEMORY", most)
    assert_frame_equal(js.history(observations.lazy()).collect().sort(ORDER), whole)


def test_the_newest_record_stands_for_a_run_and_earlier_ones_complete_it():
    pending = iteration(0, state="delayed", delay=59_750, attemptsMade=0, processedOn=..., finishedOn=..., progress=...)
    active = iteration(0, state="active", attemptsMade=0, finishedOn=..., progress=40)
    retried = iteration(0, attemptsMade=2, processedOn=T0 + 9_000, finishedOn=T0 + 9_500, progress=...)
    frames = [
        js.load([one], observed_at=pl.Series([T0 + ms]).cast(pl.Datetime("ms"))[0]).jobs
        for one, ms in ((pending, -1_000), (active, 400), (retried, 60_000))
    ]
    run = js.history(pl.concat(frames)).row(0, named=True)
    assert (run["state"], run["attempts_made"], run["outcome"]) == ("completed", 2, "completed")
    assert (run["queue_latency_ms"], run["queue_latency_quality"], run["eligible_source"]) == (250, "exact", "observed")
    assert (run["progress_pct"], run["progress_json"]) == (40.0, "40")
    assert (run["n_observations"], run["n_starts"]) == (3, 2)
    assert (run["last_seen_at"] - run["first_seen_at"]).total_seconds() == 61


def test_a_lazy_history_reads_only_what_is_asked(polls):
    lazy = js.history(polls.jobs.lazy())
    assert isinstance(lazy, pl.LazyFrame)
    eager = js.history(polls.jobs)
    assert lazy.select(pl.len()).collect().item() == len(eager)
    asked = lazy.filter(pl.col("outcome") == "failed").select("connector", "n_observations").collect()
    assert asked.sort(asked.columns).equals(
        eager.filter(pl.col("outcome") == "failed").select(asked.columns).sort(asked.columns)
    )
    assert len(lazy.head(5).collect()) == 5


def test_what_is_no_series_is_refused(polls, monkeypatch):
    for wrong, error, message in (
        ("data/polls", js.ArgumentError, "takes a Polars jobs table; found str"),
        (js.history(polls.jobs), js.ArgumentError, "a history already"),
        (pl.DataFrame({"x": [1]}), js.TableError, "it lacks job_id"),
        (polls.jobs.with_columns(delay_ms=pl.lit("1")), js.TableError, "delay_ms is String, expected Int64"),
    ):
        with pytest.raises(error, match=message):
            js.history(wrong)
    monkeypatch.setattr(spool, "MOST_IN_MEMORY", 100)
    turn = iter(range(100))
    unsteady = polls.jobs.lazy().map_batches(lambda frame: frame.sample(fraction=1, shuffle=True, seed=next(turn)))
    with pytest.raises(js.ArgumentError, match="other rows each time"):
        js.history(unsteady).collect()


def test_analyses_count_a_history_as_they_count_what_it_was_made_of(polls, dump):
    for loaded in (polls, dump):
        runs = js.history(loaded.jobs)
        assert_frame_equal(js.queue_latency(runs, by="connector"), js.queue_latency(loaded.jobs, by="connector"))
        assert_frame_equal(js.failure_reasons(runs), js.failure_reasons(loaded.jobs))
        shown = ["retry_rate", "failure_rate", "n", "n_failed", "n_retried", "n_open"]
        assert_frame_equal(js.retry_rates(runs).select(shown), js.retry_rates(loaded.jobs).select(shown))


def test_completed_runs_that_the_server_never_showed_are_recovered(polls, truth_of_polls):
    """All runs of recurring schedules that the log says started while the queue was polled."""
    last = polls.jobs["observed_at"].max().timestamp() * 1000
    recurring = truth_of_polls.filter(pl.col("job_id").str.starts_with("repeat:"), pl.col("first_active_ms") < last)
    runs = js.history(polls.jobs).filter(pl.col("started_at").is_not_null())
    found = recurring.join(runs, on=["job_id", "created_at"], suffix="_found")
    off = found.select((pl.col("queue_latency_ms") - pl.col("first_queue_latency_ms")).abs()).to_series()
    exact = off.filter(found["queue_latency_quality"] == "exact")
    assert len(exact) / len(recurring) > 0.88
    assert (exact <= 100).mean() > 0.97
    assert exact.max() < 1_000, "none that is called exact spans a run that was missed"
    assert (found["state"] == "completed").mean() < 0.02


@pytest.mark.parametrize("every", [2, 3])
def test_a_queue_that_is_looked_at_less_often_is_not_told_wrongly(root, truth_of_polls, every):
    files = sorted((root / "data/polls").glob("*.gz"))
    orgs = {file.name.split("_")[1] for file in files}
    kept = [file for org in orgs for file in [one for one in files if org in one.name][::every]]
    runs = js.history(js.load(kept).jobs).join(truth_of_polls, on=["job_id", "created_at"], suffix="_true")
    off = (pl.col("queue_latency_ms") - pl.col("first_queue_latency_ms")).abs()
    exact = runs.filter(pl.col("queue_latency_quality") == "exact").select(off).to_series()
    assert len(exact) > 100
    assert exact.max() < 1_000
    unseen = runs.filter(pl.col("outcome") == "ended_unseen")
    assert len(unseen) > 100
    assert (unseen["finished_ms"] <= unseen["ended_before_at"].to_physical()).mean() > 0.99
    assert (unseen["finished_ms"] >= unseen["ended_after_at"].to_physical()).mean() > 0.99
    assert unseen.filter("is_retry_ruled_out")["attempts_started"].max() == 1
