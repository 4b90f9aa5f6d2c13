import json
from random import Random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import jobstats as js
from jobstats.contract import SCHEDULE_TYPES
from jobstats.facts import STALLED, Evidence, add_own, facts, interval_evidence, partitions
from jobstats.table import RECORD_SCHEMA
from jobstats.timing import conclude, finish, overtaken, starts

from .factories import KEY, T0, immediate, iteration, jobs, record

MINUTE = 60_000
WAIT = ("queue_latency_ms", "queue_latency_quality", "eligible_source", "start_source")


def interval(n: int, offset: int = 0, key: str = KEY, **changes):
    """Run n of a minutely interval schedule; all but the first are due ``offset`` after the suffix of their id."""
    slot = T0 + n * MINUTE
    due = slot + (offset if n else 0)
    usual = {
        "id": f"repeat:{key}:{slot}",
        "timestamp": due - MINUTE + 250,
        "processedOn": due + 250,
        "finishedOn": due + 900,
    }
    if n == 0:
        usual["timestamp"] = T0 - 20_000
    data = {
        "timestamp": "2026-11-23T14:09:40.000Z",
        "scheduleConfig": {"scheduleType": "interval", "intervalMinutes": 1},
    }
    return record(**(usual | {"data": data} | changes))


def pending(made: dict, due: int, **changes):
    """The same run while it still waited for its time."""
    return (
        made
        | {
            "state": "delayed",
            "delay": due - made["timestamp"],
            "attemptsMade": 0,
            "processedOn": None,
            "finishedOn": None,
        }
        | changes
    )


def test_the_exported_delay_says_nothing_about_the_wait():
    run = jobs(record()).row(0, named=True)
    assert run["queue_latency_literal_ms"] == 60_250  # created a minute ahead, and the delay reads 0
    assert run["queue_latency_ms"] == 250
    assert run["processing_ms"] == 1_000
    assert run["turnaround_ms"] == 1_250


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (record(), (250, "exact", "id_suffix", "processed_on")),
        (immediate("7", wait=480), (480, "exact", "immediate", "processed_on")),
        (
            record(id="crawl-drive-c1-o1", timestamp=T0 - 9_000, data={"scheduleConfig": {"scheduleType": "once", "scheduledTime": "2026-11-23T14:10:00Z"}}),
            (250, "exact", "scheduled_time", "processed_on"),
        ),
        (  # scheduled for a time that had passed when the job was created
            record(id="crawl-drive-c1-o1", timestamp=T0 + 100, data={"scheduleConfig": {"scheduleType": "once", "scheduledTime": "2026-11-23T14:00:00Z"}}),
            (150, "exact", "scheduled_time", "processed_on"),
        ),
        (interval(0), (250, "exact", "id_suffix", "processed_on")),
        (interval(5, offset=700), (950, "upper_bound", "id_suffix_lower_bound", "processed_on")),
        (record(attemptsMade=2, processedOn=T0 + 9_000, finishedOn=T0 + 9_500), (9_000, "last_attempt_only", "id_suffix", "last_attempt")),
        (record(state="failed", failedReason=STALLED), (250, "last_attempt_only", "id_suffix", "last_attempt")),
        (record(state="delayed", attemptsMade=0, delay=60_000, processedOn=None, finishedOn=None), (None, "unknown", "observed", None)),
        (record(state="prioritized", attemptsMade=0, processedOn=None, finishedOn=None), (None, "unknown", "id_suffix", None)),
        (record(id="crawl-drive-c1-o1", state="paused", delay=None, attemptsMade=0, processedOn=None, finishedOn=None), (None, "unknown", None, None)),
        (  # in backoff: the delay is the backoff, and processedOn still the first attempt's
            record(state="delayed", delay=5_000, attemptsMade=1, finishedOn=None, failedReason="no"),
            (250, "exact", "id_suffix", "processed_on"),
        ),
        (record(state="active", attemptsMade=1, finishedOn=None), (250, "last_attempt_only", "id_suffix", "last_attempt")),
    ],
)  # fmt: skip
def test_one_record_alone_says(made, expected):
    assert jobs(made).select(WAIT).row(0) == expected


