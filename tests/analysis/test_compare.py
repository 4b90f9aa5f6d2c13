import math
from datetime import timedelta

import polars as pl
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

import jobstats as js

from ..factories import immediate, jobs
from .simulated import DAY, SINCE, fleet, table

MINUTE = 60_000


def measures(answer):
    return {row["measure"]: row for row in answer.iter_rows(named=True) if row["cause"] is None}


@pytest.fixture
def eight():
    """Two windows of an hour with four runs of one connector each: 1 fails of the first four, 3 of the others."""
    minutes = [0, 0, 50, 50, 60, 60, 110, 110]
    failed = [True, False, False, False, True, True, True, False]
    wait = [100, 200, 300, 400, 150, 250, 350, 450]
    return table(at=[20_000 * DAY + minute * MINUTE for minute in minutes], failed=failed, wait=wait)


def test_eight_runs_by_hand(eight, engine, as_polars):
    answer = as_polars(js.compare(engine(eight), since="2024-10-04T01:00Z", baseline="1h", q=[0.5]))
    row = measures(answer)["failure_rate"]
    assert (row["before"], row["after"], row["change"], row["ratio"]) == (0.25, 0.75, 0.5, 3)
    assert row["effect"] == pytest.approx(math.pi / 3)  # 2 asin(sqrt(3/4)) - 2 asin(sqrt(1/4))
    assert (row["n_before"], row["n_after"], row["verdict"]) == (4, 4, "unclear")
    # Two times of two runs each: shares (1/2, 0) and (2/2, 1/2). Leaving one out moves each side by 1/4 either way,
    # so V(times) = 4 · (1/4)² = 1/4, and the binomial variance is 2 · (1/4 · 3/4) / 4 = 3/32.
    assert row["design_effect"] == pytest.approx(8 / 3)
    # Four runs are worth 4 / (8/3) = 1.5, but were seen at two times; Student's t has one degree of freedom.
    half = stats.norm.sf(stats.t.ppf(0.975, 1)) * 2
    _, high = proportion_confint(0.5, 2, alpha=half, method="wilson")
    assert row["change_low"] == pytest.approx(0.5 - math.hypot(0.75 - (1 - high), high - 0.25))
    wait = measures(answer)["queue_latency_p50_ms"]
    assert (wait["before"], wait["after"], wait["change"], wait["ratio"]) == (250, 300, 50, 1.2)
    assert wait["effect"] == pytest.approx((1 + 2 + 3 + 4) / 16 - (3 + 2 + 1) / 16)  # longer less shorter of 16 pairs
    cause = answer.filter(pl.col("cause").is_not_null()).row(0, named=True)
    assert (cause["cause"], cause["before"], cause["after"]) == ("HTTP 500", 0.25, 0.75)
    assert measures(answer)["processing_p50_ms"]["change"] == 0


def test_figures_are_those_of_the_other_analyses(dump):
    last = dump.jobs["started_at"].max()
    middle = last - timedelta(minutes=2)
    windows = {"before": {"since": last - timedelta(minutes=4), "until": middle}, "after": {"since": middle}}
    answer = js.compare(dump.jobs, since=middle, baseline="2m")
    found = measures(answer)
    for side, window in windows.items():
        rates = js.retry_rates(dump.jobs, **window).row(0, named=True)
        waits = js.queue_latency(dump.jobs, **window).row(0, named=True)
        assert found["failure_rate"][side] == rates["failure_rate"]
        assert found["retry_rate"][side] == rates["retry_rate"]
        assert found["failure_rate"][f"n_{side}"] == rates["n"]
        assert found["queue_latency_p95_ms"][side] == waits["p95_ms"]
        assert found["queue_latency_p50_ms"][f"n_{side}"] == waits["n"]
        causes = answer.filter(measure="cause_rate")
        assert causes[side].sum() == pytest.approx(rates["failure_rate"])
    everything = js.compare(dump.jobs, baseline=dump.jobs)
    reasons = js.failure_reasons(dump.jobs).filter(pl.col("n") > 0)
    shares = dict(everything.filter(measure="cause_rate").select("cause", "after").iter_rows())
    assert shares == pytest.approx({row["cause"]: row["n"] / 1910 for row in reasons.iter_rows(named=True)})


