import json
import random
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

import jobstats as js
from jobstats.errors import ArgumentError
from jobstats.firing import fire_times

from ..factories import KEY, T0, immediate, iteration, record

MINUTE = 60_000
REQUESTED = "2026-11-23T14:00:00.000Z"


def at(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def fates(table, **arguments) -> list[tuple]:
    """Minute after T0, fate, reason and lateness of each fire expected of connector c1."""
    rows = (
        js.fires(table, **arguments).filter(connector_id="c1").select("fire_at", "fate", "reason", "lateness_ms").rows()
    )
    return [((fire - at(T0)) // timedelta(minutes=1), *rest) for fire, *rest in rows]


def seen(*records, after: int) -> pl.DataFrame:
    """The jobs table of records seen so many minutes after T0."""
    table, rejects = js.load(list(records), observed_at=at(T0 + after * MINUTE))
    assert rejects.is_empty()
    return table


def waiting(n: int, made: int) -> dict:
    """Run n of a minutely schedule, made so many milliseconds after T0, due and not started."""
    due = {"id": f"repeat:{KEY}:{T0 + n * MINUTE}", "timestamp": T0 + made, "state": "prioritized"}
    return record(**due, delay=0, attemptsMade=0, processedOn=None, finishedOn=None)


# ---- by hand -----------------------------------------------------------------------------------------------------


@pytest.fixture
def five():
    """On time; started 90 s late, over the fire between; off its schedule; unreadable; and waiting to be started.

    Run 0 starts at 250 ms and makes run 1, which starts at 2:30 and makes run 3, so the fire at 2 is skipped. Run 3 starts
    at 3:00.250, before run 1 is done at 3:10, and makes run 4, which still waits at 6, so 5 and 6 are skipped.
    """
    late, end = T0 + 150_000, T0 + 190_000
    other = {"connectorId": "c2", "scheduleConfig": {"scheduleType": "custom", "cronExpression": "61 * * * *"}}
    return seen(
        iteration(0),
        iteration(1, timestamp=T0 + 250, processedOn=late, finishedOn=end),
        iteration(3, timestamp=late),
        waiting(4, 3 * MINUTE + 250),
        record(id=f"repeat:{'f' * 32}:{T0 + 12_345}", data={"connectorId": "c3"}),
        record(id=f"repeat:{'e' * 32}:{T0}", data=other),
        after=6,
    )


def test_a_chain_by_hand(five):
    skipped = ("missed", "run_before_waited", None)
    assert [fate for fate in fates(five) if fate[0] > 0] == [
        (1, "late", None, 90_000),
        (2, *skipped),
        (3, "on_time", None, 250),
        (4, "late", None, None),
        (5, *skipped),
        (6, *skipped),
    ]
    last = js.fires(five).filter(pl.col("waited_ms").is_not_null())
    assert last.select("fire_at", "waited_ms", "is_seen", "started_at").rows() == [
        (at(T0 + 4 * MINUTE), 2 * MINUTE, True, None)
    ]


def test_counts_and_rates_by_hand(five, engine, as_polars):
    row = as_polars(js.schedule_adherence(engine(five.filter(pl.col("connector_id") != "c3")))).row(0, named=True)
    counts = {"n": 7, "n_on_time": 2, "n_late": 2, "n_missed": 3, "n_started": 0, "n_pending": 0, "n_unknown": 0}
    counts |= {"n_expected": 7, "n_late_waiting": 1, "n_missed_waiting": 3, "n_unseen_starts": 0}
    counts |= {"n_overlapping": 1, "n_off_schedule": 0, "n_unreadable": 1}
    measures = {"p50_ms": 250.0, "p95_ms": 250 + 0.9 * 89_750, "max_ms": 90_000}
    for name, k in (("on_time_rate", 2), ("missed_rate", 3)):
        interval = binomtest(k, 7).proportion_ci(method="wilson")
        measures |= {name: k / 7, f"{name}_low": interval.low, f"{name}_high": interval.high}
    assert row == {name: pytest.approx(value) for name, value in (measures | counts).items()}


def test_groups_and_windows_by_hand(five, engine, as_polars):
    table = as_polars(js.schedule_adherence(engine(five), by="connector_id", every="2m", until=at(T0 + 8 * MINUTE)))
    minute = (pl.col("bucket") - at(T0)).dt.total_minutes()
    rows = table.select("connector_id", minute, "n", "n_missed", "n_expected", "n_off_schedule", "n_unreadable").rows()
    assert rows == [
        *[("c1", 0, 2, 0, 2, 0, 0), ("c1", 2, 2, 1, 2, 0, 0), ("c1", 4, 2, 1, 2, 0, 0), ("c1", 6, 1, 1, 1, 0, 0)],
        *[("c2", 0, 0, 0, 0, 0, 1), ("c2", 2, 0, 0, 0, 0, 0), ("c2", 4, 0, 0, 0, 0, 0), ("c2", 6, 0, 0, 0, 0, 0)],
        # The schedule of c3 fires each minute as it is written, and was not seen to.
        *[("c3", 0, 0, 0, 1, 1, 0), ("c3", 2, 0, 0, 2, 0, 0), ("c3", 4, 0, 0, 2, 0, 0), ("c3", 6, 0, 0, 1, 0, 0)],
    ]


@pytest.mark.parametrize(
    ("first_start", "made", "last", "expected"),
    [
        # Run 0 started when the next one seen was made: none was made between.
        (250, 250, 1, []),
        (130_250, 130_250, 3, [("missed", None), ("missed", None)]),
        # It started earlier: the fire after its start got a run, and if it is the only one, started when that was made.
        (250, 60_700, 2, [("on_time", 700)]),
        (250, 119_000, 2, [("on_time", 59_000)]),
        (70_000, 121_000, 3, [("missed", None), ("on_time", 1_000)]),
        # Of several the first did, at a time that is not known, and nothing is known of the others.
        (250, 100_000 + 60_000, 3, [("started", None), ("unknown", None)]),
        (250, 120_700, 3, [("started", None), ("unknown", None)]),
        (70_000, 190_000, 4, [("missed", None), ("started", None), ("unknown", None)]),
        # It started just before a fire, and may have been looked at just after.
        (59_800, 121_000, 3, [("unknown", None), ("unknown", None)]),
    ],
)
def test_what_two_runs_say_of_the_fires_between(first_start, made, last, expected):
    table = seen(
        iteration(0, processedOn=T0 + first_start, finishedOn=T0 + first_start + 1),
        iteration(last, timestamp=T0 + made),
        after=last,
    )
    between = [(fate, lateness) for n, fate, _, lateness in fates(table) if 0 < n < last]
    assert between == expected


def test_a_start_that_is_not_known_says_nothing():
    retried = iteration(0, attemptsMade=2, processedOn=T0 + 70_000, finishedOn=T0 + 71_000)
    table = seen(retried, iteration(3), after=4)
    assert [fate[:2] for fate in fates(table)] == [
        (0, "started"),
        (1, "unknown"),
        (2, "unknown"),
        (3, "on_time"),
        (4, "unknown"),
    ]


def test_a_retried_start_within_grace_is_on_time_all_the_same():
    table = seen(iteration(0, attemptsMade=2, processedOn=T0 + 30_000, finishedOn=T0 + 31_000), after=0)
    assert fates(table) == [(0, "on_time", None, None)]


def test_grace_decides_what_is_late_and_what_still_may_be_on_time():
    table = seen(iteration(0), waiting(1, 250), after=2)
    assert [fate[:2] for fate in fates(table, grace="1m")] == [(0, "on_time"), (1, "pending"), (2, "missed")]
    assert [fate[:2] for fate in fates(table, grace="59s")] == [(0, "on_time"), (1, "late"), (2, "missed")]


def test_before_the_first_run_seen_fires_are_expected_only_while_it_was_watched():
    asked = {"timestamp": at(T0 - 20_000).isoformat()}
    third = iteration(3, data=asked)
    assert [fate[0] for fate in fates(seen(third, after=3))] == [3]
    # Another schedule was seen before, so the first run of this one, made at its request, and more were there unseen.
    other = seen(iteration(9, data={"connectorId": "c2"}), after=-1)
    first, unknown = (0, "started", None, None), (2, "unknown", None, None)
    assert fates(pl.concat([other, seen(third, after=3)]))[:3] == [first, (1, *unknown[1:]), unknown]
    # With one fire until the next run was made, that run's start is known.
    second = iteration(1, timestamp=T0 + 700, data=asked)
    assert fates(pl.concat([other, seen(second, after=1)])) == [(0, "on_time", None, 700), (1, "on_time", None, 250)]


def test_a_schedule_ends_when_its_connector_is_scheduled_anew_or_paused():
    paused = {
        "timestamp": at(T0 + 150_000).isoformat(),
        "scheduleConfig": {"scheduleType": "daily", "hour": 3, "minute": 0},
    }
    pause = record(
        id="crawl-drive-c1-o1", state="paused", timestamp=T0 + 150_000, processedOn=None, finishedOn=None, data=paused
    )
    table = seen(iteration(0), iteration(1), iteration(2), waiting(3, 2 * MINUTE + 250), pause, after=9)
    assert [fate[0] for fate in fates(table)] == [0, 1, 2]
    assert [fate[0] for fate in fates(table.filter(pl.col("state") != "paused"))] == list(range(10))


def test_a_disabled_schedule_expects_nothing_and_one_off_fires_once():
    off = {"scheduleConfig": {"scheduleType": "custom", "cronExpression": "* * * * *", "isEnabled": False}}
    once = {"scheduleConfig": {"scheduleType": "once", "scheduledTime": at(T0).isoformat()}}
    table = seen(
        iteration(0, data=off | {"connectorId": "c2"}),
        iteration(2, data=off | {"connectorId": "c2"}),
        immediate("crawl-drive-c1-o1", timestamp=T0 - 5_000, processedOn=T0 + 400, data=once),
        immediate("plain"),
        after=3,
    )
    assert fates(table) == [(0, "on_time", None, 400)]
    assert js.schedule_adherence(table).select("n", "n_off_schedule", "n_unreadable").row(0) == (1, 2, 0)


def test_a_file_written_later_does_not_make_the_last_run_wait(tmp_path):
    path = tmp_path / "export.ndjson"
    path.write_text("\n".join(json.dumps(each) for each in (iteration(0), waiting(1, 250))))
    table, _ = js.load(path)
    assert table["observed_at_source"][0] == "file_mtime"
    assert fates(table) == [(0, "on_time", None, 250)]  # the newest event is the end of run 0, before 1 is due


# ---- whatever the input ------------------------------------------------------------------------------------------


def test_empty_and_of_one_row(five, engine, as_polars):
    nothing = five.clear()
    row = as_polars(js.schedule_adherence(engine(nothing))).row(0, named=True)
    assert {row[name] for name in row if name.startswith("n")} == {0}
    assert row["on_time_rate"] is row["missed_rate_low"] is row["max_ms"] is None
    assert as_polars(js.schedule_adherence(engine(nothing), by="connector", every="1h")).is_empty()
    assert as_polars(js.fires(engine(nothing))).is_empty()
    assert len(as_polars(js.fires(engine(five.head(1))))) == 7
    bare = five.with_columns(
        pl.lit(None, five.schema[name]).alias(name) for name in ("eligible_at", "started_at", "requested_at")
    )
    assert js.schedule_adherence(bare)["n_expected"].item() > 0


def test_arguments_that_cannot_be_answered(five):
    with pytest.raises(ArgumentError, match="by names 'state', which differs between the runs of one schedule"):
        js.schedule_adherence(five, by="state")
    with pytest.raises(ArgumentError, match="grace must be a number"):
        js.schedule_adherence(five, grace="soon")
    with pytest.raises(ArgumentError, match="fires more than 20,000,000 times in 36,500 days"):
        js.fires(five.with_columns(pl.col("iteration_at") - timedelta(days=36_500)))


def test_engines_agree_on_real_data(dump, polls, engine, as_polars):
    table = pl.concat([dump.jobs, polls.jobs])
    asked = {"by": ["connector", "schedule_type"], "every": "1m", "grace": "2s"}
    expected = js.schedule_adherence(table, **asked)
    answer = as_polars(js.schedule_adherence(engine(table), **asked))
    assert answer.cast(expected.schema).equals(expected)
    assert as_polars(js.fires(engine(table))).cast(js.fires(table).schema).equals(js.fires(table))


def test_many_runs_are_looked_at_in_pieces(dump, polls, monkeypatch):
    whole = [js.fires(table) for table in (dump.jobs, polls.jobs)]
    monkeypatch.setattr("jobstats.analysis.chains._RUNS_AT_ONCE", 40)
    for table, expected in zip((dump.jobs, polls.jobs), whole, strict=True):
        assert js.fires(table).equals(expected)


def test_counts_add_up(dump, polls):
    for table in (dump.jobs, polls.jobs, js.history(polls.jobs)):
        for row in js.schedule_adherence(table, by="schedule_type", every="1m", grace="1s").iter_rows(named=True):
            assert row["n"] == row["n_on_time"] + row["n_late"] + row["n_missed"]
            assert row["n_expected"] == row["n"] + row["n_started"] + row["n_pending"] + row["n_unknown"]
            assert row["n_late_waiting"] <= row["n_late"]
            assert row["n_missed_waiting"] <= row["n_missed"]


def test_windows_add_up_to_the_whole(dump, five):
    for table in (dump.jobs, five):
        whole = js.fires(table)
        middle = whole["due_at"].median()
        assert pl.concat([js.fires(table, until=middle), js.fires(table, since=middle)]).equals(whole)


# ---- against what was recorded -----------------------------------------------------------------------------------


def with_truth(expected: pl.DataFrame, truth: pl.DataFrame) -> pl.DataFrame:
    """Expected fires of the schedules that ran as written, each with the wait that the log tells."""
    repeats = truth.filter(pl.col("job_id").str.starts_with("repeat:")).select(
        "first_queue_latency_ms",
        schedule_key=pl.col("job_id").str.slice(7, 32),
        fire_at=pl.col("job_id").str.tail(13).cast(pl.Int64).cast(pl.Datetime("ms", "UTC")),
        has_run=True,
    )
    # The others ran sixty times as fast as they say, and so at other times than full minutes.
    on_minute = (pl.col("fire_at").dt.epoch("ms") % MINUTE == 0).all().over("schedule_key")
    as_written = repeats.filter(on_minute).select("schedule_key").unique()
    return expected.join(as_written, on="schedule_key", how="semi").join(
        repeats.unique(["schedule_key", "fire_at"]), on=["schedule_key", "fire_at"], how="left"
    )


def test_the_log_agrees_on_the_dump(dump, truth_of_dump):
    rows = with_truth(js.fires(dump.jobs, grace="1s"), truth_of_dump)
    known = rows.filter(pl.col("fate").is_in(["on_time", "late"]))
    assert (len(rows), len(known), rows["has_run"].null_count()) == (653, 646, 0)
    late = known["first_queue_latency_ms"] > 1_000
    assert ((known["fate"] == "late") == late).all()
    assert (known["lateness_ms"] - known["first_queue_latency_ms"]).abs().quantile(0.95) <= 25


@pytest.mark.parametrize("seed", range(3))
def test_runs_left_out_of_the_dump_are_found_or_unknown_and_never_missed(dump, truth_of_dump, seed):
    kept = dump.jobs.filter(pl.int_range(pl.len()).shuffle(seed=seed) % 4 > 0)
    kept = js.history(kept).drop(js.history(kept).columns[len(dump.jobs.columns) :])
    rows = with_truth(js.fires(kept, grace="1s"), truth_of_dump).filter(~pl.col("is_seen"))
    assert len(rows) > 80
    assert rows["has_run"].all()
    assert set(rows["fate"]) == {"on_time", "late", "started", "unknown"}
    known = rows.filter(pl.col("lateness_ms").is_not_null())
    assert len(known) > 20
    assert (known["lateness_ms"] - known["first_queue_latency_ms"]).abs().quantile(0.9) < 100


def test_the_log_agrees_on_todays_answers(polls, truth_of_polls):
    rows = with_truth(js.fires(polls.jobs, grace="1s"), truth_of_polls)
    assert rows["has_run"].all()
    known = rows.filter(pl.col("fate").is_in(["on_time", "late"]))
    assert len(known) > 100
    wrong = (known["fate"] == "late") != (known["first_queue_latency_ms"] > 1_000)
    assert wrong.sum() <= 2  # waits within 75 ms of the grace


# ---- against a server made up ------------------------------------------------------------------------------------


def server(rng: random.Random, key: int, until: int) -> tuple[list[dict], set[int]]:
    """The runs of one schedule as BullMQ makes them, in a plain loop, and all times at which it should have fired."""
    cron, zone = rng.choice(
        [("* * * * *", "UTC"), ("*/5 * * * *", "Asia/Kolkata"), ("1-59/2 14,20 * * *", "Europe/Berlin")]
    )
    every = rng.choice([None, None, 3 * MINUTE])
    requested = T0 + rng.randrange(0, 10 * MINUTE)
    config = {"scheduleType": "custom", "cronExpression": cron, "timezone": zone}
    if every:
        config = {"scheduleType": "interval", "scheduleConfig": {"intervalMinutes": 3}}
    fires = list(range(-(-T0 // every) * every, until, every)) if every else fire_times(cron, zone, T0, until)
    common = {"connectorId": f"c{key}", "timestamp": at(requested).isoformat(), "scheduleConfig": config}
    made, offset, runs = requested + rng.randrange(5), 0, []
    while (fire := next((each for each in fires if each + offset > made), None)) is not None:
        # The first wait of an interval becomes its offset, and is never nothing.
        start = max(fire + offset, made) + rng.choice([20, 300, 20_000, 70_000, 200_000, 700_000])
        end = start + rng.choice([100, 5_000, 90_000])
        runs.append(
            {"key": key, "fire": fire, "due": fire + offset, "made": made, "start": start, "end": end, "data": common}
        )
        if every and len(runs) == 1:
            offset = (start - fire) % every
        made = start + rng.randrange(40)
    return runs, set(fires)


def shown(run: dict, now: int) -> dict:
    """What an export at this time says of a run."""
    state, started, ended = "delayed", None, None
    if run["start"] <= now:
        state, started = "active", run["start"]
        if run["end"] <= now:
            state, ended = "completed", run["end"]
    elif run["due"] <= now:
        state = "prioritized"
    key = f"{run['key']:032x}"
    return record(
        id=f"repeat:{key}:{run['fire']}",
        timestamp=run["made"],
        delay=run["due"] - run["made"] if state == "delayed" else 0,
        state=state,
        processedOn=started,
        finishedOn=ended,
        attemptsMade=int(ended is not None),
        data=run["data"],
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), share=st.sampled_from([0.2, 0.6, 1.0]))
def test_no_verdict_on_a_fire_is_wrong(seed, share):
    rng = random.Random(seed)
    polls_at = sorted(rng.randrange(T0 + 10 * MINUTE, T0 + 90 * MINUTE) for _ in range(rng.choice([1, 3, 8])))
    runs, expected = [], {}
    for key in range(3):
        mine, expected[f"{key:032x}"] = server(rng, key, T0 + 120 * MINUTE)
        runs += mine
    observed = []
    for now in polls_at:
        records = [shown(run, now) for run in runs if run["made"] <= now and rng.random() < share]
        if records:
            observed.append(js.load(records, observed_at=at(now)).jobs)
    if not observed:
        return
    rows = js.fires(js.history(pl.concat(observed)))
    truth = {(f"{run['key']:032x}", at(run["fire"])): run for run in runs}
    assert not rows.select("schedule_key", "fire_at").is_duplicated().any()
    for row in rows.iter_rows(named=True):
        run = truth.get((row["schedule_key"], row["fire_at"]))
        assert int(row["fire_at"].timestamp() * 1000) in expected[row["schedule_key"]]
        if row["fate"] == "missed":
            assert run is None, row
        elif row["fate"] != "unknown":
            assert run is not None, row
        if row["fate"] in {"on_time", "late"}:
            assert (run["start"] - run["due"] > MINUTE) == (row["fate"] == "late"), (row, run)
        if row["lateness_ms"] is not None:
            assert abs(row["lateness_ms"] - (run["start"] - run["due"])) <= 40, (row, run)
    if share == 1 and len(polls_at) == 1:  # all runs there are: only an interval's offset may not be known
        assert set(rows.filter(fate="unknown")["schedule_type"]) <= {"interval"}
