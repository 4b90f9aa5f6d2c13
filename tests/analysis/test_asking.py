import re
from datetime import UTC, date, datetime, timedelta

import duckdb
import narwhals as nw
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from statsmodels.stats.proportion import proportion_confint

import jobstats as js
from jobstats.analysis.asking import length_ms, rate

from ..factories import T0, immediate, jobs

WINDOWED_BY = {
    js.queue_latency: "eligible_at",
    js.processing_time: "processed_at",
    js.turnaround: "eligible_at",
    js.slowdown: "eligible_at",
    js.retry_rates: "started_at",
    js.failure_reasons: ("finished_at", "processed_at", "created_at"),
}
ANALYSES = tuple(WINDOWED_BY)
WINDOWED = (js.attempts, js.backlog, js.concurrency, js.schedule_adherence)
"""Others with ``by`` and ``every``, whose rows are of another kind."""


@pytest.mark.parametrize("analysis", ANALYSES)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"by": "conector"}, "did you mean 'connector'"),
        ({"by": ["connector", "connector"]}, "twice"),
        ({"by": "n"}, "column of the answer"),
        ({"by": [5]}, "names of columns"),
        ({"every": "1 day"}, "every must be a number and one of"),
        ({"every": "0d"}, "every must be"),
        ({"every": 60}, "every must be"),
        ({"every": "99999w"}, "at most 100 years"),
        ({"since": "99999w"}, "at most 100 years"),
        ({"since": "yesterday"}, "since must be a datetime"),
        ({"until": 5}, "until must be a datetime"),
        ({"since": "2026-11-24", "until": "2026-11-23"}, "must lie before until"),
        ({"every": "1s", "since": "2000-01-01", "until": "2026-01-01"}, "choose a longer every"),
    ],
)
def test_arguments_outside_the_vocabulary_are_refused(dump, analysis, arguments, message):
    with pytest.raises(js.ArgumentError, match=message):
        analysis(dump.jobs, **arguments)


@pytest.mark.parametrize("analysis", [*ANALYSES, js.quality])
def test_what_is_no_jobs_table_is_refused(dump, analysis):
    with pytest.raises(js.TableError, match="it lacks job_id, name"):
        analysis(pl.DataFrame({"x": [1]}))
    with pytest.raises(js.ArgumentError, match=r"unpack jobs, rejects = load"):
        analysis(dump)


@pytest.mark.parametrize("analysis", ANALYSES)
def test_nothing_gives_an_empty_answer_of_the_same_shape(dump, engine, as_polars, analysis):
    nothing = engine(dump.jobs.head(0))
    for arguments in ({}, {"by": "connector"}, {"every": "1m"}, {"by": ["connector", "state"], "every": "1w"}):
        empty, full = as_polars(analysis(nothing, **arguments)), analysis(dump.jobs, **arguments)
        assert empty.columns == full.columns
        if arguments:
            assert empty.is_empty()
        else:
            assert empty.select(pl.col("^n(_.*)?$").sum()).row(0) == (0,) * len(full.select("^n(_.*)?$").columns)


@pytest.mark.parametrize("analysis", ANALYSES)
def test_windows_without_runs_are_rows(engine, as_polars, analysis):
    failed = {"state": "failed", "failedReason": "no"}
    table = engine(
        jobs(
            immediate("1", **failed),
            immediate("2", timestamp=T0 + 180_000, processedOn=T0 + 180_500, finishedOn=T0 + 180_900, **failed),
        )
    )
    answer = as_polars(analysis(table, every="1m", since="2026-11-23T14:09:00Z", until="2026-11-23T14:15:00Z"))
    assert answer["bucket"].to_list() == [datetime(2026, 11, 23, 14, minute, tzinfo=UTC) for minute in range(9, 15)]
    assert answer["n"].to_list() == [0, 1, 0, 0, 1, 0]
    measures = [name for name, dtype in answer.schema.items() if dtype.is_float()]
    assert answer.filter(pl.col("n") == 0).select(measures).null_count().row(0) == (4,) * len(measures)


def test_a_column_of_the_callers_own_may_be_called_anything_else(dump):
    table = dump.jobs.with_columns(n_x=pl.lit("text"), bucket_=pl.lit(1))
    for analysis in ANALYSES:
        assert analysis(table, by=["n_x", "bucket_"], every="1m")["n_x"].unique().to_list() == ["text"]


