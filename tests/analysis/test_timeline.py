import json
import os
from datetime import UTC, datetime
from itertools import combinations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import jobstats as js
from jobstats.table import HISTORY_SCHEMA

from ..factories import KEY, T0, immediate, iteration, jobs, record
from .levels import at, table


def run(job_id="1", **changes):
    """A run created at 0, due at 100, started at 150, done at 200 and seen at 1,000, in ms after T0."""
    usual = {
        "job_id": job_id,
        "created_at": 0,
        "state": "completed",
        "is_ended": True,
        "eligible_at": 100,
        "eligible_source": "id_suffix",
        "processed_at": 150,
        "started_at": 150,
        "start_source": "processed_on",
        "finished_at": 200,
        "observed_at": 1_000,
        "observed_at_source": "caller",
        "queue_latency_ms": 50,
        "queue_latency_quality": "exact",
    }
    return usual | changes


OPEN = {"is_ended": False, "finished_at": None}
PENDING = OPEN | {"processed_at": None, "started_at": None, "start_source": None, "queue_latency_quality": "unknown"}
BOUND = {"eligible_source": "id_suffix_lower_bound"}
NEXT = {"processed_at": None, "start_source": "successor", "state": "delayed"} | OPEN


@pytest.mark.parametrize(
    ("changes", "outcome", "eligible", "started", "ended", "bar"),
    [
        ({}, "completed", 100, 150, 200, (100, 200)),
        ({"state": "failed"}, "failed", 100, 150, 200, (100, 200)),
        ({"state": "active"} | OPEN, "running", 100, 150, None, (100, 1_000)),
        ({"state": "prioritized"} | PENDING, "waiting", 100, None, None, (100, 1_000)),
        ({"state": "delayed"} | OPEN, "waiting_again", 100, 150, None, (100, 1_000)),
        ({"state": "waiting"} | OPEN, "waiting_again", 100, 150, None, (100, 1_000)),
        ({"state": "paused"} | PENDING, "paused", 100, None, None, (100, 1_000)),
        ({"state": "stuck"} | OPEN, "unknown", 100, 150, None, (100, 1_000)),
        ({"state": "unknown", "is_ended": False}, "unknown", 100, 150, 200, (100, 200)),
        # Last seen before a start that only the next run shows.
        (NEXT | {"started_at": 1_100}, "unknown", 100, 1_100, None, (100, 1_100)),
        (NEXT | {"started_at": 1_100, "queue_latency_quality": "gap_or_late"}, "unknown", 100, None, None, (100, 1_000)),
        # Torn: read while it ended, while it started, and while both happened.
        ({"finished_at": None}, "completed", 100, 150, None, (100, 1_000)),
        (PENDING | {"state": "active"}, "running", 100, None, None, (100, 1_000)),
        (PENDING | {"state": "completed", "is_ended": True}, "completed", 100, None, None, (100, 1_000)),
        # The first start is not known.
        ({"start_source": "last_attempt", "queue_latency_quality": "last_attempt_only"},
         "completed", 100, None, 200, (100, 200)),
        ({"queue_latency_quality": "upper_bound"}, "completed", 100, None, 200, (100, 200)),
        # The due time is not known.
        ({"queue_latency_quality": "upper_bound"} | BOUND, "completed", None, 150, 200, (150, 200)),
        ({"queue_latency_quality": "unknown", "eligible_at": 90_000}, "completed", None, 150, 200, (150, 200)),
        ({"state": "waiting"} | PENDING | BOUND, "waiting", None, None, None, (1_000, 1_000)),
        # Clocks differ.
        ({"eligible_at": 160}, "completed", 160, 150, 200, (150, 200)),
        ({"finished_at": 140}, "completed", 100, 150, 140, (100, 140)),
        # Nothing says when it was seen, or anything else.
        ({"state": "active", "observed_at": None} | OPEN, "running", 100, 150, None, (100, 150)),
        (PENDING | {"state": "failed", "is_ended": True, "eligible_at": None, "observed_at": None},
         "failed", None, None, None, (0, 0)),
    ],
)  # fmt: skip
def test_what_is_known_of_a_run_is_drawn_and_no_more(
    engine, as_polars, changes, outcome, eligible, started, ended, bar
):
    answer = as_polars(js.timeline(engine(table(run(**changes)))))
    row = answer.row(0, named=True)
    assert row["outcome"] == outcome
    assert (row["eligible_at"], row["started_at"], row["ended_at"]) == (at(eligible), at(started), at(ended))
    assert (row["from_at"], row["until_at"], row["lane"]) == (at(bar[0]), at(bar[1]), 0)
    assert row["seen_until_at"] == at(changes.get("observed_at", 1_000))


def test_what_has_not_come_to_pass_is_no_row(engine, as_polars):
    not_due = run("1", state="delayed", **PENDING | {"eligible_at": 2_000})
    older = run("2", is_latest=False)
    assert as_polars(js.timeline(engine(table(not_due, older)))).is_empty()