def test_the_next_run_tells_the_first_start_of_a_retried_one():
    retried = iteration(0, attemptsMade=2, processedOn=T0 + 9_000, finishedOn=T0 + 9_500)
    table = jobs(retried, iteration(1), iteration(2))
    assert table.select(WAIT).row(0) == (250, "exact", "id_suffix", "successor")
    assert table["is_rerun_suspected"].to_list() == [False, False, False]


def test_a_hidden_stall_is_seen_by_the_next_run():
    stalled = iteration(0, processedOn=T0 + 30_250, finishedOn=T0 + 31_000)
    table = jobs(stalled, iteration(1), iteration(2))
    assert table.select(WAIT).row(0) == (250, "exact", "id_suffix", "successor")
    assert table["is_rerun_suspected"].to_list() == [True, False, False]


def test_a_hidden_stall_is_seen_by_two_records_of_the_run():
    early = record(state="active", attemptsMade=0, finishedOn=None)
    late = record(processedOn=T0 + 30_000, finishedOn=T0 + 31_000)
    table = jobs(early, late)
    assert table["queue_latency_ms"].to_list() == [250, 250]
    assert table["is_rerun_suspected"].to_list() == [True, True]


def test_a_run_overtaken_by_later_ones_is_only_bounded():
    late = immediate("slow", wait=40_000)
    others = [
        immediate(f"n{n}", timestamp=T0 + 5_000 * n, processedOn=T0 + 5_000 * n + 50, finishedOn=T0 + 5_000 * n + 90)
        for n in range(1, 6)
    ]
    qualities = jobs(late, *others)["queue_latency_quality"].to_list()
    assert qualities == ["upper_bound"] + ["exact"] * 5


def test_a_run_never_seen_again_was_started_when_its_successor_was_made():
    seen = pending(iteration(0), due=T0)
    table = jobs(seen, pending(iteration(1), due=T0 + MINUTE), pending(iteration(2), due=T0 + 2 * MINUTE))
    assert table.select(WAIT).row(0) == (250, "exact", "observed", "successor")
    assert not table["is_ended"][0]
    assert table["queue_latency_quality"].to_list() == ["exact", "exact", "unknown"]


def test_a_missing_run_between_is_a_gap_and_not_a_wait():
    # Run 1 was never seen. Run 2 was made when run 1 started, a minute and more after run 0 was due.
    table = jobs(pending(iteration(0), due=T0), pending(iteration(2), due=T0 + 2 * MINUTE))
    assert table["queue_latency_ms"][0] == 60_250
    assert table["queue_latency_quality"][0] == "gap_or_late"


def test_the_offset_of_an_interval_schedule_is_learned_from_a_pending_run():
    table = jobs(interval(4, offset=700), pending(interval(5, offset=700), due=T0 + 5 * MINUTE + 700))
    assert table.select(WAIT).row(0) == (250, "exact", "id_suffix_offset", "processed_on")
    assert table["eligible_source"][1] == "observed"


def test_the_offset_is_learned_from_the_second_run_on_servers_that_add_one():
    other = pending(interval(5, offset=700, key="f" * 32), due=T0 + 5 * MINUTE + 700)
    # The first run starts 250 ms late, which becomes the offset; the second is made then.
    first, second, third = interval(0), interval(1, offset=250), interval(2, offset=250)
    second["timestamp"] = first["processedOn"]
    table = jobs(first, second, third, other)
    assert table["eligible_source"].to_list() == ["id_suffix", "id_suffix_offset", "id_suffix_offset", "observed"]
    assert table["queue_latency_ms"].to_list()[:3] == [250, 250, 250]


