import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jobstats as js

from ..factories import T0, immediate, jobs, record


def test_three_waits_by_hand(engine, as_polars):
    table = engine(jobs(immediate("1", 100), immediate("2", 200), immediate("3", 400)))
    answer = as_polars(js.queue_latency(table, q=[0, 0.25, 0.5, 0.95]))
    # p25 lies half-way from the first to the second, p95 nine tenths from the second to the third.
    assert answer.row(0, named=True) == pytest.approx(
        {
            "p0_ms": 100,
            "p25_ms": 150,
            "p50_ms": 200,
            "p95_ms": 380,
            "mean_ms": 700 / 3,
            "max_ms": 400,
            "n": 3,
            "n_excluded": 0,
            "n_upper_bound": 0,
            "n_gap": 0,
            "n_last_attempt": 0,
            "n_unknown": 0,
            "n_waiting": 0,
        }
    )


def test_waits_not_known_are_counted_and_not_guessed():
    retried = record(attemptsMade=2, processedOn=T0 + 50_000, finishedOn=T0 + 51_000)
    due = record(id="w", timestamp=T0 - 100, state="waiting", attemptsMade=0, processedOn=None, finishedOn=None)
    later = due | {"id": "x", "timestamp": T0 + 3_600_000}
    table = js.load([immediate("1", 300), retried, due, later], observed_at=None).jobs
    assert js.queue_latency(table).select("p50_ms", "n", "n_excluded", "n_waiting").row(0) == (300, 1, 1, 0)
    seen = table.with_columns(observed_at=pl.col("finished_at").max())
    # Seen at the end of the retry: one was due and had not started, the other is due an hour later.
    assert js.queue_latency(seen).select("n", "n_excluded", "n_waiting").row(0) == (1, 1, 1)


def test_earlier_observations_of_a_run_are_not_counted_again():
    table = jobs(immediate("1", 300), immediate("1", 300, state="active", attemptsMade=0, finishedOn=None))
    assert js.queue_latency(table)["n"][0] == 1


@pytest.mark.parametrize("q", [[1.1], [-0.1], [95], [True], ["p50"], 95])
def test_quantiles_lie_between_0_and_1(dump, q):
    with pytest.raises(js.ArgumentError, match="between 0 and 1"):
        js.queue_latency(dump.jobs, q=q)


def test_one_quantile_needs_no_list_and_twice_is_once(dump):
    assert js.queue_latency(dump.jobs, q=0.5).columns == js.queue_latency(dump.jobs, q=[0.5, 0.5]).columns


def test_numpy_agrees_on_the_dump(dump):
    answer = js.queue_latency(dump.jobs, by="connector", q=[0.5, 0.95, 0.99])
    for row in answer.iter_rows(named=True):
        runs = dump.jobs.filter(pl.col("connector") == row["connector"], pl.col("started_at").is_not_null())
        exact = runs.filter(pl.col("queue_latency_quality") == "exact")["queue_latency_ms"].to_numpy()
        assert (row["n"], row["n_excluded"]) == (len(exact), len(runs) - len(exact))
        assert [row["p50_ms"], row["p95_ms"], row["p99_ms"]] == pytest.approx(np.quantile(exact, [0.5, 0.95, 0.99]))
        assert row["max_ms"] == exact.max()


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 10**9), min_size=1, max_size=30),
    st.lists(st.floats(0, 1), min_size=1, max_size=3, unique_by=lambda q: f"{q * 100:.10g}"),
)
def test_quantiles_are_numpys_for_any_waits(waits, q):
    # Waits of a second apart at most would look like stalls where one run overtakes another, so all are due at once.
    table = jobs(*(immediate(str(n), wait) for n, wait in enumerate(waits)))
    answer = js.queue_latency(table, q=q).row(0)
    assert answer[: len(q)] == pytest.approx(tuple(np.quantile(waits, q)), rel=1e-9)