def test_an_end_that_was_not_seen_is_between_its_bounds_and_has_no_time(engine, as_polars):
    seen = table(run("1", state="active", **OPEN), run("2", **NEXT | {"started_at": 1_100}))
    known = seen.with_columns(ended_after_at=pl.Series([at(1_000), at(1_100)]), ended_before_at=pl.lit(at(5_000)))
    lacking = [pl.lit(None, dtype).alias(name) for name, dtype in HISTORY_SCHEMA.items() if name not in known.columns]
    answer = as_polars(
        js.timeline(
            engine(
                known.with_columns(lacking).cast(
                    {
                        "ended_after_at": HISTORY_SCHEMA["ended_after_at"],
                        "ended_before_at": HISTORY_SCHEMA["ended_after_at"],
                    }
                )
            )
        )
    )
    assert answer["outcome"].to_list() == ["ended_unseen", "ended_unseen"]
    assert answer["ended_at"].to_list() == [None, None]
    assert answer["until_at"].to_list() == [at(1_000), at(1_100)]


def test_a_row_says_what_the_record_says():
    retried = record(attemptsMade=2, timestamp=T0 - 500)
    answer = js.timeline(jobs(retried, iteration(1, timestamp=T0 + 100)))
    row = answer.row(0, named=True)
    assert row == {
        "job_id": f"repeat:{KEY}:{T0}",
        "org_id": "o1",
        "connector": "Drive",
        "connector_id": "c1",
        "created_at": at(-500),
        "outcome": "completed",
        "eligible_at": at(0),
        "started_at": at(100),  # when the next run was made
        "ended_at": at(1_250),
        "seen_until_at": None,
        "queue_latency_ms": 100,
        "queue_latency_quality": "exact",
        "processing_ms": 1_000,
        "attempts_made": 2,
        "is_retried": True,
        "from_at": at(0),
        "until_at": at(1_250),
        "lane": 0,
    }


def bars(*spans):
    return table(
        *(
            run(f"{n:03}", created_at=first, eligible_at=first, started_at=first, processed_at=first, finished_at=last)
            for n, (first, last) in enumerate(spans)
        )
    )


def test_lanes_by_hand(engine, as_polars):
    answer = as_polars(js.timeline(engine(bars((0, 10), (5, 8), (8, 12), (10, 11), (11, 11), (11, 11)))))
    assert answer["lane"].to_list() == [0, 1, 1, 0, 0, 2]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), min_size=1, max_size=30), st.randoms())
def test_bars_of_a_lane_never_overlap_and_lanes_are_as_few_as_can_be(spans, random):
    spans = [(first, first + length) for first, length in spans]
    jobs_table = bars(*spans)
    answer = js.timeline(jobs_table)
    found = [
        (row["lane"], (row["from_at"] - at(0)).total_seconds() * 1000, (row["until_at"] - at(0)).total_seconds() * 1000)
        for row in answer.iter_rows(named=True)
    ]
    for (lane, first, last), (other, begin, end) in combinations(found, 2):
        overlap = first < max(end, begin + 1) and begin < max(last, first + 1)
        assert not (lane == other and overlap)
    most = max(sum(first <= ms < max(last, first + 1) for first, last in spans) for ms in range(41))
    assert sorted(set(answer["lane"])) == list(range(most))
    order = list(range(len(spans)))
    random.shuffle(order)
    assert_frame_equal(js.timeline(jobs_table[order]), answer)


def test_the_newest_are_told_by_start_or_due_time(dump, engine, as_polars):
    rows = [
        (row["started_at"] or row["finished_at"] or row["eligible_at"], row["job_id"], row["created_at"])
        for row in dump.jobs.iter_rows(named=True)
        if row["is_latest"]
        and (row["started_at"] or row["is_ended"] or (row["eligible_at"] and row["eligible_at"] <= row["observed_at"]))
    ]
    rows.sort(key=lambda row: row[1])
    rows.sort(key=lambda row: row[0], reverse=True)
    for most in (1, 7, 120):
        answer = as_polars(js.timeline(engine(dump.jobs), most=most))
        assert set(answer.select("job_id", "created_at").rows()) == {row[1:] for row in rows[:most]}
        assert answer["from_at"].is_sorted()
    since, until = "2026-11-23T14:12:00Z", "2026-11-23T14:12:30Z"
    asked = [row for row in rows if datetime.fromisoformat(since) <= row[0] < datetime.fromisoformat(until)]
    answer = as_polars(js.timeline(engine(dump.jobs), since=since, until=until, most=1_000))
    assert 0 < len(answer) == len(asked) < 1_000
    assert set(answer["job_id"]) == {row[1] for row in asked}


