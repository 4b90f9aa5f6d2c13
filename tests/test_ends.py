"""Runs that ended unseen, worked out by hand, and checked against the log of a real queue."""

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import jobstats as js

from .factories import KEY, T0, record

ENDS = ("outcome", "is_failure_ruled_out", "is_retry_ruled_out")


def at(ms: int) -> str:
    """The name of the answer to a poll."""
    moment = pl.Series([T0 + ms]).cast(pl.Datetime("ms")).dt.strftime("%Y-%m-%dT%H%M%S%.3fZ")[0]
    return f"{moment}_o1.json"


def pending(n: int, key: str = KEY, **changes: object) -> dict:
    """Run n of a minutely schedule, waiting for its time."""
    due = T0 + n * 60_000
    made = due - 59_750
    usual = {"id": f"repeat:{key}:{due}", "timestamp": made, "delay": due - made, "state": "delayed", "attemptsMade": 0}
    return record(**(usual | {"processedOn": ..., "finishedOn": ..., "progress": 0} | changes))


def other(**changes: object) -> dict:
    """Another schedule of the same list, far from due, so that the list is not one of a single job."""
    return pending(50, key="f" * 32, **changes)


def later_start(n: int, made: int) -> dict:
    """A third schedule's next run, created when the one before, due at second n, was picked up."""
    due = T0 + n * 1_000
    return pending(
        0, key="e" * 32, id=f"repeat:{'e' * 32}:{due + 60_000}", timestamp=T0 + made, delay=due + 60_000 - T0 - made
    )


def third(n: int) -> dict:
    """That run of the third schedule itself, pending."""
    due = T0 + n * 1_000
    return pending(0, key="e" * 32, id=f"repeat:{'e' * 32}:{due}", timestamp=due - 60_000, delay=60_000)


def failed(ms: int, name: str = "x") -> dict:
    return record(
        id=name,
        state="failed",
        timestamp=T0 - 90_000,
        processedOn=T0 + ms - 50,
        finishedOn=T0 + ms,
        attemptsMade=3,
        failedReason="no",
    )


def history(polls: dict[int, list[dict[str, Any]]], tmp_path: Path) -> pl.DataFrame:
    for ms, records in polls.items():
        (tmp_path / at(ms + 1)).write_text(json.dumps({"success": True, "data": records}))
    jobs, rejects = js.load(tmp_path)
    assert rejects.is_empty()
    return js.history(jobs)


def run_0(runs: pl.DataFrame) -> dict:
    return runs.filter(pl.col("job_id") == f"repeat:{KEY}:{T0}").row(0, named=True)


BEFORE = {-5_000: [pending(0), other()]}
STARTED = pending(1, timestamp=T0 + 250, delay=59_750)
"""Made when run 0 was picked up."""


def ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000) - T0


def test_a_run_left_out_within_five_seconds_of_its_start_has_ended_on_its_first_attempt(tmp_path):
    run = run_0(history(BEFORE | {4_000: [STARTED, other()]}, tmp_path))
    assert [run[name] for name in ENDS] == ["ended_unseen", False, True]
    assert (ms(run["ended_after_at"]), ms(run["ended_before_at"])) == (250, 4_001)
    assert (run["queue_latency_ms"], run["n_starts"], run["n_observations"]) == (250, 1, 1)
    assert run["state"] == "delayed"


def test_one_left_out_later_may_be_queued_until_a_run_due_after_has_started(tmp_path):
    # Left out at 9 s; the third schedule's run, due at 12 s, started at 12.3 s; left out again at 18 s.
    polls = BEFORE | {9_000: [STARTED, third(12)], 18_000: [STARTED, later_start(12, 12_300)]}
    run = run_0(history(polls, tmp_path))
    assert [run[name] for name in ENDS] == ["ended_unseen", False, False]
    assert (ms(run["ended_after_at"]), ms(run["ended_before_at"])) == (250, 18_001)


def test_a_time_to_the_second_was_cut_off(tmp_path):
    run = run_0(
        history({ms_ - 1: records for ms_, records in (BEFORE | {4_000: [STARTED, other()]}).items()}, tmp_path)
    )
    assert ms(run["ended_before_at"]) == 4_999
    (later := tmp_path / "later").mkdir()
    assert run_0(history({-5_000: BEFORE[-5_000], 4_999: [STARTED, other()]}, later))["outcome"] is None