def test_a_group_of_the_callers_own_that_has_no_value_has_none_in_the_answer(dump):
    is_here = pl.col("connector") == "Gmail"
    table = dump.jobs.with_columns(n_x=pl.when(is_here).then(pl.lit("text")))
    for analysis in (*ANALYSES, *WINDOWED):
        assert set(analysis(table, by="n_x")["n_x"]) == {"text", None}


@pytest.mark.parametrize("name", ["_all", "_at", "_group", "_cell", "", "*", "^n.*$"])
def test_names_that_are_kept_for_the_analyses_are_refused_and_may_be_elsewhere(dump, name):
    table = dump.jobs.with_columns(pl.lit("text").alias(name))
    for analysis in (*ANALYSES, *WINDOWED):
        with pytest.raises(js.ArgumentError, match=f"by names '{re.escape(name)}'.*rename yours"):
            analysis(table, by=name)
    for analysis in (js.queue_latency, *WINDOWED):
        assert_frame_equal(analysis(table, by="connector"), analysis(dump.jobs, by="connector"))


def test_other_columns_do_no_harm_whatever_they_are_called(dump):
    names = ("n", "x", "value", "_ago", "_side", "_time", "_length", "_ms", "_connector", "n_bad")
    table = dump.jobs.with_columns(pl.lit("text").alias(name) for name in names)
    objective = js.Objective(name="start", kind="start", target=0.9, within="5s", by="connector")
    assert_frame_equal(js.drivers(table), js.drivers(dump.jobs))
    assert_frame_equal(js.slo(table, objective), js.slo(dump.jobs, objective))
    window = {"since": "2m", "baseline": "2m", "by": "schedule_type"}
    assert_frame_equal(js.compare(table, **window), js.compare(dump.jobs, **window))
    for ask in (
        lambda: js.drivers(table, columns="n"),
        lambda: js.compare(table, since="2m", baseline="2m", by="x"),
        lambda: js.slo(table, objective.model_copy(update={"by": ("n_bad",)})),
    ):
        with pytest.raises(js.ArgumentError, match="rename yours"):
            ask()


@pytest.mark.parametrize("analysis", [js.queue_latency, *WINDOWED, js.fires, js.stuck, js.freshness, js.drivers])
def test_pandas_makes_floats_of_whole_numbers_and_is_asked_the_same(dump, analysis):
    answer = pl.from_pandas(analysis(dump.jobs.to_pandas()))
    expected = analysis(dump.jobs)
    assert_frame_equal(answer.cast(dict(expected.schema)), expected)


@pytest.mark.parametrize("analysis", [*ANALYSES, *WINDOWED, js.fires, js.stuck, js.freshness, js.drivers, js.quality])
def test_scans_with_texts_as_enums_or_other_units_are_asked_the_same(dump, analysis):
    texts = [name for name, dtype in dump.jobs.schema.items() if dtype == pl.String]
    enums = (pl.col(name).cast(pl.Enum(dump.jobs[name].drop_nulls().unique().sort())) for name in texts)
    table = dump.jobs.with_columns(*enums, pl.col(pl.Datetime).dt.cast_time_unit("us")).lazy()
    assert_frame_equal(analysis(table).lazy().collect(), analysis(dump.jobs))


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata"])
@pytest.mark.parametrize("has_zone", [True, False])
def test_times_are_in_utc_whatever_the_zone_of_the_session(dump, as_polars, zone, has_zone):
    connection = duckdb.connect()
    connection.execute(f"set TimeZone = '{zone}'")
    times = pl.col(pl.Datetime).dt.cast_time_unit("us")
    table = dump.jobs.with_columns(times if has_zone else times.dt.replace_time_zone(None))
    relation = connection.from_arrow(table.to_arrow())
    for analysis in (*ANALYSES, *WINDOWED, js.fires, js.stuck, js.freshness, js.drivers):
        asked = {"since": "2026-11-23T14:11:00Z"} if analysis is not js.freshness else {}
        expected = analysis(dump.jobs, **asked)
        assert_frame_equal(as_polars(analysis(relation, **asked)).cast(dict(expected.schema)), expected)


