import random
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jobstats as js
from jobstats.analysis.freshness import COLUMNS, CONNECTOR

from ..factories import T0, immediate, iteration, jobs, record

MINUTE = 60_000
REFUSED = "connect ECONNREFUSED 10.0.0.7:6379"


def at(ms: int) -> datetime:
    return datetime.fromtimestamp((T0 + ms) / 1000, UTC)


def seen(ms: int, *records) -> pl.DataFrame:
    """The jobs table of records that were all seen at T0 + ms."""
    return js.load(list(records), observed_at=at(ms)).jobs


def failing(n: int, **changes):
    return iteration(n, **({"state": "failed", "failedReason": REFUSED} | changes))


def pending(n: int, **changes):
    return iteration(n, **({"state": "delayed", "processedOn": None, "finishedOn": None, "attemptsMade": 0} | changes))


def status(table: pl.DataFrame, **asking) -> str:
    return js.freshness(table, **asking)["status"].item()


@pytest.fixture
def six():
    """Success, two failures, success, failure, and the next run, which is pending."""
    return seen(250_000, iteration(0), failing(1), failing(2), iteration(3), failing(4), pending(5))


def test_six_runs_by_hand(six, engine, as_polars):
    row = as_polars(js.freshness(engine(six))).row(0, named=True)
    assert row == {
        "org_id": "o1",
        "connector": "Drive",
        "connector_id": "c1",
        "status": "fresh",
        "last_success_at": at(181_250),
        "last_success_source": "seen",
        "age_ms": 68_750,
        "period_ms": MINUTE,
        "age_periods": pytest.approx(68_750 / 60_000),
        "last_start_at": at(240_250),
        "last_failure_at": at(241_250),
        "cause": "Connection refused",
        "failing_since_at": at(241_250),
        "mttr_ms": 120_000,  # failed at 61,250 first, and succeeded again at 181,250; the second outage is open
        "mtbf_ms": 60_000,  # from 1,250 to 61,250 and from 181,250 to 241,250: two minutes of work, two outages
        "n_failing": 1,
        "n_outages": 2,
        "n_open_outages": 1,
        "n": 5,
        "n_completed": 2,
        "n_failed": 3,
        "n_open": 0,
        "n_ended_unseen": 0,
        "n_unsettled": 0,
    }


@pytest.mark.parametrize(
    ("within", "expected"), [(2, "fresh"), (1.2, "fresh"), (1, "stale"), ("69s", "fresh"), ("68s", "stale")]
)
def test_how_old_is_too_old_is_told_in_periods_or_as_a_length(six, within, expected):
    assert status(six, within=within) == expected


def test_the_past_is_judged_by_what_had_happened_by_then(six):
    row = js.freshness(six, until=at(150_000)).row(0, named=True)
    assert (row["last_success_at"], row["status"], row["age_ms"]) == (at(1_250), "stale", 148_750)
    assert (row["n_failing"], row["failing_since_at"], row["n_open_outages"], row["mttr_ms"]) == (
        2,
        at(61_250),
        1,
        None,
    )
    assert (row["n"], row["n_open"]) == (3, 0)
    assert js.freshness(six, until=at(120_500)).row(0, named=True)["n_open"] == 1


FIRST = {"timestamp": T0 - 600_000}
"""Of the first run of a schedule: created when it was requested."""
PAUSED = record(
    id="crawl-drive-c1-o1", state="paused", timestamp=T0 + 1_900, processedOn=..., finishedOn=..., attemptsMade=0
)
ONCE = {"scheduleConfig": {"scheduleType": "once", "scheduledTime": "2026-11-23T14:10:00.000Z"}}
DISABLED = {"scheduleConfig": {"scheduleType": "daily", "hour": 1, "minute": 2, "isEnabled": False}}


@pytest.mark.parametrize(
    ("expected", "records"),
    [
        ("stale", [iteration(0), failing(1), failing(2), failing(3), pending(4)]),
        ("never", [failing(0, **FIRST), failing(1), pending(2)]),
        ("pending", [pending(5, **FIRST)]),
        ("unknown", [pending(5)]),  # made when a run was picked up that is not in the data
        ("unknown", [iteration(0), failing(1), pending(4)]),  # as was run 3
        ("unknown", [iteration(0), failing(2), pending(3)]),  # as was run 1
        ("unknown", [failing(0), failing(1), pending(2)]),
        ("unscheduled", [immediate("1", data=ONCE)]),
        ("disabled", [iteration(0, data=DISABLED)]),
        ("paused", [iteration(0), PAUSED]),
        ("fresh", [iteration(3), PAUSED]),  # it is at work again
    ],
)
def test_each_status(expected, records, engine, as_polars):
    others = [immediate(f"other {n}", data={"connectorId": "c2"}) for n in range(9)]  # success is seen in this data
    table = as_polars(js.freshness(engine(seen(242_000, *records, *others))))
    assert table.filter(connector_id="c1")["status"].item() == expected