def test_an_offset_is_not_stretched_by_runs_that_are_missing():
    other = pending(interval(5, offset=8_000, key="f" * 32), due=T0 + 5 * MINUTE + 8_000)
    # The first run is picked up 9 s late, which is the offset of all later ones; each of those starts 50 ms after it is due.
    runs = [interval(0, processedOn=T0 + 9_000, finishedOn=T0 + 9_500)]
    for n in range(1, 9):
        due = T0 + n * MINUTE + 9_000
        runs.append(
            interval(
                n,
                offset=9_000,
                timestamp=T0 + 9_000 if n == 1 else due - MINUTE + 50,
                processedOn=due + 50,
                finishedOn=due + 90,
            )
        )
    whole = jobs(*runs, other)
    assert whole["queue_latency_ms"].to_list()[1:9] == [50] * 8
    for missing in (1, 2):
        table = jobs(runs[0], *runs[missing + 1 :], other)
        assert set(table["eligible_source"].to_list()[1:-1]) == {"id_suffix_lower_bound"}
        assert "exact" not in table["queue_latency_quality"].to_list()[1:-1]


def test_a_successor_that_is_not_the_next_run_confirms_no_start():
    # Started 40 s late; the runs due meanwhile started in time. The run made at its start is missing.
    late = iteration(0, processedOn=T0 + 40_000, finishedOn=T0 + 41_000)
    meanwhile = [
        immediate(str(n), timestamp=T0 + n * 1_000, processedOn=T0 + n * 1_000 + 50, finishedOn=T0 + n * 1_000 + 90)
        for n in (5, 10)
    ]
    assert jobs(late, iteration(2), *meanwhile)["queue_latency_quality"][0] == "upper_bound"


def test_a_server_without_offsets_says_so_by_any_pending_run():
    other = pending(interval(5, key="f" * 32), due=T0 + 5 * MINUTE)
    table = jobs(interval(4), other)
    assert table.select(WAIT).row(0) == (250, "exact", "id_suffix", "processed_on")


def test_ids_are_used_again_and_runs_are_kept_apart():
    first, second = record(id="same", timestamp=T0), record(id="same", timestamp=T0 + 5_000)
    assert jobs(first, second, first)["is_latest"].to_list() == [False, True, True]
    other_org = record(id="same", timestamp=T0, data={"orgId": "o2"})
    assert jobs(first, other_org)["is_latest"].to_list() == [True, True]
    nameless, later = record(id=None), record(id=None, timestamp=T0 + 1)
    assert jobs(nameless, later, nameless)["is_latest"].to_list() == [False, True, True]
    assert jobs(nameless, record(id=None, data={"connectorId": "c2"}))["is_latest"].to_list() == [True, True]


@pytest.mark.parametrize(
    ("changes", "torn", "attempts"),
    [
        ({}, False, 1),
        ({"attemptsMade": 0}, False, 1),  # before BullMQ 5, 0 and 1 are alike on a completed run
        ({"attemptsMade": 0, "finishedOn": None}, True, 1),
        (
            {"attemptsMade": 2, "finishedOn": None},
            True,
            3,
        ),  # read in its third attempt, ended before the state was read
        ({"state": "active", "finishedOn": None}, False, 1),
        ({"state": "active"}, True, 1),
        ({"state": "prioritized", "delay": 5_000, "finishedOn": None}, True, 1),
        ({"state": "delayed", "attemptsMade": 0, "processedOn": None, "finishedOn": None}, True, 0),
        ({"state": "a state of the future", "finishedOn": None}, False, 1),
    ],
)
def test_torn_records_are_flagged_and_their_attempts_righted(changes, torn, attempts):
    row = jobs(record(**changes)).row(0, named=True)
    assert (row["is_torn"], row["attempts"]) == (torn, attempts)


def test_clock_skew_is_kept_and_flagged():
    row = jobs(record(processedOn=T0 - 40)).row(0, named=True)
    assert (row["queue_latency_ms"], row["is_clock_skewed"]) == (-40, True)


HOUR = 3_600_000


def scheduled(cron: str, due: int, made: int, **data):
    """A run of a cron schedule, seen only while it was pending."""
    config = {"scheduleType": "custom", "cronExpression": cron, **data}
    return pending(record(id=f"repeat:{KEY}:{due}", timestamp=made, data={"scheduleConfig": config}), due=due)


def test_every_second_run_missing_is_a_gap_although_the_spacing_is_even():
    ten = 10 * MINUTE
    seen = [scheduled("*/10 * * * *", T0 + n * ten, T0 + (n - 1) * ten + 100) for n in (0, 2, 4)]
    assert jobs(*seen)["queue_latency_quality"].to_list() == ["gap_or_late", "gap_or_late", "unknown"]