def test_frames_in_memory_of_other_libraries_are_asked_the_same(dump):
    for analysis in ANALYSES:
        answer = analysis(dump.jobs.to_arrow(), by="connector")
        assert answer.num_rows == len(analysis(dump.jobs, by="connector"))
        assert answer["n"].to_pylist() == analysis(dump.jobs, by="connector")["n"].to_list()


def test_moments_may_be_dates_and_lengths_of_time():
    table = js.load([immediate("1")], observed_at=datetime.fromtimestamp(T0 / 1000 + 60, UTC)).jobs
    assert [js.queue_latency(table, since=since)["n"][0] for since in (date(2026, 11, 23), date(2026, 11, 24))] == [
        1,
        0,
    ]
    assert [js.queue_latency(table, since=timedelta(seconds=s))["n"][0] for s in (59, 60)] == [0, 1]


def test_a_path_is_no_table_and_the_error_says_what_is():
    with pytest.raises(js.ArgumentError, match=r"pass jobstats\.scan\('out'\)"):
        js.queue_latency("out")


def test_weeks_start_on_monday_and_days_at_midnight():
    table = jobs(immediate("1"))  # a Monday afternoon
    assert js.queue_latency(table, every="1w")["bucket"][0] == datetime(2026, 11, 23, tzinfo=UTC)
    assert js.queue_latency(table, every="2d")["bucket"][0] <= datetime(2026, 11, 23, tzinfo=UTC)
    sunday = jobs(immediate("1", timestamp=T0 - 86_400_000, processedOn=T0 - 86_400_000 + 5, finishedOn=T0))
    assert js.queue_latency(sunday, every="1w")["bucket"][0] == datetime(2026, 11, 16, tzinfo=UTC)
    early = jobs(immediate("1", timestamp=1_000, processedOn=1_005, finishedOn=2_000))  # a Thursday in 1970
    assert js.queue_latency(early, every="1w")["bucket"][0] == datetime(1969, 12, 29, tzinfo=UTC)


def test_windows_are_closed_at_the_start_and_open_at_the_end():
    table = jobs(
        *(immediate(str(n), timestamp=T0 + n, processedOn=T0 + n + 5, finishedOn=T0 + n + 9) for n in range(4))
    )
    start = datetime.fromtimestamp(T0 / 1000, UTC)
    window = {"since": start + timedelta(milliseconds=1), "until": (start + timedelta(milliseconds=3)).isoformat()}
    assert js.queue_latency(table, **window)["n"][0] == 2


def test_an_age_counts_back_from_the_newest_observation_and_not_from_today():
    def at(seconds):
        return immediate(
            str(seconds),
            timestamp=T0 + seconds * 1000,
            processedOn=T0 + seconds * 1000 + 5,
            finishedOn=T0 + seconds * 1000 + 9,
        )

    loaded = js.load([at(0), at(50), at(100)], observed_at=datetime.fromtimestamp(T0 / 1000 + 120, UTC))
    assert js.queue_latency(loaded.jobs, since="60s")["n"][0] == 1
    assert js.queue_latency(loaded.jobs, since="70s")["n"][0] == 2


def test_groups_without_a_value_are_kept(engine, as_polars):
    table = engine(jobs(immediate("1", data={"connectorId": None}), immediate("2")))
    answer = as_polars(js.queue_latency(table, by="connector_id", every="1h"))
    assert answer.select("connector_id", "n").rows() == [("c1", 1), (None, 1)]


@pytest.mark.parametrize(("part", "whole"), [(0, 1), (1, 1), (3, 7), (0, 59), (299, 300), (154, 1_788)])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_rates_have_wilson_intervals(part, whole, confidence):
    table = pl.DataFrame({"k": [part], "n": [whole]}).select(rate("k", "n", "share", confidence))
    low, high = proportion_confint(part, whole, 1 - confidence, method="wilson")
    assert table.row(0) == pytest.approx((part / whole, low, high), abs=1e-12)


def test_a_level_that_is_none_is_refused(dump):
    for confidence in (0, 1, 95):
        with pytest.raises(js.ArgumentError, match="confidence"):
            js.retry_rates(dump.jobs, confidence=confidence)