def test_all_engines_agree(dump, engine, as_polars):
    asked = {"since": "2m", "baseline": "3m", "by": "connector", "q": [0.5, 0.9]}
    answer, other = js.compare(dump.jobs, **asked), as_polars(js.compare(engine(dump.jobs), **asked))
    assert other.schema == answer.schema
    assert other.select("connector", "measure", "cause", "verdict").rows() == answer.select("connector", "measure", "cause", "verdict").rows()  # fmt: skip
    for name in answer.select(pl.selectors.numeric()).columns:
        assert other[name].is_null().equals(answer[name].is_null())
        assert other[name].drop_nulls().to_list() == pytest.approx(answer[name].drop_nulls().to_list()), name


def test_the_same_input_gives_the_same_bytes():
    runs = fleet(1)
    first = js.compare(runs, since=SINCE, baseline="28d", by="org_id")
    assert js.compare(runs.sample(fraction=1, shuffle=True, seed=2), since=SINCE, baseline="28d", by="org_id").equals(first)  # fmt: skip


def test_bursts_are_no_change_and_ten_points_are():
    alarms, naive = 0, 0
    for seed in range(24):
        answer = measures(js.compare(fleet(seed, connectors=15, daily=6, incident=0.1), since=SINCE, baseline="28d"))
        alarms += sum(row["verdict"] in ("worse", "better") for row in answer.values())
        row = answer["failure_rate"]
        x1, x0 = (round(row[side] * row[f"n_{side}"]) for side in ("after", "before"))
        naive += stats.fisher_exact([[x1, row["n_after"] - x1], [x0, row["n_before"] - x0]]).pvalue < 0.05
    assert naive > 10  # what takes runs for independent is wrong most of the time
    assert alarms <= 2
    worse = [measures(js.compare(fleet(s, more=0.1), since=SINCE, baseline="28d"))["failure_rate"] for s in range(8)]
    assert sum(row["verdict"] == "worse" for row in worse) >= 7
    assert sum(row["change_low"] <= 0.1 <= row["change_high"] for row in worse) >= 6


def test_slower_is_found_and_named():
    runs = fleet(5)
    slower = runs.with_columns(
        queue_latency_ms=pl.when(pl.col("eligible_at").dt.date() >= pl.lit(SINCE).str.to_date())
        .then(pl.col("queue_latency_ms") * 3)
        .otherwise("queue_latency_ms")
    )
    answer = measures(js.compare(slower, since=SINCE, baseline="28d"))
    for name in ("queue_latency_p50_ms", "queue_latency_p95_ms"):
        row = answer[name]
        assert (row["verdict"], row["ratio"]) == ("worse", pytest.approx(3, rel=0.3))
        assert 0 < row["change_low"] < row["change"] < row["change_high"]
    assert answer["queue_latency_p50_ms"]["effect"] > 0.4
    assert answer["processing_p50_ms"]["verdict"] in ("same", "unclear")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_swapped_sides_say_the_opposite(seed):
    runs = fleet(seed, connectors=12)
    one, two = runs.filter(connector="kind 1"), runs.filter(connector="kind 2")
    there, back = js.compare(one, baseline=two), js.compare(two, baseline=one)
    key = ["measure", "cause"]
    both = there.join(back, on=key, nulls_equal=True, suffix="_back")
    assert len(both) == len(there) == len(back)
    for row in both.iter_rows(named=True):
        assert (row["before"], row["n_after"]) == (row["after_back"], row["n_before_back"])
        for name, opposite in (("change", "change"), ("change_low", "change_high"), ("effect", "effect")):
            here, other = row[name], row[f"{opposite}_back"]
            assert here is other is None or here == pytest.approx(-other, abs=1e-9)
        assert row["p_value"] is row["p_value_back"] is None or row["p_value"] == pytest.approx(row["p_value_back"])


