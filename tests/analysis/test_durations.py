"""Queue latency, processing time and turnaround: what they share, and what each measures."""

import math
import warnings
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jobstats as js
from jobstats.analysis.durations import product_limit
from jobstats.facts import STALLED

from ..factories import T0, immediate, jobs, record

ANALYSES = (js.queue_latency, js.processing_time, js.turnaround)
QUANTILES = (0.1, 0.5, 0.9, 0.95)


def kaplan_meier(lengths, ended, confidence):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lifelines' own, of NumPy's and pandas' future
        from lifelines import KaplanMeierFitter

        fitter = KaplanMeierFitter(alpha=1 - confidence).fit(lengths, ended)
        curve = fitter.survival_function_["KM_estimate"]
        bounds = fitter.confidence_interval_
    return curve, bounds.iloc[:, 0], bounds.iloc[:, 1]


def first_below(curve, share):
    passed = curve[curve <= share + 1e-9]
    return None if passed.empty else float(passed.index[0])


def waits(known, waiting):
    """Runs that waited so long, and runs that had waited so long when all were seen."""
    seen = T0 + 2_000_000
    started = [immediate(f"s{n}", wait) for n, wait in enumerate(known)]
    pending = {"state": "prioritized", "attemptsMade": 0, "processedOn": None, "finishedOn": None}
    open_ = [immediate(f"w{n}", **pending, timestamp=seen - wait) for n, wait in enumerate(waiting)]
    table = js.load([*started, *open_], observed_at=datetime.fromtimestamp(seen / 1000, UTC)).jobs
    # What one run says of another is not the question here.
    return table.with_columns(queue_latency_quality=pl.when(pl.col("started_at").is_not_null()).then(pl.lit("exact")))


def test_six_waits_by_hand(engine, as_polars):
    table = waits([100, 200, 400], [150, 300, 300])
    row = as_polars(js.queue_latency(engine(table), q=[0.3, 0.5, 0.9], censored=True)).row(0, named=True)
    # At risk: 6 at 100, 4 at 200, 1 at 400; the share still waiting is 5/6, then 5/6 · 3/4 = 5/8, then 0.
    assert (row["p30_ms"], row["p50_ms"], row["p90_ms"]) == (200, 400, 400)
    assert row["mean_ms"] == pytest.approx(100 + 100 * 5 / 6 + 200 * 5 / 8)
    assert (row["max_ms"], row["n"], row["n_waiting"], row["n_excluded"]) == (400, 3, 3, 0)
    plain = as_polars(js.queue_latency(engine(table), q=0.5)).row(0, named=True)
    assert (plain["p50_ms"], plain["mean_ms"], plain["max_ms"]) == (200, pytest.approx(700 / 3), 400)
    # The longest wait has not ended: more than 5/8 of them have not started, and nobody knows how long they will wait.
    stuck = as_polars(js.queue_latency(engine(waits([100, 200], [150, 300, 500])), q=0.5, censored=True))
    assert stuck.select("p50_ms", "p50_ms_high", "mean_ms", "max_ms").row(0) == (None, None, None, 500)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 40), max_size=25),
    st.lists(st.integers(1, 40), max_size=25),
    st.sampled_from([0.5, 0.95]),
)
def test_lifelines_agrees_on_any_lengths(known, waiting, confidence):
    if not known + waiting:
        return
    row = js.queue_latency(waits(known, waiting), q=QUANTILES, censored=True, confidence=confidence).row(0, named=True)
    ended = [1] * len(known) + [0] * len(waiting)
    curves = kaplan_meier(known + waiting, ended, confidence)
    for q in QUANTILES:
        name = f"p{q * 100:.10g}_ms"
        ours = (row[name], row[f"{name}_low"], row[f"{name}_high"])
        middle, lower, upper = (first_below(curve, 1 - q) for curve in curves)
        assert ours[:2] == (middle, lower)
        # lifelines has no upper bound where all have ended, or says 0; here the one before stands.
        last = max(known, default=0)
        assert ours[2] == (None if upper == last and not any(w >= last for w in waiting) else upper)