def test_parts_of_one_export_and_answers_about_single_connectors_are_no_lists(tmp_path):
    answers = [[pending(0), other()], [STARTED, other()]]
    loaded = []
    for number, records in enumerate(answers):
        (path := tmp_path / f"part{number}.json").write_text(json.dumps(records))
        os.utime(path, ns=((T0 - 5_000 + 9_001 * number) * 1_000_000,) * 2)
        loaded.append(js.load(path).jobs)
    assert set(pl.concat(loaded)["observed_at_source"]) == {"file_mtime"}
    assert run_0(js.history(pl.concat(loaded)))["outcome"] is None
    # The same two jobs at the same time, one to a file.
    for records, ms_ in zip(answers, (-5_000, 4_001), strict=True):
        for number, one in enumerate(records):
            (folder := tmp_path / f"single{number}").mkdir(exist_ok=True)
            (folder / at(ms_)).write_text(json.dumps({"success": True, "data": one}))
    assert run_0(js.history(js.load([tmp_path / "single0", tmp_path / "single1"]).jobs))["outcome"] is None


def test_a_start_that_is_only_bounded_rules_nothing_out(tmp_path):
    # Due at second 0 and pending then; the next run seen is that of minute 5, made when another started.
    later = pending(5, timestamp=T0 + 4 * 60_000, delay=60_000)
    polls = BEFORE | {4 * 60_000 + 2_000: [later, other(), failed(-20_000)], 4 * 60_000 + 12_000: [later, other()]}
    run = run_0(history(polls, tmp_path))
    assert run["queue_latency_quality"] == "gap_or_late"
    assert not run["is_retry_ruled_out"]
    assert run["outcome"] is None or ms(run["ended_after_at"]) == 0


def test_until_then_nothing_is_said(tmp_path):
    polls = BEFORE | {9_000: [STARTED, third(12)], 12_200: [STARTED, later_start(12, 12_300)]}
    assert run_0(history(polls, tmp_path))["outcome"] is None


@pytest.mark.parametrize(
    "answer",
    [
        [STARTED],  # an answer about one connector
        [STARTED, *(other(id=f"repeat:{n:032x}:{T0 + 3_000_000}") for n in range(9))],  # ten jobs: cut off
        [record(state="failed"), record(id="y", state="failed")],  # failed jobs only
        [STARTED, other(data={"orgId": "o2"})],  # another organisation's job beside it
    ],
)
def test_a_list_that_is_not_complete_says_nothing(answer, tmp_path):
    assert run_0(history(BEFORE | {4_000: answer}, tmp_path))["outcome"] != "ended_unseen"


def test_a_list_without_this_kind_of_connector_says_nothing(tmp_path):
    polls = BEFORE | {
        4_000: [other(data={"connector": "Jira"}), other(id="z", data={"connector": "Jira"})],
        70_000: [STARTED],
    }
    assert run_0(history(polls, tmp_path))["outcome"] is None


def test_a_schedule_that_was_not_seen_again_may_have_been_removed(tmp_path):
    active = record(processedOn=T0 + 250, finishedOn=..., attemptsMade=0, state="active", timestamp=T0 - 59_750)
    polls = BEFORE | {1_000: [active, STARTED, other()], 4_000: [other(), third(12)]}
    assert run_0(history(polls, tmp_path))["outcome"] is None


def test_while_an_earlier_failure_is_listed_later_ones_would_be(tmp_path):
    old = failed(-20_000)
    run = run_0(
        history({ms_: [*records, old] for ms_, records in (BEFORE | {4_000: [STARTED, other()]}).items()}, tmp_path)
    )
    assert [run[name] for name in ENDS] == ["ended_unseen", True, True]


def test_a_failure_after_the_start_rules_nothing_out(tmp_path):
    run = run_0(history(BEFORE | {4_000: [STARTED, other(), failed(1_000)]}, tmp_path))
    assert [run[name] for name in ENDS] == ["ended_unseen", False, True]