def test_the_shortest_day_of_the_year_is_no_proof_of_the_next_run():
    # The clocks of New York went forward on 8 March 2026: the run of that day was due 23 hours after the one before.
    first, missing, third = 1_772_870_400_000, 1_772_953_200_000, 1_773_039_600_000
    seen = [scheduled("0 3 * * *", first, first - 24 * HOUR + 100), scheduled("0 3 * * *", third, missing + 100)]
    assert jobs(*seen).select(WAIT[:2]).row(0) == (23 * HOUR + 100, "gap_or_late")


def test_a_day_is_long_enough_to_wait_for_hours():
    seen = [scheduled("10 14 * * *", T0, T0 - 24 * HOUR + 50), scheduled("10 14 * * *", T0 + 24 * HOUR, T0 + 2 * HOUR)]
    assert jobs(*seen).select(WAIT).row(0) == (2 * HOUR, "exact", "observed", "successor")


def test_a_cron_of_seconds_has_short_periods():
    seen = [scheduled("*/10 * * * * *", T0 + n * MINUTE, T0 + (n - 1) * MINUTE + 5_000) for n in (0, 1)]
    assert jobs(*seen)["queue_latency_quality"][0] == "gap_or_late"


@pytest.mark.parametrize(
    "odd", ["repeat:k:123", f"repeat::{T0}", "repeat:k:１７９５４４３３０００００", "repeat:", f"repeat:k:-{T0}"]
)
def test_a_repeating_id_without_its_time_has_no_due_time(odd):
    assert jobs(record(id=odd, timestamp=T0 - 24 * HOUR)).select(WAIT).row(0) == (None, "unknown", None, "processed_on")


def test_a_key_may_hold_anything():
    assert jobs(record(id=f"repeat:a\nb:c:{T0}"))["schedule_key"][0] == "a\nb:c"


def test_a_successor_made_before_the_run_was_due_tells_nothing():
    assert jobs(iteration(0), iteration(1, timestamp=T0 - 30_000)).select(WAIT).row(0) == (
        250,
        "exact",
        "id_suffix",
        "processed_on",
    )
    retried = iteration(0, attemptsMade=2, processedOn=T0 + 9_000, finishedOn=T0 + 9_500)
    assert jobs(retried, iteration(1, timestamp=T0 - 120_000))["start_source"][0] == "last_attempt"


def test_a_start_long_before_the_due_time_is_no_wait():
    early = record(
        id="crawl-drive-c1-o1",
        data={"scheduleConfig": {"scheduleType": "once", "scheduledTime": "2099-01-01T00:00:00Z"}},
    )
    for made in (early, record(processedOn=1, finishedOn=2)):
        row = jobs(made).row(0, named=True)
        assert (row["queue_latency_ms"], row["queue_latency_quality"], row["is_clock_skewed"]) == (
            None,
            "unknown",
            True,
        )


def test_times_stay_within_the_calendar():
    last = 253_402_300_799_999
    made = pending(record(id="1", timestamp=last), due=last + 5_000)
    assert jobs(made, record(id="2", timestamp=0, processedOn=last, finishedOn=last))["eligible_at"].to_list()


def test_a_start_just_after_the_successor_is_the_same_start():
    table = jobs(iteration(0, processedOn=T0 + 350), iteration(1), iteration(2))
    assert table.select(WAIT).row(0) == (350, "exact", "id_suffix", "processed_on")
    assert not table["is_rerun_suspected"][0]


def test_overtaking_is_judged_with_care():
    slow = immediate("slow", wait=40_000)
    other_org = immediate(
        "b", timestamp=T0 + 5_000, processedOn=T0 + 5_050, finishedOn=T0 + 5_090, data={"orgId": "o2"}
    )
    assert jobs(slow, other_org)["queue_latency_quality"][0] == "exact"
    soon = immediate("b", timestamp=T0 + 1_000, processedOn=T0 + 1_050)
    assert jobs(immediate("a", wait=3_000), soon)["queue_latency_quality"][0] == "exact"