def test_where_no_success_is_seen_in_the_data_nothing_is_said_of_it():
    assert status(seen(242_000, failing(0), failing(1), pending(2))) == "unknown"


def test_a_run_that_was_due_and_is_not_seen_any_more_may_have_succeeded():
    # Another organisation's list is newer, which says nothing; a newer one of its own does.
    gone = js.load([iteration(0), failing(1), pending(2)], observed_at=at(115_000)).jobs
    other = [immediate(f"{n}", data={"connectorId": "c2", "orgId": "o2"}) for n in range(9)]
    elsewhere = js.load(other, observed_at=at(400_000)).jobs
    here = js.load(other[0] | {"data": other[0]["data"] | {"orgId": "o1"}}, observed_at=at(400_000)).jobs
    first = js.freshness(pl.concat([gone, elsewhere])).filter(connector_id="c1", org_id="o1").row(0, named=True)
    then = js.freshness(pl.concat([gone, elsewhere, here])).filter(connector_id="c1").row(0, named=True)
    assert (first["status"], first["n_unsettled"]) == ("stale", 0)
    assert (then["status"], then["n_unsettled"]) == ("unknown", 1)


@pytest.mark.parametrize(
    ("schedule", "hours"),
    [
        ({"scheduleType": "weekly", "daysOfWeek": [1, 4], "hour": 3, "minute": 0}, 96),  # Thursday to Monday
        ({"scheduleType": "custom", "cronExpression": "*/15 9-17 * * 1-5"}, 63.25),  # Friday 17:45 to Monday 9:00
        ({"scheduleType": "custom", "cronExpression": "0 0 * * 1#1"}, 35 * 24),  # first Mondays
        ({"scheduleType": "monthly", "dayOfMonth": 31, "hour": 0, "minute": 0}, 61 * 24),
        ({"scheduleType": "daily", "hour": 2, "minute": 30}, 24),
        ({"scheduleType": "interval", "intervalMinutes": 90}, 1.5),
        ({"scheduleType": "custom", "cronExpression": "0 0 29 2 *"}, None),
        ({"scheduleType": "custom", "cronExpression": "nonsense"}, None),
        ({"scheduleType": "once", "scheduledTime": "2026-11-23T14:10:00.000Z"}, None),
    ],
)
def test_the_period_is_the_longest_time_between_two_fires(schedule, hours):
    period = js.freshness(jobs(immediate("1", data={"scheduleConfig": schedule})))["period_ms"].item()
    assert period == (None if hours is None else hours * 3_600_000)


def test_the_newest_schedule_counts():
    old = immediate("1", timestamp=T0 - 1, data={"scheduleConfig": {"scheduleType": "interval", "intervalMinutes": 1}})
    new = immediate("2", data={"scheduleConfig": {"scheduleType": "interval", "intervalMinutes": 7}})
    assert js.freshness(jobs(new, old))["period_ms"].item() == 7 * MINUTE


def test_connectors_without_ids_are_connectors_of_their_own(engine, as_polars):
    table = seen(
        2_000,
        immediate("1"),
        immediate("2", data={"connectorId": None}, state="failed"),
        immediate("3", data={"connectorId": None}),
    ).with_columns(org_id=pl.when(pl.col("job_id") != "3").then("org_id"))
    answer = as_polars(js.freshness(engine(table)))
    assert answer.select(*CONNECTOR, "n_completed", "n_failed").rows() == [
        ("o1", "Drive", "c1", 1, 0),
        ("o1", "Drive", None, 0, 1),
        (None, "Drive", None, 1, 0),
    ]


def test_torn_records_and_nothing_at_all(engine, as_polars):
    torn = seen(2_000, immediate("1", finishedOn=None), immediate("2", processedOn=None, finishedOn=None))
    row = as_polars(js.freshness(engine(torn))).row(0, named=True)
    assert (row["n_completed"], row["last_success_at"]) == (2, at(500))
    empty = as_polars(js.freshness(engine(torn.clear())))
    assert (empty.columns, len(empty), empty.schema) == (list(COLUMNS), 0, js.freshness(torn).schema)


