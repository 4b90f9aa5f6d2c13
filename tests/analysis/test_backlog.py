import heapq
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jobstats as js
from jobstats.engines import relation
from jobstats.table import SCHEMA

from ..factories import T0
from .levels import at, swept, table, waited, waiting

COUNTS = ["n_arrived", "n_started", "n_unseen", "n_unknown"]


def test_four_seconds_by_hand(engine, as_polars):
    jobs = table(
        waited(500, 1_500),
        waited(1_000, 1_500),
        waited(1_500, 1_500),  # no wait, and no time in the backlog
        waited(2_000, 1_900),  # a clock that is ahead, or promoted early
        waiting(1_200, 2_500),  # last seen before the newest observation: nobody knows how long it waited
        waiting(1_900, 3_499),  # still there
        waited(2_100, 9_000) | {"queue_latency_quality": "upper_bound"},
        waiting(3_450, 3_400),  # due since it was last seen
        waiting(9_000, 3_499),  # not due yet
        waited(0, 9_000, is_latest=False),
    ).with_columns(observed_at=pl.min_horizontal("observed_at", pl.lit(at(3_499))))
    jobs = jobs.with_columns(processed_at=None)  # so that the newest thing is an observation
    answer = as_polars(js.backlog(engine(jobs), every="1s"))
    assert answer.drop("bucket").to_dict(as_series=False) == {
        "max_waiting": [1, 3, 2, 1],
        "mean_waiting": [1.0, (500 + 500 + 800 + 100) / 1_000, (1_000 + 500) / 1_000, 1.0],
        "waiting_at_start": [0, 1, 2, 1],
        "waiting_at_end": [1, 2, 1, 1],
        "oldest_wait_ms": [500, 800, 1_100, 1_600],
        "covered_ms": [500, 1_000, 1_000, 500],
        "n_arrived": [1, 5, 0, 0],
        "n_started": [0, 4, 0, 0],
        "n_unseen": [0, 0, 1, 0],
        "n_unknown": [0, 0, 1, 1],
        "is_partial": [True, False, False, True],
    }
    assert answer["bucket"].to_list() == [at(0), at(1_000), at(2_000), at(3_000)]
    whole = as_polars(js.backlog(engine(jobs))).row(0, named=True)
    assert (whole["max_waiting"], whole["covered_ms"], whole["n_arrived"], whole["is_partial"]) == (3, 3_000, 6, False)
    assert whole["mean_waiting"] == pytest.approx((500 + 1_900 + 1_500 + 500) / 3_000)


def test_a_run_that_came_before_the_window_and_still_waits_counts(engine, as_polars):
    jobs = engine(table(waited(0, 5_000), waited(100, 200), waited(2_000, 2_500), waiting(9_000, 10_000)))
    answer = as_polars(js.backlog(jobs, every="2s", since=at(2_000), until=at(7_000)))
    shown = ["max_waiting", "waiting_at_start", "waiting_at_end", "oldest_wait_ms", "n_arrived", "is_partial"]
    assert answer.select(shown).rows() == [
        (2, 1, 1, 4_000, 1, False),
        (1, 1, 0, None, 0, False),
        (0, 0, 0, None, 0, True),  # cut off by until; a level of 0 is known here, so it is not null
    ]


def test_the_oldest_wait_is_of_the_one_that_came_first_and_not_of_the_last_seen_to_leave():
    jobs = table(
        waited(0, 5_500), waited(1_000, 2_500), waited(3_200, 4_500), waited(3_100, 8_500), waited(3_000, 6_500)
    )
    answer = js.backlog(jobs, every="1s", until=at(9_000))
    assert answer["oldest_wait_ms"].to_list() == [1_000, 2_000, 3_000, 4_000, 5_000, 3_000, 3_900, 4_900, None]


def test_numbers_too_large_for_64_bits_give_the_same(dump, monkeypatch):
    window = {"every": "30s", "by": "connector"}
    usual = js.backlog(dump.jobs, **window)
    monkeypatch.setattr("jobstats.analysis.levels._LAST_INT64", 0)
    assert js.backlog(dump.jobs, **window).equals(usual)


def test_windows_that_the_data_do_not_cover_have_no_level():
    jobs = table(waited(2_000, 3_000, observed=4_000))
    answer = js.backlog(jobs, every="2s", since=at(0), until=at(8_000))
    assert answer["max_waiting"].to_list() == [None, 1, 0, None]
    assert answer["covered_ms"].to_list() == [0, 2_000, 1, 0]
    assert answer["n_arrived"].to_list() == [0, 1, 0, 0]
    assert js.backlog(jobs, since="2030-01-01").row(0)[:5] == (None, None, None, None, None)