def test_an_offset_is_learned_with_care():
    other = pending(interval(5, offset=700, key="f" * 32), due=T0 + 5 * MINUTE + 700)
    # The second run was made later than a whole slot after the first: that is no offset.
    second = interval(1, timestamp=T0 + MINUTE + 5_000, processedOn=T0 + MINUTE + 9_000, finishedOn=T0 + MINUTE + 9_500)
    assert jobs(interval(0), second, other)["eligible_source"][1] == "id_suffix_lower_bound"
    mixed = [pending(interval(5, offset=n, key=str(n) * 32), due=T0 + 5 * MINUTE + n) for n in (0, 3)]
    assert jobs(interval(4), *mixed)["eligible_source"][0] == "id_suffix_lower_bound"


def test_a_run_put_off_while_pending_is_due_when_last_said():
    assert (
        jobs(pending(record(), due=T0), pending(record(), due=T0 + 30_000))["eligible_at"].dt.epoch("ms").to_list()
        == [T0 + 30_000] * 2
    )


def test_the_newest_observation_stands_even_if_it_knows_less(tmp_path):
    (tmp_path / "2026-11-23T150000Z.json").write_text(json.dumps(record(state="failed")))
    again = record(state="waiting", attemptsMade=0, processedOn=None, finishedOn=None)  # retried by hand
    (tmp_path / "2026-11-23T151000Z.json").write_text(json.dumps(again))
    assert js.load(tmp_path).jobs["is_latest"].to_list() == [False, True]


def test_flags_of_single_records():
    assert jobs(record(finishedOn=T0 + 100))["is_clock_skewed"][0]
    assert jobs(record(state="active", processedOn=None, finishedOn=None))["is_torn"][0]
    assert jobs(record(state="active", attemptsMade=1, finishedOn=None))["is_retried"][0]


# ---- against the independent log ---------------------------------------------------------------------------------


def measured(loaded: js.Loaded, truth: pl.DataFrame) -> pl.DataFrame:
    runs = loaded.jobs.filter("is_latest", pl.col("started_at").is_not_null())
    joined = runs.join(truth.drop("schedule_type"), on=["job_id", "created_at"], how="left")
    assert joined["first_queue_latency_ms"].null_count() == 0
    return joined.with_columns(error=(pl.col("queue_latency_ms") - pl.col("first_queue_latency_ms")).abs())


def share(frame: pl.DataFrame, condition: pl.Expr) -> float:
    return frame.select(condition.mean()).item()


def test_the_dump_agrees_with_the_log(dump, truth_of_dump):
    runs = measured(dump, truth_of_dump)
    first = runs.filter(pl.col("schedule_type") != "interval", pl.col("attempts_started") == 1)
    exact = runs.filter(pl.col("queue_latency_quality") == "exact")
    literal = (pl.col("queue_latency_literal_ms") - pl.col("first_queue_latency_ms")).abs()
    assert len(first) > 800
    assert share(first, pl.col("error") <= 50) >= 0.99
    assert share(runs, pl.col("error") <= 50) >= 0.97
    assert share(exact, pl.col("error") > 250) <= 0.0025
    assert len(exact) > 0.97 * len(runs)
    assert share(runs, literal <= 50) == 0


def test_the_polls_agree_with_the_log(polls, truth_of_polls):
    runs = measured(polls, truth_of_polls)
    recurring = truth_of_polls.filter(pl.col("first_active_ms").is_not_null(), pl.col("schedule_type") != "once")
    exact = runs.filter(pl.col("queue_latency_quality") == "exact")
    found = runs.filter(pl.col("schedule_type") != "once")
    assert len(found) > 0.8 * len(recurring)
    assert share(exact, pl.col("error") <= 100) >= 0.98
    assert share(exact, pl.col("error") > 250) <= 0.0025