def test_ties_at_the_limit_are_broken_by_id(engine, as_polars):
    same = table(*(run(name, created_at=n) for n, name in enumerate(["b", "c", None, "a", "a"])))
    assert as_polars(js.timeline(engine(same), most=3)).select("job_id", "created_at").rows() == [
        ("a", at(3)),
        ("a", at(4)),
        ("b", at(0)),
    ]
    assert as_polars(js.timeline(engine(same), most=5))["job_id"].to_list() == ["a", "a", "b", "c", None]


@pytest.mark.parametrize("arguments", [{}, {"most": 1}, {"since": "1m", "most": 1_000}, {"until": "2m"}])
def test_engines_agree_on_observations_and_histories(polls, engine, as_polars, arguments):
    for seen in (polls.jobs, js.history(polls.jobs)):
        whole = js.timeline(seen, **arguments)
        assert len(whole) > 0
        assert_frame_equal(as_polars(js.timeline(engine(seen), **arguments)), whole)
        assert_frame_equal(js.timeline(seen.sample(fraction=1, shuffle=True, seed=1), **arguments), whole)


def test_a_history_tells_more_of_the_same_runs(polls):
    seen, known = (js.timeline(one, most=1_000) for one in (polls.jobs, js.history(polls.jobs)))
    key = ["org_id", "job_id", "created_at"]
    both = seen.join(known, on=key, how="full", coalesce=True)
    assert len(both) == len(seen) == len(known)
    assert both.filter(pl.col("outcome") != pl.col("outcome_right"))["outcome_right"].unique().to_list() == [
        "ended_unseen"
    ]
    assert (known["outcome"] == "ended_unseen").sum() == 340


def test_bars_lie_within_what_an_independent_log_says(polls, truth_of_polls):
    answer = js.timeline(js.history(polls.jobs), most=1_000)
    both = answer.join(truth_of_polls, on=["job_id", "created_at"])
    assert len(both) == len(answer)
    ms = {name: pl.col(name).to_physical() for name in ("eligible_at", "started_at", "ended_at", "until_at")}
    late = both.select(
        eligible=(ms["eligible_at"] - pl.col("first_eligible_ms")).abs(),
        started=(ms["started_at"] - pl.col("first_active_ms")).abs(),
        ended=(ms["ended_at"] - pl.col("finished_ms")).abs(),
        until=pl.when(pl.col("ended_at").is_null()).then(ms["until_at"] - pl.col("finished_ms")),
    )
    assert late["eligible"].max() <= 2
    assert late["started"].quantile(0.95) <= 60
    assert late["started"].max() <= 200
    assert late["ended"].max() <= 10
    assert late["until"].count() > 300
    assert late["until"].max() <= 0


def test_a_copied_file_makes_no_bar_long_and_no_run_due(tmp_path, engine, as_polars):
    path = tmp_path / "export.ndjson"
    running = immediate("running", state="active", attemptsMade=0, finishedOn=...)
    pending = {"state": "delayed", "attemptsMade": 0, "processedOn": ..., "finishedOn": ..., "timestamp": T0 - 9_000}
    later = record(id=f"repeat:{KEY}:{T0 + 60_000}", **pending)
    waits = record(id=f"repeat:{KEY[::-1]}:{T0 + 200}", **pending | {"state": "prioritized"})
    path.write_text("\n".join(json.dumps(one) for one in (running, later, waits)))
    os.utime(path, (T0 / 1000 + 86_400, T0 / 1000 + 86_400))
    answer = as_polars(js.timeline(engine(js.load(path).jobs)))
    assert answer.select("outcome", "seen_until_at", "until_at").rows() == [
        ("running", at(500), at(500)),
        ("waiting", at(500), at(500)),
    ]
    told = js.load(path, observed_at=datetime.fromtimestamp(T0 / 1000 + 86_400, UTC)).jobs
    assert as_polars(js.timeline(engine(told)))["outcome"].to_list() == ["running", "waiting", "waiting"]
    assert as_polars(js.timeline(engine(js.load(path).jobs), most=1))["outcome"].to_list() == ["running"]


def test_nothing_gives_an_empty_answer_of_the_same_shape(dump, engine, as_polars):
    whole = js.timeline(dump.jobs)
    for some in (dump.jobs.clear(), dump.jobs.filter(state="delayed", attempts_made=0).with_columns(observed_at=None)):
        answer = as_polars(js.timeline(engine(some), since="7d"))
        assert answer.is_empty()
        assert answer.schema == whole.schema


@pytest.mark.parametrize("most", [0, -1, 1_001, 2.0, True, "5", None])
def test_more_than_anyone_reads_is_refused(dump, most):
    with pytest.raises(js.ArgumentError, match="most must be a whole number from 1 to 1,000; found"):
        js.timeline(dump.jobs, most=most)


def test_the_answer_is_the_kind_of_frame_that_was_asked(dump, engine):
    asked = engine(dump.jobs)
    assert type(js.timeline(asked)) is type(asked)