@pytest.mark.parametrize("every", [None, "1m"])
@pytest.mark.parametrize("by", [None, "connector", ["connector", "org_id"]])
def test_no_runs_give_no_rows_of_the_same_kind(dump, every, by, engine, as_polars):
    some = js.backlog(dump.jobs, by=by, every=every)
    none = as_polars(js.backlog(engine(dump.jobs.head(0)), by=by, every=every))
    assert none.schema == some.schema
    assert len(none) == (by is None and every is None)
    assert none.select(COUNTS).sum().row(0) == (0, 0, 0, 0)


def test_a_group_without_a_name_is_a_group(engine, as_polars):
    jobs = table(waited(0, 1_000), waited(500, 1_500, connector="Drive"), waited(700, 800))
    answer = as_polars(js.backlog(engine(jobs), by="connector", every="1s"))
    assert answer["connector"].to_list() == ["Drive"] * 11 + [None] * 11
    assert answer.filter(pl.col("n_arrived") > 0).select("max_waiting", "n_arrived").rows() == [(1, 1), (2, 2)]


@pytest.mark.parametrize("by", [None, ["schedule_type", "org_id"]])
def test_engines_agree_on_the_dump(dump, by, engine, as_polars):
    window = {"every": "30s", "since": "3m", "until": "2026-11-23T14:14:20.123Z", "by": by}
    assert as_polars(js.backlog(engine(dump.jobs), **window)).equals(js.backlog(dump.jobs, **window))


times = st.one_of(st.integers(0, 5_000), st.integers(0, 10).map(lambda n: n * 500))
runs = st.tuples(
    st.sampled_from([None, "Drive", "Gmail"]), times, times, st.sampled_from(["waited", "waiting", "unknown"])
)