def test_outcomes_and_retries_agree_with_the_log(dump, truth_of_dump):
    ended = dump.jobs.filter("is_ended").join(truth_of_dump, on=["job_id", "created_at"], how="left")
    assert (ended["state"] == ended["final_state"]).all()
    # A stall that ends a job counts as an attempt although none errored, so runs that stalled are left out here.
    clean = ended.filter(pl.col("stalls") == 0)
    errored = clean["attempts_errored"] + (clean["final_state"] == "completed").cast(pl.Int64)
    assert (clean["attempts"] == errored).all()
    stalled = dump.jobs.filter("is_rerun_suspected").join(truth_of_dump, on=["job_id", "created_at"])
    assert (stalled["stalls"] > 0).mean() == 1


# ---- whatever the records ----------------------------------------------------------------------------------------

records = st.builds(
    lambda n, kind, made, state, wait, delay, finish: iteration(
        n,
        attemptsMade=made,
        state=state,
        delay=delay,
        processedOn=None if wait is None else T0 + n * MINUTE + wait,
        finishedOn=finish if wait is None or finish is None else T0 + n * MINUTE + wait + finish,
        data={"scheduleConfig": {"scheduleType": kind} | dict.fromkeys(("minute", "hour"), 0) | {"dayOfMonth": 1, "daysOfWeek": [1], "cronExpression": "* * * * *", "scheduledTime": "2026-11-23T14:10:00Z", "intervalMinutes": 1}},
    ),
    st.integers(0, 4),
    st.sampled_from(SCHEDULE_TYPES),
    st.integers(0, 3),
    st.sampled_from(["completed", "failed", "active", "delayed", "prioritized", "waiting", "paused", "odd"]),
    st.none() | st.integers(-100, 90_000),
    st.sampled_from([0, 5_000, 61_000]),
    st.none() | st.integers(0, 10_000),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(records, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_times_hold_together_and_do_not_depend_on_order(made, random):
    table = jobs(*made)
    wait = pl.col("queue_latency_ms")
    assert table.filter(wait.is_null() != (pl.col("queue_latency_quality") == "unknown")).is_empty()
    assert table.filter(wait != (pl.col("started_at") - pl.col("eligible_at")).dt.total_milliseconds()).is_empty()
    assert table.filter(pl.col("started_at").is_null() != pl.col("start_source").is_null()).is_empty()
    assert table.filter(pl.col("eligible_at").is_null() != pl.col("eligible_source").is_null()).is_empty()
    assert table["is_latest"].sum() == table.select("job_id", "created_at").n_unique()
    shuffled = random.sample(made, len(made))
    key = pl.Series([json.dumps(one, sort_keys=True) for one in made])
    again = pl.Series([json.dumps(one, sort_keys=True) for one in shuffled])
    run = ["eligible_at", "eligible_source", "started_at", "start_source", *WAIT[:2], "is_rerun_suspected"]
    assert_frame_equal(
        table.with_columns(key=key).sort("key").select(run),
        jobs(*shuffled).with_columns(key=again).sort("key").select(run),
    )


def test_the_whole_dump_does_not_depend_on_order(dump, lines):
    shuffled = js.load(b"\n".join(reversed(lines))).jobs
    assert_frame_equal(
        dump.jobs.sort("job_id", "created_at").drop("source", "observed_at", "observed_at_source"),
        shuffled.sort("job_id", "created_at").drop("source", "observed_at", "observed_at_source"),
    )


# ---- in parts, as records that do not fit in memory are concluded ------------------------------------------------


def in_parts(records: pl.DataFrame, random, n_parts: int, n_slices: int) -> pl.DataFrame:
    """What add_times makes of records, from batches of them, parts of their facts and slices of their starts."""
    cuts = sorted(set(random.choices(range(1, len(records) + 1), k=random.randint(0, 6))) - {len(records)})
    bounds = list(zip([0, *cuts], [*cuts, len(records)], strict=True))
    random.shuffle(bounds)
    batches = {first: add_own(records[first:end]) for first, end in bounds}
    told = [facts(rows, first) for first, rows in batches.items()]
    evidence = sum((interval_evidence(batch) for batch in told), Evidence())
    spilled: dict[int, list[pl.DataFrame]] = {}
    for batch in told:
        for number, part in partitions(batch, n_parts).items():
            spilled.setdefault(number, []).append(part)
    concluded = [conclude(pl.concat(parts), evidence) for parts in spilled.values()]
    events = pl.concat([starts(part) for part in concluded])
    late, carry = [], None
    edges = sorted(random.choices(events["due"].to_list() or [0], k=n_slices - 1))
    for first, end in reversed(list(zip([-(2**60), *edges], [*edges, 2**60], strict=True))):
        found, carry = overtaken(events.filter(pl.col("due") >= first, pl.col("due") < end), carry)
        late.append(found)
    whole = pl.concat(concluded).sort("_row")
    return pl.concat(
        [finish(rows, whole[first : first + len(rows)], pl.concat(late)) for first, rows in sorted(batches.items())]
    )


@pytest.mark.parametrize("n_parts", [1, 2, 5])
@pytest.mark.parametrize("n_slices", [1, 3, 10])
@pytest.mark.parametrize("name", ["dump", "polls"])
def test_parts_come_to_the_same_as_the_whole(request, name, n_parts, n_slices):
    whole = request.getfixturevalue(name).jobs
    records = whole.select(RECORD_SCHEMA.names())
    assert_frame_equal(in_parts(records, Random(n_parts * n_slices), n_parts, n_slices), whole)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        records | st.integers(0, 90_000).map(lambda wait: immediate(f"n{wait % 7}", wait)), min_size=1, max_size=12
    ),
    st.randoms(use_true_random=False),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_any_parts_come_to_the_same_as_the_whole(made, random, n_parts, n_slices):
    whole = jobs(*made)
    assert_frame_equal(in_parts(whole.select(RECORD_SCHEMA.names()), random, n_parts, n_slices), whole)


event = st.tuples(st.sampled_from("ab"), st.integers(0, 9), st.integers(0, 9), st.booleans())


@settings(max_examples=200, deadline=None)
@given(st.lists(event, min_size=1, max_size=12), st.lists(st.integers(0, 10), max_size=3))
def test_overtaken_in_slices_is_overtaken(made, edges):
    events = pl.DataFrame(
        [(org, start * 700, due * 1_000, n if asks else None) for n, (org, due, start, asks) in enumerate(made)],
        schema={"org_id": pl.String, "started_at": pl.Int64, "due": pl.Int64, "_run": pl.Int64},
        orient="row",
    )
    rows = events.rows()
    expected = {
        run
        for org, start, due, run in rows
        if run is not None and any(o == org and r is None and d >= due and start - s > 1_000 for o, s, d, r in rows)
    }
    late, carry = set(), None
    for first, end in reversed(list(zip([0, *sorted(edges)], [*sorted(edges), 11], strict=True))):
        found, carry = overtaken(events.filter(pl.col("due").is_between(first * 1_000, end * 1_000, "left")), carry)
        late |= set(found)
    assert late == expected == set(overtaken(events)[0])


def test_evidence_adds_up():
    pending_runs = [
        pending(interval(n, offset=wait), due=T0 + n * MINUTE + wait) for n, wait in ((1, 2), (2, 3), (3, 700))
    ]
    told = facts(add_own(jobs(*pending_runs).select(RECORD_SCHEMA.names())))
    assert interval_evidence(told) == Evidence(n_above=2, n_within=1)
    assert interval_evidence(told[:1]) + interval_evidence(told[1:]) == interval_evidence(told)
    assert (interval_evidence(told).adds_offsets, interval_evidence(told).adds_none) == (True, False)
    assert (interval_evidence(told[:1]).adds_offsets, interval_evidence(told[:1]).adds_none) == (False, True)
    assert (Evidence().adds_offsets, Evidence().adds_none) == (False, False)


def test_a_key_in_use_again_by_a_new_schedule_starts_afresh():
    again = {"data": {"timestamp": "2026-11-23T14:05:00.000Z"}}
    retried = iteration(0, attemptsMade=2, processedOn=T0 + 90_000, finishedOn=T0 + 90_500)
    table = jobs(retried, iteration(1, **again), iteration(2))
    assert table["start_source"][0] == "successor"  # run 2 is the next of the same schedule
    assert table["queue_latency_quality"][0] == "gap_or_late"
