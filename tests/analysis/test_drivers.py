import polars as pl
import pytest
from scipy import stats

import jobstats as js

from ..factories import immediate, jobs
from .simulated import DAY, fleet, table

MONDAY = 20_003 * DAY
"""2024-10-07."""


@pytest.fixture
def fortnight():
    """Two kinds of connectors for 14 days, a run of each a day; Gmail fails every second day, Drive on the first."""
    days = [day for day in range(14) for _ in range(2)]
    gmail = [i % 2 == 1 for i in range(28)]
    return table(
        at=[MONDAY + day * DAY + (3 if is_gmail else 5) * 3_600_000 for day, is_gmail in zip(days, gmail, strict=True)],
        failed=[(is_gmail and day % 2 == 0) or (not is_gmail and day == 0) for day, is_gmail in zip(days, gmail, strict=True)],
        connector=["Gmail" if is_gmail else "Drive" for is_gmail in gmail],
        connector_id=["g" if is_gmail else "d" for is_gmail in gmail],
    )  # fmt: skip


def test_a_fortnight_by_hand(fortnight, engine, as_polars):
    answer = as_polars(js.drivers(engine(fortnight)))
    columns = ["column", "value", "rate", "other_rate", "lift", "share", "excess", "n", "n_bad", "same_as"]
    gmail = (0.5, 1 / 14, 7, 7 / 8, pytest.approx(6), 14, 7)
    assert answer.filter(pl.col("column").is_in(["connector", "connector_id", "hour"])).select(columns).rows() == [
        ("connector", "Gmail", *gmail, None),
        ("connector_id", "g", *gmail, "connector=Gmail"),
        ("hour", "03", *gmail, "connector=Gmail"),
    ]
    # Organisation, schedule and time zone are the same for all, and no weekday has three bad runs.
    assert set(answer["column"]) == {"connector", "connector_id", "hour"}
    row = answer.row(0, named=True)
    # 7 of 14 against 1 of 14 is not sure of itself when 13 values were looked at.
    assert 0.01 < row["p_value"] < 0.1
    assert row["lift_low"] < 7 < row["lift_high"]
    assert row["q_value"] == pytest.approx(min(1.0, row["p_value"] * (2 + 2 + 2 + 7) / 3))


def test_independent_runs_agree_with_fisher():
    # Four connectors on 60 days: as many bad runs as chance would have, spread evenly.
    rows = [(day, c) for day in range(60) for c in range(4)]
    failed = [(7 * day + 3 * c) % 10 < (4 if c == 0 else 1) for day, c in rows]
    runs = table(at=[MONDAY + day * DAY for day, _ in rows], failed=failed, connector_id=[f"c{c}" for _, c in rows])
    row = js.drivers(runs, columns="connector_id").row(0, named=True)
    assert (row["value"], row["n"], row["n_bad"], row["verdict"]) == ("c0", 60, 24, "driver")
    exact = stats.fisher_exact([[24, 36], [18, 162]])
    assert row["lift"] == pytest.approx(24 / 60 / (18 / 180))
    assert 0.01 < exact.pvalue / row["p_value"] < 100
    assert row["rate_low"] == pytest.approx(0.2857, abs=1e-4)  # Wilson, 24 of 60
    assert row["excess"] == pytest.approx(24 - 60 * 0.1)


def test_a_planted_cause_comes_first():
    firsts = [js.drivers(fleet(seed, bad=2, incident=0.1)).row(0, named=True) for seed in range(20)]
    found = [
        row for row in firsts if (row["column"], row["value"], row["verdict"]) == ("connector", "kind 2", "driver")
    ]
    assert len(found) >= 19


def test_a_broken_connector_is_the_driver_and_not_its_kind():
    for seed in range(5):
        runs = fleet(seed, unlike=0)
        broken = pl.col("connector_id") == "c7"
        runs = runs.with_columns(state=pl.when(broken).then(pl.lit("failed")).otherwise("state"))
        answer = js.drivers(runs)
        assert answer.select("column", "value", "verdict").row(0) == ("connector_id", "c7", "driver")
        assert answer.filter(column="connector", verdict="driver").is_empty()


def test_bursts_and_incidents_are_no_drivers():
    alarms, naive = 0, 0
    for seed in range(25):
        runs = fleet(seed, unlike=0, incident=0.1)
        answer = js.drivers(runs)
        alarms += answer.filter(verdict="driver").height > 0
        kinds = runs.group_by("connector").agg(n=pl.len(), x=(pl.col("state") == "failed").sum())
        whole = kinds.select(pl.col("n", "x").sum()).row(0, named=True)
        for row in kinds.iter_rows(named=True):
            others = [whole["x"] - row["x"], whole["n"] - row["n"] - whole["x"] + row["x"]]
            naive += stats.fisher_exact([[row["x"], row["n"] - row["x"]], others]).pvalue < 0.05
    assert naive > 25  # of 125 kinds that are all alike
    assert alarms <= 2