@pytest.mark.parametrize(("since", "ruled_out"), [(8_000, True), (9_001, True), (9_002, False)])
def test_lists_must_show_all_that_failed_since_the_one_before(tmp_path, since, ruled_out):
    last = [STARTED, later_start(12, 12_300), failed(since)]
    run = run_0(history(BEFORE | {9_000: [STARTED, third(12), failed(-20_000)], 18_000: last}, tmp_path))
    assert [run[name] for name in ENDS] == ["ended_unseen", ruled_out, False]


def test_a_run_seen_in_a_backoff_is_not_over_after_five_seconds(tmp_path):
    backoff = record(
        state="delayed", delay=5_000, attemptsMade=1, processedOn=T0 + 250, finishedOn=..., timestamp=T0 - 59_750
    )
    polls = BEFORE | {2_000: [backoff, STARTED, other()], 6_000: [STARTED, other()]}
    run = run_0(history(polls, tmp_path))
    assert (run["outcome"], run["is_retried"]) == (None, True)


def test_ends_that_were_seen_are_said_as_they_were(tmp_path):
    done = record(timestamp=T0 - 59_750)
    runs = history(BEFORE | {4_000: [done, STARTED, other(), failed(-20_000)]}, tmp_path)
    assert run_0(runs)["outcome"] == "completed"
    assert run_0(runs)["ended_before_at"] is None
    assert runs.filter(pl.col("job_id") == "x")["outcome"].to_list() == ["failed"]


def test_two_starts_of_one_attempt_are_a_stall(tmp_path):
    starts = [
        record(processedOn=T0 + ms, finishedOn=..., attemptsMade=1, state="active", timestamp=T0 - 59_750)
        for ms in (9_000, 40_000)
    ]
    first = record(processedOn=T0 + 250, finishedOn=..., attemptsMade=0, state="active", timestamp=T0 - 59_750)
    polls = {1_000: [first, STARTED], 10_000: [starts[0], STARTED]}
    run = run_0(history(polls, tmp_path))
    assert (run["n_starts"], run["is_rerun_suspected"]) == (2, False)
    run = run_0(history(polls | {41_000: [starts[1], STARTED]}, tmp_path))
    assert (run["n_starts"], run["is_rerun_suspected"]) == (3, True)


# ---- against the log of the real queue -------------------------------------------------------------------------------


def test_what_is_inferred_of_the_polls_is_what_happened(polls, truth_of_polls):
    runs = js.history(polls.jobs).join(truth_of_polls, on=["job_id", "created_at"], how="left", suffix="_true")
    unseen = runs.filter(pl.col("outcome") == "ended_unseen")
    end = pl.col("finished_ms")
    assert len(unseen) > 300
    assert unseen.select((end <= pl.col("ended_before_at").to_physical()).all()).item()
    assert unseen.select((end >= pl.col("ended_after_at").to_physical()).mean()).item() > 0.99
    assert set(unseen.filter("is_failure_ruled_out")["final_state"]) == {"completed"}
    assert unseen.filter("is_failure_ruled_out").height > 100
    assert unseen.filter("is_retry_ruled_out")["attempts_started"].unique().to_list() == [1]
    assert runs.select((pl.col("n_starts") <= pl.col("attempts_started")).all()).item()


def test_bounds_contain_the_truth_where_naive_rates_do_not(polls, truth_of_polls):
    runs = js.history(polls.jobs)
    rates = js.retry_rates(runs).row(0, named=True)
    known = runs.filter(pl.col("started_at").is_not_null() | pl.col("is_ended"))
    truth = known.join(truth_of_polls, on=["job_id", "created_at"]).filter(pl.col("final_state").is_not_null())
    failing = (truth["final_state"] == "failed").mean()
    retried = (truth["attempts_errored"] > 1).mean() + (
        (truth["attempts_errored"] == 1) & (truth["final_state"] == "completed")
    ).mean()
    assert rates["failure_rate_min"] <= failing <= rates["failure_rate_max"]
    assert rates["retry_rate_min"] <= retried <= rates["retry_rate_max"]
    assert rates["failure_rate"] is None
    assert rates["failure_rate_max"] - rates["failure_rate_min"] < 0.7
