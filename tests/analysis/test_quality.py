from datetime import UTC, datetime

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import jobstats as js
from jobstats.facts import STALLED

from ..factories import T0, immediate, iteration, jobs, record


def found(table, rejects=None) -> dict:
    return {row["check"]: row["n"] for row in js.quality(table, rejects).to_dicts()}


def test_good_data_has_nothing_to_say():
    table = jobs(immediate("1")).with_columns(observed_at=pl.col("finished_at"), observed_at_source=pl.lit("file_name"))
    assert js.quality(table).is_empty()


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"state": "odd", "finishedOn": None}, "unknown_state"),
        ({"data": {"scheduleConfig": {"scheduleType": "lunar"}}}, "unknown_schedule"),
        ({"processedOn": T0 - 5}, "clock_skew"),
        ({"state": "active"}, "torn"),
        ({"state": "failed", "failedReason": "null"}, "no_reason"),
        ({"state": "failed", "failedReason": STALLED}, "reruns"),
        ({"attemptsMade": 2}, "first_start_unknown"),
        ({}, "observed_unknown"),
    ],
)
def test_each_limit_is_found(changes, check):
    assert found(jobs(record(**changes)))[check] == 1


def test_missing_outcomes_and_the_row_cap_are_found_in_polls(polls):
    table = js.quality(*polls)
    assert table.row(0, named=True)["check"] == "outcomes_missing"
    assert table.row(0, named=True)["severity"] == "error"
    assert "row_cap" in found(polls.jobs)


def test_a_full_dump_misses_no_outcomes(dump):
    assert {"outcomes_missing", "row_cap"}.isdisjoint(found(dump.jobs))


def test_runs_still_waiting_or_under_way_are_said(dump):
    assert {check: found(dump.jobs)[check] for check in ("still_waiting", "ends_unseen")} == {
        "still_waiting": 46,
        "ends_unseen": 25,
    }


@pytest.mark.parametrize(("n", "severity"), [(200, "note"), (20, "warning")])
def test_a_doubt_about_few_runs_is_a_note(n, severity):
    table = jobs(
        record(id="early", processedOn=T0 - 5, timestamp=T0, data={"orgId": "o2"}),
        *(immediate(str(i)) for i in range(n - 1)),
    )
    assert js.quality(table).filter(pl.col("check") == "clock_skew")["severity"].to_list() == [severity]


@pytest.mark.parametrize(("n_open", "check"), [(1, "ends_unseen"), (2, "outcomes_missing")])
def test_outcomes_are_missing_when_fewer_ends_are_seen_than_not(n_open, check):
    under_way = [immediate(f"a{n}", state="active", attemptsMade=0, finishedOn=None) for n in range(n_open)]
    table = jobs(immediate("1"), *under_way)
    assert found(table)[check] == n_open
    assert js.retry_rates(table)["is_estimable"][0] == (check == "ends_unseen")


def at(minutes: int, *records: dict) -> pl.DataFrame:
    return js.load(list(records), observed_at=datetime(2026, 11, 23, 14, minutes, tzinfo=UTC)).jobs


def test_pauses_longer_than_the_shortest_schedule_are_said():
    # A minutely schedule, looked at each minute, then after five, then after one.
    looks = [at(minute, iteration(minute - 10), iteration(minute - 9)) for minute in (11, 12, 17, 18)]
    table = js.quality(pl.concat(looks)).filter(pl.col("check") == "polling_gaps")
    assert table.select("n", "share", "severity").row(0) == (1, pytest.approx(1 / 3), "warning")
    assert "1 of 3 pauses" in table["message"][0]
    assert "at worst 5 min where one runs every 1 min" in table["message"][0]
    assert "polling_gaps" not in found(pl.concat(looks[:2]))
    assert "polling_gaps" not in found(js.history(pl.concat(looks)))


def test_what_was_loaded_twice_is_said(dump):
    assert found(js.load(["data/dump", "data/dump"]).jobs)["duplicates"] == len(dump.jobs)
    assert "duplicates" not in found(dump.jobs)


@pytest.mark.parametrize(("n_named", "n_nameless", "capped"), [(3, 0, None), (0, 3, None), (8, 2, 1), (9, 3, None)])
def test_jobs_without_an_id_are_different_ones(n_named, n_nameless, capped, engine):
    named = [record(id=str(n), timestamp=T0 + n) for n in range(n_named)]
    nameless = [record(id=None, timestamp=T0 + 100 + n) for n in range(n_nameless)]
    checks = found(engine(at(10, *named, *nameless)))
    assert (checks.get("row_cap"), checks.get("duplicates")) == (capped, None)


@pytest.mark.parametrize(("n_completed", "n_failed", "n"), [(10, 10, 20), (10, 9, 10), (11, 9, None)])
def test_as_many_ends_as_the_server_keeps_are_a_doubt(n_completed, n_failed, n):
    completed = [immediate(f"c{i}") for i in range(n_completed)]
    failed = [immediate(f"f{i}", state="failed", failedReason="no") for i in range(n_failed)]
    assert found(jobs(*completed, *failed)).get("retention") == n


def test_a_history_says_what_it_inferred(polls):
    assert found(js.history(polls.jobs))["ends_inferred"] == 340


def test_rejects_are_counted():
    loaded = js.load([record(), {"name": "bad"}])
    assert found(*loaded)["rejects"] == 1


def test_engines_agree(dump, engine):
    assert_frame_equal(js.quality(engine(dump.jobs)), js.quality(dump.jobs))