@settings(max_examples=60, deadline=None)
@given(st.lists(runs, min_size=1, max_size=12), st.none() | times, st.none() | times, st.booleans(), st.integers(0, 19))
def test_counting_every_millisecond_gives_the_same(drawn, since, until, in_groups, engine_drawn):
    if since is not None and until is not None and since >= until:
        since, until = until, since + 1
    made, spans = [], []
    newest = max(max(first, second) for _, first, second, _ in drawn)
    for group, first, second, kind in drawn:
        if kind == "waiting":
            due, seen = sorted((first, second))
            made.append(waiting(due, seen, connector=group))
            spans.append((group, due, newest + 1 if seen == newest else seen, kind))
        else:
            quality = "exact" if kind == "waited" else "last_attempt_only"
            made.append(waited(first, second, newest, connector=group, queue_latency_quality=quality))
            spans.append((group, *((min(first, second), second) if kind == "waited" else (first, first)), kind))
    start = min(first for _, first, *_ in spans)
    end = newest + 1
    table_ = table(*made)
    answer = js.backlog(
        relation(table_) if engine_drawn == 0 else table_,
        by="connector" if in_groups else None,
        every="1s",
        since=at(since),
        until=at(until),
    )
    answer = answer if engine_drawn else answer.pl()
    low, high = start if since is None else since, end if until is None else until
    edges = list(range(low // 1_000 * 1_000, high + 1_000, 1_000)) if low < high else []
    first, last = max(start, low), min(end, high)
    is_asked = [came < last and left >= first for _, came, left, _ in spans]
    names = {group for (group, *_), asked in zip(spans, is_asked, strict=True) if asked}
    names = sorted(names, key=lambda name: (name is None, name or "")) if in_groups else [None]
    expected = []
    for name in names:
        own = [span for span in spans if not in_groups or span[0] == name]
        there = [(came, left) for _, came, left, kind in own if kind != "unknown"]
        for level, (begin, over) in zip(swept(there, edges, first, last), pairwise(edges), strict=True):
            inside = range(max(begin, first), min(over, last))
            counts = [
                sum(came in inside for _, came, _, kind in own if kind != "unknown"),
                sum(left in inside for _, _, left, kind in own if kind == "waited"),
                sum(left in inside for _, _, left, kind in own if kind == "waiting"),
                sum(came in inside for _, came, _, kind in own if kind == "unknown"),
            ]
            expected.append((*level.values(), *counts))
    shown = ["max_waiting", "mean_waiting", "waiting_at_start", "waiting_at_end", "oldest_wait_ms", "covered_ms"]
    assert [pytest.approx(row) for row in expected] == answer.select(*shown, *COUNTS).rows()
    changed = pl.col("n_arrived") - pl.col("n_started") - pl.col("n_unseen")
    assert answer.select((pl.col("waiting_at_end") - pl.col("waiting_at_start") == changed).all()).item() is not False


def test_littles_law_holds_exactly_on_the_dump(dump):
    window = {"since": "2026-11-23T14:10:00Z", "until": "2026-11-23T14:15:00Z"}
    row = js.backlog(dump.jobs, **window).row(0, named=True)
    assert (row["waiting_at_start"], row["waiting_at_end"]) == (0, 0)
    due = (pl.col("eligible_at") >= at(0)) & (pl.col("eligible_at") < at(300_000))
    waits = dump.jobs.filter(due, pl.col("queue_latency_quality") == "exact")["queue_latency_ms"].clip(lower_bound=0)
    assert row["n_started"] == len(waits)
    # L = λW: the area under the level is the sum of the waits.
    assert row["mean_waiting"] * row["covered_ms"] == pytest.approx(waits.sum(), rel=1e-12)


def test_littles_law_holds_where_runs_still_wait(dump):
    row = js.backlog(dump.jobs).row(0, named=True)
    exact = dump.jobs.filter(pl.col("queue_latency_quality") == "exact")
    open_ = dump.jobs.filter(pl.col("started_at").is_null(), pl.col("eligible_at") <= pl.col("observed_at"))
    so_far = (open_["observed_at"] - open_["eligible_at"]).dt.total_milliseconds()
    area = exact["queue_latency_ms"].clip(lower_bound=0).sum() + so_far.sum() + len(open_)  # to the end of that ms
    assert (row["n_arrived"], row["waiting_at_end"]) == (len(exact) + len(open_), len(open_))
    assert row["mean_waiting"] * row["covered_ms"] == pytest.approx(area, rel=1e-12)


def test_three_servers_wait_and_work_as_erlang_says():
    n, servers, between, work = 60_000, 3, 500.0, 1_000.0
    rng = np.random.default_rng(14)
    came = np.cumsum(rng.exponential(between, n))
    free = [0.0] * servers
    begun, ended = np.empty(n), np.empty(n)
    for place, (moment, length) in enumerate(zip(came, rng.exponential(work, n), strict=True)):
        begun[place] = max(moment, heapq.heappop(free))
        ended[place] = begun[place] + length
        heapq.heappush(free, ended[place])
    instants = {"eligible_at": came, "started_at": begun, "processed_at": begun, "finished_at": ended}
    whole = {name: pl.Series((T0 + values).astype("int64")).cast(SCHEMA[name]) for name, values in instants.items()}
    marks = {"is_latest": True, "is_ended": True, "is_retried": False, "is_rerun_suspected": False}
    jobs = table().join(pl.DataFrame(whole), on=list(whole), how="right").select(SCHEMA.names())
    jobs = jobs.with_columns(pl.lit(value).alias(name) for name, value in marks.items())
    jobs = jobs.with_columns(queue_latency_quality=pl.lit("exact"))
    load = work / between
    idle = 1 / (1 + load + load**2 / 2 + load**3 / 6 / (1 - load / servers))
    queue = idle * load**servers * (load / servers) / 6 / (1 - load / servers) ** 2  # 8/9 for three servers and load 2
    assert queue == pytest.approx(8 / 9)
    assert js.backlog(jobs)["mean_waiting"].item() == pytest.approx(queue, rel=0.05)
    running = js.concurrency(jobs)
    assert running["mean_running"].item() == pytest.approx(load, rel=0.02)
    assert running["max_running"].item() == servers  # a place that is left and taken at one time is one place


def test_the_log_agrees_on_the_dump(dump, truth_of_dump):
    known = truth_of_dump.filter(pl.col("first_eligible_ms").is_not_null())
    spans = [
        (due - T0, (10**13 if started is None else started) - T0)
        for due, started in known.select("first_eligible_ms", "first_active_ms").rows()
    ]
    answer = js.backlog(dump.jobs, every="30s", since="2026-11-23T14:10:00Z")
    end = int(answer["covered_ms"].sum())
    truth = swept(spans, list(range(0, 330_001, 30_000)), 0, end)
    for row, true in zip(answer.iter_rows(named=True), truth, strict=True):
        assert abs(row["max_waiting"] - true["max"]) <= 2
        assert abs(row["mean_waiting"] - true["mean"]) <= 0.05 * true["mean"] + 0.1
    area = (answer["mean_waiting"] * answer["covered_ms"]).sum()
    assert area == pytest.approx(sum(true["mean"] * true["covered"] for true in truth), rel=0.03)