def test_lengths():
    assert [length_ms(text, "every") for text in ("1s", "15m", "2h", "1d", "1w")] == [
        1_000,
        900_000,
        7_200_000,
        86_400_000,
        604_800_000,
    ]


def test_the_answer_is_the_kind_of_frame_that_was_asked(dump, engine):
    table = engine(dump.jobs)
    for analysis in ANALYSES:
        answer = analysis(table, by="connector")
        assert type(answer) is type(table)
        assert nw.from_native(answer).implementation == nw.from_native(table).implementation


@pytest.mark.parametrize("analysis", ANALYSES)
@pytest.mark.parametrize(
    "arguments",
    [{}, {"by": "connector"}, {"every": "15s"}, {"by": ["org_id", "schedule_type"], "every": "1m", "since": "4m"}],
)
def test_engines_agree(dump, engine, as_polars, analysis, arguments):
    assert_frame_equal(as_polars(analysis(engine(dump.jobs), **arguments)), analysis(dump.jobs, **arguments))


def test_arguments_are_not_changed(dump):
    by = ["connector"]
    before = dump.jobs.clone()
    js.queue_latency(dump.jobs, by=by, every="1m")
    assert by == ["connector"]
    assert dump.jobs.equals(before)


def test_a_part_of_a_millisecond_is_before_the_next(engine, as_polars):
    table = jobs(immediate("1"))
    moment = datetime.fromtimestamp((T0 + 500) / 1000, UTC) + timedelta(microseconds=500)
    for window, n in (({"since": moment}, 0), ({"until": moment}, 1)):
        assert as_polars(js.retry_rates(engine(table), **window))["n"].to_list() == [n]


HOUR, DAY = 3_600_000, 86_400_000


def at_times(*at, **changes):
    """A run due and started at each of these milliseconds since the epoch."""
    return jobs(
        *(immediate(f"j{n}", timestamp=ms, processedOn=ms, finishedOn=ms + 5, **changes) for n, ms in enumerate(at))
    )


@pytest.mark.parametrize("analysis", ANALYSES[:-1])
def test_runs_are_grouped_by_hour_and_weekday(engine, as_polars, analysis):
    midnight = T0 - T0 % DAY  # of a Monday
    table = at_times(midnight - 1, midnight, midnight + HOUR - 1, midnight + 7 * DAY, midnight + 23 * HOUR)
    answer = as_polars(analysis(engine(table), by=["weekday", "hour"]))
    assert answer.select("weekday", "hour", "n").rows() == [(1, 0, 3), (1, 23, 1), (7, 23, 1)]
    assert answer.schema["weekday"] == answer.schema["hour"] == pl.Int64
    assert as_polars(analysis(engine(table), by="weekday")).select("weekday", "n").rows() == [(1, 4), (7, 1)]
    whole = as_polars(analysis(engine(table), by="hour", every="1w"))
    assert whole.filter(pl.col("n") > 0).select("hour", "n").rows() == [(0, 2), (0, 1), (23, 1), (23, 1)]


def test_hours_are_those_of_the_time_that_an_analysis_windows_by(engine, as_polars):
    late = T0 - T0 % HOUR + HOUR - 1  # due at 14:59:59.999, started at 15:00
    table = engine(jobs(immediate("1", timestamp=late, processedOn=late + 1, finishedOn=late + 2)))
    assert as_polars(js.queue_latency(table, by="hour"))["hour"].to_list() == [14]
    assert as_polars(js.retry_rates(table, by="hour"))["hour"].to_list() == [15]


@pytest.mark.parametrize("analysis", ANALYSES)
def test_the_clock_agrees_with_the_calendar_of_polars(dump, engine, as_polars, analysis):
    spread = dump.jobs.with_columns(
        pl.col("eligible_at", "started_at", "processed_at", "finished_at", "created_at")
        + pl.duration(hours=17 * pl.int_range(pl.len()))
    )
    answer = as_polars(analysis(engine(spread), by=["weekday", "hour"]))
    assert len(answer) > 24
    whole = analysis(spread, by=["weekday", "hour"])
    at = pl.coalesce(WINDOWED_BY[analysis]).dt
    own = spread.with_columns(h=at.hour().cast(pl.Int64), w=at.weekday().cast(pl.Int64))
    assert_frame_equal(answer, whole)
    assert_frame_equal(analysis(own.drop_nulls("h"), by=["w", "h"]).rename({"w": "weekday", "h": "hour"}), whole)