def test_a_table_as_baseline_is_cut_to_the_same_window():
    runs = fleet(1, connectors=6)
    one, two = runs.filter(connector="kind 1"), runs.filter(connector="kind 2")
    answer = measures(js.compare(one, baseline=two, since=SINCE))
    assert answer["failure_rate"]["n_before"] == js.retry_rates(two, since=SINCE)["n"][0]
    assert answer["failure_rate"]["n_after"] == js.retry_rates(one, since=SINCE)["n"][0]


def test_without_completed_runs_only_waits_are_compared(polls):
    answer = measures(js.compare(polls.jobs, since="3m", baseline="3m"))
    assert {name for name, row in answer.items() if row["verdict"] == "not estimable"} == {"failure_rate", "retry_rate", "processing_p50_ms", "processing_p95_ms"}  # fmt: skip
    row = answer["failure_rate"]
    assert (row["before"], row["change_low"], row["p_value"]) == (None, None, None)
    assert row["n_after"] == js.retry_rates(polls.jobs, since="3m")["n"][0] > 0
    assert answer["queue_latency_p50_ms"]["n_after"] > 100


def test_a_quantile_needs_runs():
    few = table(at=[day * DAY for day in range(28)], wait=list(range(28)))
    answer = measures(js.compare(few, since="1970-01-15", baseline="14d"))
    assert (answer["queue_latency_p95_ms"]["verdict"], answer["queue_latency_p95_ms"]["change_low"]) == ("few", None)
    assert answer["queue_latency_p50_ms"]["verdict"] == "worse"


def test_empty_one_run_and_groups_without_a_name(dump):
    names = ["queue_latency_p50_ms", "queue_latency_p95_ms", "processing_p50_ms", "processing_p95_ms", "failure_rate", "retry_rate"]  # fmt: skip
    for some in (dump.jobs.clear(), jobs(immediate("1"))):
        answer = js.compare(some, since="7d", baseline="7d")
        assert sorted(answer["measure"]) == sorted(names)
        assert set(answer["verdict"]) <= {"few", "not estimable"}
    assert js.compare(dump.jobs.clear(), since="7d", baseline="7d", by="connector").is_empty()
    unnamed = fleet(1, connectors=4).with_columns(connector=pl.lit(None, pl.String))
    whole = measures(js.compare(unnamed, since=SINCE, baseline="28d"))
    rows = js.compare(unnamed, since=SINCE, baseline="28d", by="connector")
    assert rows["connector"].is_null().all()
    for name, row in measures(rows).items():
        assert (row["before"], row["p_value"]) == (whole[name]["before"], whole[name]["p_value"])


def test_a_group_that_is_only_now_has_a_row():
    runs = fleet(1, connectors=4)
    new = pl.concat([runs, runs.filter(pl.col("started_at").dt.date() > pl.lit("2026-12-22").str.to_date()).with_columns(connector=pl.lit("New"))])  # fmt: skip
    rows = js.compare(new, since=SINCE, baseline="28d", by="connector").filter(connector="New")
    assert rows.filter(measure="failure_rate").select("before", "n_before", "verdict").row(0) == (None, 0, "few")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"baseline": "7d"}, "baseline needs since"),
        ({"baseline": "7 days", "since": "7d"}, "baseline must be a number"),
        ({"baseline": "7d", "since": "7d", "confidence": 1}, "confidence must lie"),
        ({"baseline": "7d", "since": "7d", "q": 5}, "q must hold"),
        ({"baseline": "7d", "since": "7d", "by": "measure"}, "column of the answer"),
        ({"baseline": 3, "since": "7d"}, "expected a jobs table"),
    ],
)
def test_wrong_arguments_are_named(eight, arguments, message):
    with pytest.raises(js.ArgumentError, match=message):
        js.compare(eight, **arguments)
    with pytest.raises(js.ArgumentError, match="of the same kind"):
        js.compare(eight, baseline=js.relation(eight))


def test_no_quantile_is_refused(eight):
    with pytest.raises(js.ArgumentError, match="at least one"):
        js.compare(eight, since="1h", baseline="1h", q=[])