def test_without_open_runs_the_estimate_is_the_share_that_waited_longer():
    times = pl.DataFrame(
        {"k": ["a"] * 4 + [None], "_ms": [3, 1, 7, 5, 2], "n": [1, 2, 0, 1, 1], "open": [0, 0, 1, 0, 0]}
    )
    curve = product_limit(times, ["k"], "open", 0.95)
    assert curve["k"].to_list() == ["a"] * 4 + [None]
    assert curve["_survival"].to_list() == pytest.approx([3 / 5, 2 / 5, 1 / 5, 1 / 5, 0])
    shares = curve.filter(pl.col("k") == "a")
    # Greenwood's variance without censoring is that of a share.
    for share, low, high in shares.select("_survival", "_survival_low", "_survival_high").rows():
        spread = 1.959964 * math.sqrt(share * (1 - share) / 5) / (share * abs(math.log(share)))
        assert (low, high) == pytest.approx((share ** math.exp(spread), share ** math.exp(-spread)), abs=1e-6)


def test_what_is_left_out_of_each_has_its_reason(engine, as_polars):
    retried = record(attemptsMade=2, processedOn=T0 + 50_000, finishedOn=T0 + 51_000)
    table = jobs(
        immediate("1", 300),
        immediate("2", 400, state="failed", failedReason=STALLED),
        immediate("3", attemptsMade=0, finishedOn=None),  # completed a moment after it was read
        immediate("4", state="active", attemptsMade=0, finishedOn=None),
        immediate("5", state="delayed", attemptsMade=1, delay=5_000, finishedOn=None),
        immediate("6", state="failed", failedReason=None),
        retried,
    ).with_columns(observed_at=pl.col("finished_at").max())
    row = as_polars(js.queue_latency(engine(table))).row(0, named=True)
    counts = ("n", "n_excluded", "n_upper_bound", "n_gap", "n_last_attempt", "n_unknown", "n_waiting")
    assert [row[name] for name in counts] == [5, 2, 0, 0, 2, 0, 0]
    row = as_polars(js.processing_time(engine(table), q=1)).row(0, named=True)
    counts = ("n", "n_excluded", "n_stalled", "n_torn", "n_unseen", "n_running")
    assert [row[name] for name in counts] == [3, 3, 1, 1, 1, 1]
    assert (row["p100_ms"], row["mean_ms"], row["is_estimable"]) == (1_000, 1_000, True)
    row = as_polars(js.turnaround(engine(table), q=[0, 1])).row(0, named=True)
    counts = ("n", "n_excluded", "n_upper_bound", "n_unknown", "n_open")
    assert [row[name] for name in counts] == [4, 1, 0, 1, 2]
    assert (row["p0_ms"], row["p100_ms"]) == (1_300, 51_000)


@pytest.mark.parametrize("analysis", ANALYSES)
@pytest.mark.parametrize("by", [None, "connector", ["org_id", "schedule_type"]])
@pytest.mark.parametrize("censored", [False, True])
def test_every_run_is_counted_once(dump, polls, analysis, by, censored):
    for table in (dump.jobs, polls.jobs, js.history(polls.jobs)):
        answer = analysis(table, by=by, censored=censored)
        latest = table.filter("is_latest")
        started = pl.col("started_at").is_not_null()
        due = pl.col("eligible_at") <= pl.col("observed_at")
        meant = {
            "queue_latency": started | (due & ~pl.col("is_ended")),
            "processing_time": started | pl.col("is_ended"),
            "turnaround": started | pl.col("is_ended") | due,
        }[analysis.__name__]
        reasons = answer.columns[
            answer.columns.index("n_excluded") + 1 : -1 if analysis is not js.queue_latency else None
        ]
        assert answer["n_excluded"].equals(
            answer.select(pl.sum_horizontal(reasons[:-1])).to_series().alias("n_excluded")
        )
        assert answer.select(pl.sum_horizontal("n", "n_excluded", reasons[-1]).sum()).item() == len(
            latest.filter(meant)
        )


