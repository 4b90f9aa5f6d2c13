import json
import os
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import jobstats as js
from jobstats.analysis.bounds import FLOOR_MS, REACH
from jobstats.facts import STALLED
from jobstats.table import RECORD_SCHEMA
from jobstats.timing import add_times

from ..factories import KEY, T0, immediate, record

SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000
NOW = T0 + HOUR
DURATIONS = [1, 2, 3, 4, 5, 60, 70, 80, 90, 120, 500]
"""In seconds: p50 is 60, p90 is 120, so the bound is 120 x (120 / 60)² = 480."""


def at(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


@pytest.fixture
def looks(tmp_path):
    """The jobs table of lists by the times they were seen, as today's API answers for one organisation."""

    def load(lists: dict[int, list[dict]]) -> pl.DataFrame:
        for ms, records in lists.items():
            name = at(ms).strftime("%Y-%m-%dT%H%M%S.") + f"{ms % 1000:03}Z_o1.json"
            (tmp_path / name).write_text(json.dumps({"success": True, "message": "", "data": records}))
        jobs, rejects = js.load(tmp_path)
        assert rejects.is_empty()
        return jobs

    return load


def of(connector_id: str, connector: str = "Drive", **schedule) -> dict:
    config = schedule or {"scheduleType": "custom", "cronExpression": "* * * * *"}
    return {"connector": connector, "connectorId": connector_id, "scheduleConfig": config}


def past(durations=DURATIONS, **changes) -> list[dict]:
    runs = enumerate(durations)
    return [immediate(f"past{i}", finishedOn=T0 + 500 + seconds * SECOND, **changes) for i, seconds in runs]


def active(name: str, age: int, **changes) -> dict:
    usual = {"timestamp": NOW - age - 500, "processedOn": NOW - age, "finishedOn": ..., "state": "active"}
    return immediate(name, **(usual | {"attemptsMade": 0, "progress": 20} | changes))


def due(name: str, ms: int, **schedule) -> dict:
    """A run that was due then, and waits."""
    usual = {"timestamp": ms - 30 * SECOND, "state": "prioritized", "attemptsMade": 0, "progress": 0}
    job_id = name if schedule.get("scheduleType") == "once" else f"repeat:{name}:{ms}"
    return record(id=job_id, data=of(name, **schedule), processedOn=..., finishedOn=..., **usual)


def rows(answer: pl.DataFrame, *names: str) -> list[tuple]:
    return answer.select("job_id", "kind", "evidence", *names).rows()


def test_runs_are_too_old_for_what_their_connector_takes_by_hand(looks, engine, as_polars):
    elsewhere = [one | {"id": f"o2 {one['id']}"} for one in past(data={"orgId": "o2", "connector": "Box"})]
    phantoms = [immediate(f"x{i}", state="failed", failedReason=STALLED) for i in range(20)]
    table = looks(
        {
            NOW: [
                *past(),
                *elsewhere,
                *phantoms,  # over, and of no matter for how long runs take
                active("long", 481 * SECOND, progress={"percentage": 40, "current": 4, "total": 10}),
                active("not yet", 480 * SECOND),
                active("of its kind", 960 * SECOND, data=of("c2")),
                active("of all", 1_440 * SECOND, data=of("c3", "Gmail")),
            ]
        }
    )
    answer = as_polars(js.stuck(engine(table)))
    assert rows(answer, "bound_of", "age_ms", "bound_ms", "n_history") == [
        ("of all", "running_long", "start", "all", 1_440_000, 480_000, 22),
        ("of its kind", "running_long", "start", "connector", 960_000, 480_000, 11),
        ("long", "running_long", "start", "connector_id", 481_000, 480_000, 11),
    ]
    assert answer.row(2, named=True) == {
        "kind": "running_long",
        "evidence": "start",
        "org_id": "o1",
        "connector": "Drive",
        "connector_id": "c1",
        "job_id": "long",
        "created_at": at(NOW - 481_500),
        "state": "active",
        "since_at": at(NOW - 481_000),
        "observed_at": at(NOW),
        "age_ms": 481_000,
        "bound_ms": 480_000,
        "bound_of": "connector_id",
        "n_history": 11,
        "progress_pct": 40.0,
        "attempts_made": 0,
        "is_rerun_suspected": False,
    }


def test_without_enough_history_a_run_is_not_judged(looks):
    table = looks({NOW: [*past(DURATIONS[:9]), active("old", HOUR), active("young", FLOOR_MS)]})
    assert rows(js.stuck(table), "age_ms", "bound_ms", "n_history") == [
        ("old", "unjudged", "no_history", HOUR, None, None)
    ]


def test_progress_and_restarts_reset_the_clock(looks, engine, as_polars):
    def view(ago: int, moving: int, standing: int, restarted: int) -> dict[int, list[dict]]:
        begun = NOW - HOUR if ago > 10 * MINUTE else NOW - 5 * MINUTE
        again = (NOW - HOUR, 40) if ago > 20 * MINUTE else (NOW - 25 * MINUTE, 20)
        return {
            NOW - ago: [
                *past(),
                active("moving", HOUR, progress=moving),
                active("standing", HOUR, progress=standing),
                active("restarted", HOUR, progress=restarted, processedOn=begun),
                active("again", HOUR, processedOn=again[0], progress=again[1]),
            ]
        }

    table = looks(view(30 * MINUTE, 20, 20, 20) | view(20 * MINUTE, 20, 40, 20) | view(0, 60, 40, 20))
    # Seen to move 20 minutes ago at the earliest, so it has stood still for 20 minutes at least.
    assert rows(as_polars(js.stuck(engine(table))), "age_ms") == [
        ("restarted", "lost_worker", "restarted", 5 * MINUTE),
        ("again", "running_long", "start", 25 * MINUTE),
        ("standing", "running_long", "progress", 20 * MINUTE),
    ]


def test_a_run_waits_too_long_when_the_next_one_is_due(looks, engine, as_polars):
    friday, monday = (int(datetime(2026, 11, day, 14, tzinfo=UTC).timestamp() * 1000) for day in (20, 23))
    workdays = {"scheduleType": "custom", "cronExpression": "0 9 * * 1-5", "timezone": "America/New_York"}
    quarter = {"scheduleType": "interval", "intervalMinutes": 15}
    once = {"scheduleType": "once", "scheduledTime": at(monday - HOUR).isoformat()}
    earlier = of("once", scheduleType="once", scheduledTime=at(T0).isoformat())
    waits = [
        immediate(f"w{i}", wait=seconds * SECOND, data=earlier, timestamp=T0 - HOUR)
        for i, seconds in enumerate([2] * 6 + [20] * 5)
    ]

    def kinds(now: int) -> list[tuple]:
        view = [*waits, due("days", friday, **workdays), due("15min", now - 15 * MINUTE - 1, **quarter)]
        late = [due("fine", now - 15 * MINUTE, **quarter), due("once", monday - HOUR, **once)]
        answer = as_polars(js.stuck(engine(looks({now: view + late}))))
        return answer.select("connector_id", "kind", "bound_of", "age_ms", "bound_ms").rows()

    # Waits of 2 s (p50) and 20 s (p90) allow for 2,000 s.
    assert kinds(monday + 1) == [
        ("once", "waiting_long", "connector_id", HOUR + 1, 2_000_000),
        ("15min", "waiting_long", "schedule", 900_001, 900_000),
        ("days", "waiting_long", "schedule", 3 * 24 * HOUR + 1, 3 * 24 * HOUR),
    ]


def test_lost_workers_and_what_is_over(looks, engine, as_polars):
    stalled = {"state": "failed", "failedReason": STALLED, "attemptsMade": 1, "progress": 20}
    table = looks(
        {
            NOW: [
                immediate("over", data=of("c1"), **stalled),
                immediate("since", data=of("c1"), processedOn=T0 + 9_000, finishedOn=T0 + 9_500),
                immediate("not over", data=of("c2"), **stalled),
                immediate("before", data=of("c2"), processedOn=T0 + 100, finishedOn=T0 + 200),
                immediate("error", data=of("c2"), state="failed", failedReason="no"),
                active("requeued", 9 * SECOND, state="waiting"),
                active("retried", 9 * SECOND, state="waiting", attemptsMade=1),
                active("nowhere", 5 * SECOND, state="stuck"),
            ]
        }
    )
    assert rows(as_polars(js.stuck(engine(table))), "since_at", "age_ms", "bound_ms") == [
        ("nowhere", "lost_worker", "state", at(NOW - 5_000), 5_000, None),
        ("requeued", "lost_worker", "requeued", at(NOW - 9_000), 9_000, None),
        ("not over", "lost_worker", "stalled", at(T0 + 1_500), HOUR - 1_500, None),
    ]


@pytest.mark.parametrize(
    ("later", "is_row"),
    [
        pytest.param([active(f"n{i}", 0) for i in range(3)], False, id="left out"),
        pytest.param([active(f"n{i}", 0, data=of("c9", "Gmail")) for i in range(3)], False, id="none of its kind"),
        pytest.param([active(f"n{i}", 0) for i in range(10)], True, id="cut off"),
        pytest.param([active("n", 0)], True, id="answer about one job"),
    ],
)
def test_a_run_that_a_later_list_leaves_out_is_over(looks, engine, as_polars, later, is_row):
    before = [*past(), active("long", HOUR), active("requeued", MINUTE, state="waiting")]
    started = [active("restarted", HOUR, processedOn=NOW - ago * SECOND) for ago in (59, 9)]
    lists = {NOW - 1: [*before, started[0]], NOW: [*before, started[1]], NOW + 9 * HOUR: later}
    answer = as_polars(js.stuck(engine(looks(lists))))
    # It does not age while it is not seen.
    seen = [("long", "running_long", "start", HOUR, at(NOW))]
    assert rows(answer.filter(pl.col("job_id") == "long"), "age_ms", "observed_at") == (seen if is_row else [])
    # These are soon picked up or done with, so only what shows them still will do.
    soon = {"requeued", "restarted"}
    assert soon & set(answer["job_id"]) == (soon if len(later) == 1 else set())


def test_a_copied_file_makes_no_run_old(tmp_path):
    path = tmp_path / "export.ndjson"
    begun = [active("begun", 0, processedOn=NOW - 10 * SECOND), active("old", HOUR), active("newest", 0)]
    path.write_text("\n".join(json.dumps(one) for one in [*past(), *begun, due(KEY, NOW - SECOND)]))
    os.utime(path, (NOW / 1000 + 86_400, NOW / 1000 + 86_400))
    answer = js.stuck(js.load(path).jobs)
    assert rows(answer, "age_ms")[0] == ("old", "running_long", "start", HOUR)
    assert set(answer["evidence"][1:]) == {"file_mtime"}
    assert len(answer) == 4
    assert js.stuck(js.load(path, observed_at=at(NOW)).jobs)["job_id"].to_list() == ["old"]
    believed = js.stuck(js.load(path, observed_at=at(NOW + 86_400_000)).jobs)
    assert believed["kind"].to_list() == ["running_long"] * 3 + ["waiting_long"]


def test_torn_paused_and_ended_runs_are_not_stuck(looks):
    table = looks(
        {
            NOW: [
                *past(),
                active("torn", HOUR, delay=5_000),
                active("gone", HOUR, state="unknown"),
                active("paused", HOUR, state="paused"),
                active("not started", HOUR, processedOn=...),
                active("ahead", -HOUR),
            ]
        }
    )
    assert rows(js.stuck(table)) == []


def test_windows_are_of_the_time_of_the_trouble(looks):
    stalled = immediate("stalled", state="failed", failedReason=STALLED, data=of("c2"))
    table = looks({NOW: [*past(), stalled, active("long", HOUR)]})
    assert js.stuck(table)["job_id"].to_list() == ["stalled", "long"]
    assert js.stuck(table, since="10m")["job_id"].to_list() == ["long"]
    assert js.stuck(table, until=at(NOW))["job_id"].to_list() == ["stalled"]


def test_nothing_gives_an_empty_answer_of_the_same_shape(dump, engine, as_polars):
    empty = as_polars(js.stuck(engine(dump.jobs.head(0))))
    assert empty.is_empty()
    assert empty.schema == js.stuck(dump.jobs).schema
    assert as_polars(js.stuck(engine(dump.jobs.filter(state="completed")))).schema == empty.schema


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=25), st.integers(0, 10**8))
def test_numpy_agrees_on_the_bound_of_any_history(durations, age):
    ended = [immediate(f"p{i}", finishedOn=T0 + 500 + ms) for i, ms in enumerate(durations)]
    answer = js.stuck(js.load([*ended, active("a", age)], observed_at=at(NOW)).jobs)
    p50, p90 = np.maximum(np.quantile(durations, [0.5, 0.9]), 1)
    bound = max(round(p90 * (p90 / p50) ** REACH), FLOOR_MS)
    limit, evidence = (FLOOR_MS, "no_history") if len(durations) < 10 else (bound, "start")
    assert answer["evidence"].to_list() == [evidence] * (age > limit)
    if len(answer) and evidence == "start":
        assert answer["bound_ms"][0] == pytest.approx(bound, abs=1)