def by_hand(ends: list[tuple[int, bool]]) -> tuple[int | None, int, int, int]:
    """Last success, failing streak, outages, and time in outages that are over, one run after another."""
    last, streak, outages, down, began = None, 0, 0, 0, 0
    for end, is_good in sorted(ends):
        if is_good:
            down += end - began if streak else 0
            last, streak = end, 0
        else:
            began, outages = (began, outages) if streak else (end, outages + 1)
            streak += 1
    return last, streak, outages, down


def test_the_log_agrees_at_any_moment(dump, truth_of_dump):
    known = dump.jobs.join(truth_of_dump.select("job_id", "created_at", "final_state"), on=["job_id", "created_at"])
    # Two records are torn: all that is known of their ends is that they came after the last start.
    ended = known.filter("is_ended").with_columns(pl.col("finished_at").fill_null(pl.col("processed_at")))
    first, last = ended["finished_at"].min(), dump.jobs["observed_at"].max()
    draw, checked = random.Random(7), 0
    for moment in [last, *(first + draw.random() * (last - first) for _ in range(4))]:
        answer = js.freshness(dump.jobs, until=moment)
        by_then = ended.filter(pl.col("finished_at") <= moment).partition_by(CONNECTOR, as_dict=True)
        assert set(by_then) <= set(answer.select(CONNECTOR).rows())
        for row in answer.iter_rows(named=True):
            runs = by_then.get(tuple(row[name] for name in CONNECTOR), ended.clear())
            success, streak, outages, down = by_hand(
                [
                    (round(end.timestamp() * 1000), state == "completed")
                    for end, state in runs.select("finished_at", "final_state").rows()
                ]
            )
            found = row["last_success_at"] and round(row["last_success_at"].timestamp() * 1000)
            assert (found, row["n_failing"], row["n_outages"], row["n"]) == (success, streak, outages, len(runs))
            closed = outages - (streak > 0)
            assert row["mttr_ms"] == (pytest.approx(down / closed) if closed else None)
            checked += 1
    assert checked > 1_500


def test_on_answers_of_todays_server_what_is_inferred_is_true_and_the_rest_unknown(polls, truth_of_polls):
    runs = js.history(polls.jobs)
    answer = js.freshness(runs)
    inferred = answer.filter(last_success_source="inferred").join(
        runs.with_columns(last_success_at="ended_after_at"), on=[*CONNECTOR, "last_success_at"]
    )
    final = inferred.join(truth_of_polls, on=["job_id", "created_at"])["final_state"]
    assert len(final) > 20
    assert (final == "completed").all()
    assert answer.filter(pl.col("status").is_in(["never", "stale"])).is_empty()
    # One poll shows hardly any success, and says so.
    one = polls.jobs.filter(pl.col("observed_at") == pl.col("observed_at").max().over("org_id"))
    assert set(js.freshness(one.with_columns(is_latest=True))["status"]) <= {"unknown", "pending", "paused"}


@settings(max_examples=12, deadline=None)
@given(ends=st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=12), seed=st.integers(0, 9))
def test_streaks_and_outages_do_not_depend_on_the_order_of_rows(ends, seed):
    runs = [
        immediate(str(n), finishedOn=T0 + 1_000 + end, state="completed" if is_good else "failed")
        for n, (end, is_good) in enumerate(ends)
    ]
    table = seen(10_000, *runs)
    answer = js.freshness(table)
    row = answer.row(0, named=True)
    # Of runs that end in the same millisecond the success is the later, as False sorts before True.
    last, streak, outages, down = by_hand(ends)
    assert row["last_success_at"] == (None if last is None else at(1_000 + last))
    assert (row["n_failing"], row["n_outages"], row["n_open_outages"]) == (streak, outages, streak > 0)
    assert row["mttr_ms"] == (down / (outages - (streak > 0)) if outages > (streak > 0) else None)
    assert answer.equals(js.freshness(table.sample(fraction=1, shuffle=True, seed=seed)))


@pytest.mark.parametrize("within", [0, -1, True, float("inf"), "2 periods", None])
def test_what_is_no_limit_is_refused(six, within):
    with pytest.raises(js.ArgumentError, match="within"):
        js.freshness(six, within=within)


def test_engines_agree_on_a_real_queue(polls, engine, as_polars):
    runs = js.history(polls.jobs)
    expected = js.freshness(runs, until=polls.jobs["observed_at"].max() - timedelta(seconds=90))
    found = as_polars(js.freshness(engine(runs), until="90s"))
    assert found.equals(expected)
    assert found.schema == expected.schema