def test_the_log_agrees_on_the_dump(dump, truth_of_dump):
    ended = dump.jobs.filter("is_ended").join(truth_of_dump, on=["job_id", "created_at"])
    true = (ended["finished_ms"] - ended["first_eligible_ms"]).drop_nulls().to_numpy()
    row = js.turnaround(dump.jobs, q=[0.5, 0.95]).row(0, named=True)
    assert abs(row["n"] - len(true)) <= 2
    assert [row["p50_ms"], row["p95_ms"]] == pytest.approx(np.quantile(true, [0.5, 0.95]), abs=50)
    work = ended.select(pl.col("finished_ms") - pl.col("last_active_ms"))
    row = js.processing_time(dump.jobs, q=0.5).row(0, named=True)
    assert row["p50_ms"] == pytest.approx(work.to_series().median(), abs=50)


@pytest.mark.parametrize("analysis", [js.processing_time, js.turnaround, js.slowdown])
def test_where_most_ends_are_unseen_nothing_is_said_of_how_long_it_takes(polls, analysis):
    row = analysis(polls.jobs, by="connector").row(0, named=True)
    assert not row["is_estimable"]
    assert all(value is None for name, value in row.items() if name.startswith(("p", "m")))


def test_waiting_runs_make_a_stuck_queue_look_stuck():
    waits_of_started, waiting = [1_000] * 50, [600_000] * 50
    table = waits(waits_of_started, waiting)
    assert js.queue_latency(table, q=0.9)["p90_ms"][0] == 1_000
    assert js.queue_latency(table, q=0.9, censored=True).select("p90_ms", "max_ms").row(0) == (None, 600_000)


def test_of_a_run_due_at_an_unknown_time_nobody_knows_how_long_it_has_waited():
    table = waits([100], [900_000]).with_columns(
        eligible_source=pl.when(pl.col("state") == "prioritized")
        .then(pl.lit("id_suffix_lower_bound"))
        .otherwise("eligible_source")
    )
    assert js.queue_latency(table, q=0.5, censored=True).select("p50_ms", "n_waiting").row(0) == (100, 1)


def test_slowdowns_by_hand(engine, as_polars):
    table = jobs(
        immediate("1", 3_000),  # (3 + 1) / 1, and of 10 s less than all
        immediate("2", 30_000, finishedOn=T0 + 50_000),  # (30 + 20) / 20
        immediate("3", 19_000, finishedOn=T0 + 19_000),  # 19 / 0, and 19 / 10
        immediate("4", 100, attemptsMade=2),
        immediate("5", 100, finishedOn=None),
        immediate("6", state="active", attemptsMade=0, finishedOn=None),
    )
    table = table.with_columns(is_rerun_suspected=False)
    row = as_polars(js.slowdown(engine(table), q=[0, 1])).row(0, named=True)
    assert row == pytest.approx(
        {
            "p0_slowdown": 2.5, "p100_slowdown": 4, "mean_slowdown": 3.25,
            "p0_bounded_slowdown": 1, "p100_bounded_slowdown": 2.5, "mean_bounded_slowdown": (1 + 2.5 + 1.9) / 3,
            "n": 3, "n_instant": 1, "n_excluded": 2, "n_retried": 1, "n_wait_unknown": 0, "n_torn": 1,
            "is_estimable": True,
        }
    )  # fmt: skip
    assert js.slowdown(table, q=1, bound="1s")["p100_bounded_slowdown"][0] == 19
    with pytest.raises(js.ArgumentError, match="bound must be"):
        js.slowdown(table, bound="0s")


def test_numpy_agrees_on_slowdowns_of_the_dump(dump):
    known = dump.jobs.filter(
        "is_ended", ~pl.col("is_retried"), ~pl.col("is_rerun_suspected"), pl.col("queue_latency_quality") == "exact",
        pl.col("processing_ms").is_not_null(), pl.col("failed_reason").ne_missing(STALLED),
    )  # fmt: skip
    wait, work = known["queue_latency_ms"].to_numpy(), known["processing_ms"].to_numpy()
    row = js.slowdown(dump.jobs, q=[0.5, 0.95]).row(0, named=True)
    assert (row["n"], row["n_instant"]) == (len(known), (work <= 0).sum())
    assert [row["p50_slowdown"], row["p95_slowdown"]] == pytest.approx(np.quantile((wait + work) / work, [0.5, 0.95]))
    bounded = np.maximum(1, (wait + work) / np.maximum(work, 10_000))
    assert [row["p95_bounded_slowdown"], row["mean_bounded_slowdown"]] == pytest.approx(
        [np.quantile(bounded, 0.95), bounded.mean()]
    )