def test_the_log_agrees_on_the_dump(dump, truth_of_dump):
    answer = js.stuck(dump.jobs)
    failed = truth_of_dump.filter(pl.col("stalls") > 0, final_state="failed", attempts_errored=0)
    seen = dump.jobs.filter("is_ended").join(failed, on=["job_id", "created_at"], how="semi")
    assert set(answer["job_id"]) == set(seen["job_id"])
    assert set(answer["evidence"]) == {"stalled"}  # nothing else was stuck: workers were busy for seconds at most
    assert_frame_equal(answer, js.stuck(dump.jobs.sample(fraction=1, shuffle=True, seed=1)))


def test_the_log_agrees_on_lost_workers_in_polls(polls, truth_of_polls):
    lost = truth_of_polls.filter(pl.col("stalls") > 0)
    n_found = 0
    for moment in polls.jobs["observed_at"].unique().sort()[::3]:
        known = polls.jobs.filter(pl.col("observed_at") <= moment).select(RECORD_SCHEMA.names())
        answer = js.stuck(add_times(known)).filter(kind="lost_worker")
        behind = answer.join(lost, on=["job_id", "created_at"], how="semi")
        n_found += len(answer)
        assert len(behind) == len(answer)
    assert n_found >= 10


def test_what_is_planted_in_the_dump_is_found(dump):
    now = dump.jobs["observed_at"].max()
    one = dump.jobs.filter(state="active").head(1)
    connectors = dump.jobs.unique(["org_id", "connector_id"], maintain_order=True).select(
        "org_id", "connector", "connector_id"
    )

    def planted(age: timedelta) -> pl.DataFrame:
        start = pl.lit(now - age, dtype=one.schema["processed_at"])
        runs = one.drop(connectors.columns).join(connectors, how="cross")
        runs = runs.with_columns(job_id=pl.format("planted {}", "connector_id"), processed_at=start, started_at=start)
        return js.stuck(pl.concat([dump.jobs, runs.select(dump.jobs.columns)])).filter(kind="running_long")

    assert planted(timedelta(seconds=60)).is_empty()
    assert len(planted(timedelta(seconds=90))) > 0.98 * len(connectors)
    assert len(planted(timedelta(minutes=10))) == len(connectors)
    assert planted(timedelta(minutes=10))["job_id"].str.starts_with("planted").all()


def test_a_history_tells_the_same(polls):
    runs = js.history(polls.jobs)
    assert_frame_equal(js.stuck(runs), js.stuck(polls.jobs))