def test_hours_before_the_epoch_count_forwards(engine, as_polars):
    table = at_times(1).with_columns(
        pl.lit(-1).cast(pl.Datetime("ms")).dt.replace_time_zone("UTC").alias("eligible_at")
    )
    answer = as_polars(js.queue_latency(engine(table), by=["hour", "weekday"]))
    assert answer.select("hour", "weekday").rows() == [(23, 3)]  # a Wednesday, the last of 1969


@pytest.mark.parametrize(
    ("analysis", "reason"),
    [
        (js.backlog, "from one hour to another; ask for every='1h'"),
        (js.concurrency, "from one hour to another; ask for every='1h'"),
        (js.schedule_adherence, "differs between the fires of one schedule"),
        (lambda jobs, by: js.slo(jobs, [js.Objective(name="A", kind="success", target=0.9, by=(by,))]), "of all hours"),
    ],
)
@pytest.mark.parametrize("name", ["hour", "weekday"])
def test_what_is_not_of_one_hour_says_so(dump, analysis, reason, name):
    with pytest.raises(js.ArgumentError, match=f"by names '{name}', but .*{reason}"):
        analysis(dump.jobs, by=name)
    with pytest.raises(js.ArgumentError, match=r"not a column of the jobs table$"):
        analysis(dump.jobs, by="tenant")


@pytest.mark.parametrize("analysis", [*ANALYSES, js.attempts, js.backlog, js.schedule_adherence])
def test_an_own_column_called_hour_is_not_mistaken_for_the_clock(dump, analysis):
    own = dump.jobs.with_columns(hour=pl.lit(1))
    with pytest.raises(js.ArgumentError, match="the hour of a run in UTC, and a column of yours too; rename yours"):
        analysis(own, by="hour")
    assert "connector" in analysis(own, by="connector").columns


def test_the_clock_is_named_where_a_name_is_not_known(dump):
    with pytest.raises(js.ArgumentError, match="did you mean 'weekday'"):
        js.queue_latency(dump.jobs, by="weekdays")
    with pytest.raises(js.ArgumentError, match="not a column of the jobs table, nor 'hour' or 'weekday'"):
        js.queue_latency(dump.jobs, by="tenant")


def test_windows_are_compared_hour_by_hour(dump):
    answer = js.compare(dump.jobs, since="3m", baseline="3m", by="hour")
    hours = dump.jobs["eligible_at"].dt.hour().cast(pl.Int64)
    assert set(answer["hour"]) <= set(hours)
    assert js.attempts(dump.jobs, by="weekday")["weekday"].unique().to_list() == [1]


def test_the_time_of_a_file_that_was_copied_is_not_when_its_runs_were_seen(dump, engine, as_polars):
    later = pl.col("observed_at") + pl.duration(days=5)
    table = engine(dump.jobs.with_columns(observed_at=later, observed_at_source=pl.lit("file_mtime")))
    objective = js.Objective(name="start", kind="start", target=0.9, within="5s")
    true = js.slo(dump.jobs, objective).row(0, named=True)
    found = as_polars(js.slo(table, objective)).row(0, named=True)
    assert (found["n_bad"], found["verdict"]) == (true["n_bad"], true["verdict"])
    waits = as_polars(js.queue_latency(table, q=[0.9], censored=True)).row(0, named=True)
    assert waits["n_waiting"] == 47  # 46 by the time it was read; one is due a moment later, and no longer delayed
    assert waits["max_ms"] < 60_000
    queue = as_polars(js.backlog(table)).row(0, named=True)
    assert (queue["max_waiting"], queue["n_unseen"]) == (135, 0)
    assert queue["oldest_wait_ms"] < 60_000
    statuses = [as_polars(js.freshness(jobs))["status"].to_list() for jobs in (table, engine(dump.jobs))]
    assert statuses[0] == statuses[1]
    assert as_polars(js.queue_latency(table, since="1m"))["n"][0] > 0