def test_all_engines_agree(dump, engine, as_polars):
    for of in ("failed", "1s"):
        answer, other = js.drivers(dump.jobs, of=of), as_polars(js.drivers(engine(dump.jobs), of=of))
        assert other.schema == answer.schema
        assert other.rows() == [pytest.approx(row) for row in answer.rows()]
    assert js.drivers(dump.jobs.sample(fraction=1, shuffle=True, seed=1), of="1s").equals(answer)


def test_counts_are_those_of_the_runs(dump):
    answer = js.drivers(dump.jobs, of="retried", columns=["schedule_type", "hour", "weekday", "user_id"])
    ended = dump.jobs.filter("is_latest", "is_ended")
    rates = js.retry_rates(dump.jobs, by="schedule_type")
    for row in answer.filter(column="schedule_type").iter_rows(named=True):
        same = rates.filter(schedule_type=row["value"]).row(0, named=True)
        assert (row["n"], row["n_bad"], row["rate"], row["rate_low"]) == (same["n"], same["n_retried"], same["retry_rate"], same["retry_rate_low"])  # fmt: skip
    assert answer.filter(column="hour").is_empty()  # all in one hour
    assert ended["started_at"].dt.hour().n_unique() <= 2


def test_hours_and_weekdays_are_those_of_the_calendar():
    runs = fleet(3, connectors=8).with_columns(
        state=pl.when(pl.col("started_at").dt.weekday() == 3).then(pl.lit("failed")).otherwise(pl.lit("completed"))
    )
    row = js.drivers(runs, columns=["hour", "weekday"]).row(0, named=True)
    wednesdays = runs.filter(pl.col("started_at").dt.weekday() == 3)
    assert (row["value"], row["rate"], row["other_rate"], row["n"]) == ("Wednesday", 1, 0, len(wednesdays))
    assert (row["lift"], row["lift_high"], row["verdict"]) == (None, None, "driver")
    at_nine = runs.with_columns(
        state=pl.when(pl.col("started_at").dt.hour() == 9).then(pl.lit("failed")).otherwise(pl.lit("completed"))
    )
    assert js.drivers(at_nine).select("column", "value", "verdict").row(0) == ("hour", "09", "driver")


def test_one_monday_says_nothing_of_mondays():
    week = fleet(3, connectors=8, days=7)
    answer = js.drivers(week, columns="weekday")
    assert len(answer) > 0
    assert set(answer["verdict"]) == {"few"}


def test_a_list_of_failed_jobs_gives_shares_only(polls):
    answer = js.drivers(polls.jobs)
    failed = polls.jobs.filter("is_latest", pl.col("state") == "failed")
    row = answer.row(0, named=True)
    assert row["share"] == pytest.approx((failed[row["column"]] == row["value"]).sum() / len(failed))
    assert set(answer["verdict"]) == {"not estimable"}
    assert all(answer[name].null_count() == len(answer) for name in ("rate", "lift", "excess", "p_value", "n"))
    assert set(js.drivers(polls.jobs, of="10s")["verdict"]) <= {"driver", "unclear", "few"}


def test_empty_one_run_and_nameless_values(dump):
    whole = js.drivers(dump.jobs)
    for some in (dump.jobs.clear(), jobs(immediate("1"))):
        answer = js.drivers(some)
        assert answer.is_empty()
        assert answer.schema == whole.schema
    runs = fleet(4, connectors=10, bad=0).with_columns(
        connector=pl.when(pl.col("connector") != "kind 0").then("connector"),
        connector_id=pl.when(pl.col("connector") != "kind 0").then("connector_id").otherwise(pl.lit("x")),
    )
    row = js.drivers(runs, columns=["connector", "connector_id"]).row(0, named=True)
    assert (row["column"], row["value"], row["n"]) == ("connector", None, runs["connector"].null_count())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"of": "broken"}, "of must be 'failed', 'retried' or a length"),
        ({"columns": "failed_reason"}, "which tells whether a run is failed"),
        ({"columns": ["attempts"], "of": "retried"}, "which tells whether a run is retried"),
        ({"columns": "conector"}, "did you mean 'connector'"),
        ({"columns": []}, "must name at least one"),
        ({"columns": ["hour", "hour"]}, "twice"),
        ({"confidence": 2}, "confidence must lie"),
    ],
)
def test_wrong_arguments_are_named(dump, arguments, message):
    with pytest.raises(js.ArgumentError, match=message):
        js.drivers(dump.jobs, **arguments)
