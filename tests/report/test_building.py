import re
from datetime import datetime, timedelta

import polars as pl
import pytest

import jobstats as js
from jobstats.report.building import build, read_report
from jobstats.report.cells import said, tabled
from jobstats.report.model import Report
from jobstats.report.page import html as page
from jobstats.report.period import baseline, cut
from jobstats.report.summary import summary

from ..factories import T0, immediate, jobs

SLO = (
    js.Objective(name="Runs start in time", kind="start", target=0.95, within="10s"),
    js.Objective(name="Crawls succeed", kind="success", target=0.9, by=["connector"]),
)


def percent(share: float) -> str:
    return f"{share:.1%}".replace("%", " %")


@pytest.fixture(scope="module")
def built(dump):
    return build(*dump, objectives=SLO)


def test_key_figures_are_those_of_the_records_counted_by_hand(built, dump):
    figures = {figure.id: figure for figure in built.report.figures}
    ended = [row for row in dump.jobs.to_dicts() if row["is_ended"]]
    failed = sum(row["state"] == "failed" for row in ended)
    retried = sum(row["attempts_made"] > 1 for row in ended)
    assert figures["failure_rate"].text == percent(failed / len(ended))
    assert figures["retry_rate"].text == percent(retried / len(ended))
    assert f"n = {len(ended):,} ended" in figures["failure_rate"].detail
    exact = [row for row in dump.jobs.to_dicts() if row["queue_latency_quality"] == "exact" and row["started_at"]]
    waits = sorted(row["queue_latency_ms"] for row in exact)
    assert figures["queue_latency_p50_ms"].value == (waits[949] + waits[950]) / 2
    assert (
        figures["queue_latency_p50_ms"].low
        < figures["queue_latency_p50_ms"].value
        < figures["queue_latency_p50_ms"].high
    )
    started = [
        row
        for row in exact
        if row["eligible_at"] <= datetime.fromisoformat("2026-11-23T14:15:06.500Z") - timedelta(seconds=10)
    ]
    late = sum(row["queue_latency_ms"] > 10_000 for row in started)
    objective = figures["objective:Runs start in time"]
    assert (objective.n, objective.status, objective.target) == (1_784, "bad", "at least 95.0 %")
    assert objective.n - round(objective.value * objective.n) == late == 193


def test_the_verdict_counts_what_is_told_below_it(built, dump):
    report = built.report
    breached = [result for result in report.objectives if result.verdict == "breached"]
    assert report.verdict.status == "bad"
    assert f"{len(report.objectives)} objectives: {len(breached)} breached" in report.verdict.headline
    assert f"{len(report.stale)} stale connectors" in report.verdict.headline
    rows = js.freshness(dump.jobs).to_dicts()
    never = [row for row in rows if row["status"] == "never" and row["n_failing"] > 1 and row["period_ms"]]
    assert len(report.stale) == len({stale.key for stale in report.stale}) == len(never) == 19


def test_every_exhibit_tells_the_first_rows_of_what_it_draws(built, dump):
    exhibits = {exhibit.id: exhibit for section in built.report.sections for exhibit in section.exhibits}
    assert set(exhibits) == set(built.frames)
    worst = js.queue_latency(dump.jobs, by="connector").sort("p95_ms", descending=True)
    table = exhibits["latency"].table
    assert [row[0] for row in table.rows] == worst["connector"].to_list()[:30]
    assert [row[3] for row in table.rows] == worst["p95_ms"].to_list()[:30]
    assert table.n_rows == len(worst) == 26
    for exhibit in exhibits.values():
        assert exhibit.sentence.endswith(".")
        assert "None" not in exhibit.sentence
        assert len(exhibit.table.rows) <= 30


def test_a_report_is_read_back_as_it_was_written(built, tmp_path):
    path = tmp_path / "report.json"
    path.write_text(built.report.model_dump_json())
    assert read_report(path).model_dump_json() == path.read_text()
    for text in ("", "[]", "{}", '{"title": 3}'):
        path.write_text(text)
        with pytest.raises(js.ArgumentError, match="not a report of jobstats"):
            read_report(path)


def test_a_report_without_outcomes_prints_no_rate(polls):
    report = build(*polls).report
    figures = {figure.name: figure for figure in report.figures}
    bounds = js.retry_rates(js.history(polls.jobs)).row(0, named=True)
    low, high = (percent(bounds[f"failure_rate_{end}"]) for end in ("min", "max"))
    assert figures["Failed runs"].text == f"{low} to {high}"
    assert figures["Failed runs"].is_bounds
    assert figures["Failed runs"].value is None
    assert "bounds, not an estimate: 43 of 45 ended" in figures["Failed runs"].detail
    assert report.findings[0].severity == "error"
    assert "how most runs ended is not in the data" in report.verdict.headline
    assert "✗" in summary(report)


@pytest.mark.parametrize("n", [0, 1])
def test_little_data_is_reported_all_the_same(n):
    built = build(*js.load([immediate("1")] * n))
    assert "<h1>" in page(built)
    assert summary(built.report)


def test_a_window_cuts_every_figure(dump):
    built = build(*dump, since="2026-11-23T14:12:00Z", until="2026-11-23T14:13:00Z")
    expected = js.queue_latency(dump.jobs, since="2026-11-23T14:12:00Z", until="2026-11-23T14:13:00Z")
    assert built.frames["latency"]["n"].sum() == expected["n"][0] == built.frames["latency_over_time"]["n"].sum()
    assert built.report.period.first >= datetime.fromisoformat("2026-11-23T14:12:00Z")
    assert built.report.period.until == datetime.fromisoformat("2026-11-23T14:13:00Z")


@pytest.mark.parametrize(
    ("days", "every"), [(0, "1m"), (0.2, "5m"), (1, "1h"), (14, "6h"), (60, "1d"), (600, "1w"), (3000, "12w")]
)
def test_windows_suit_the_span(days, every):
    last = int(days * 86_400_000)
    later = {"timestamp": T0 + last, "processedOn": T0 + last + 500, "finishedOn": T0 + last + 900}
    table = jobs(immediate("1"), immediate("2", **later))
    assert build(*js.Loaded.of(table)).report.period.every == every


@pytest.mark.parametrize("late", [200, 700, 20_000])
def test_one_absurd_time_does_not_prevent_a_report(late):
    absurd = immediate("2", wait=late * 86_400_000, finishedOn=None, state="active")
    built = build(*js.Loaded.of(jobs(immediate("1"), absurd)))
    assert len(built.frames["rates_over_time"]) < 4_000
    assert "<h1>" in page(built)


def test_a_run_of_the_future_hides_nothing_of_the_present(dump):
    """Its clock is ahead, or it was scheduled by hand: it waits, and nothing can have been seen by then."""
    years = immediate("late", timestamp=T0 + 4 * 366 * 86_400_000, state="waiting", processedOn=None, finishedOn=None)
    late = pl.concat(
        [
            dump.jobs,
            jobs(years).with_columns(
                pl.lit(dump.jobs["observed_at"].max(), pl.Datetime("ms", "UTC")).alias("observed_at")
            ),
        ]
    )
    built, usual = build(late, dump.rejects, since="10m"), build(*dump, since="10m")
    assert built.report.period.every == usual.report.period.every == "1m"
    for name in ("backlog", "concurrency", "latency_over_time"):
        assert built.frames[name]["bucket"].to_list() == usual.frames[name]["bucket"].to_list()
    last = js.backlog(jobs(immediate("1"), immediate("2", finishedOn=253_402_300_799_999)))
    assert last["max_waiting"].to_list() == [2]


def test_connectors_that_fail_where_successes_are_unseen_are_named(polls):
    report = build(*polls).report
    named = [item for item in report.attention if item.kind == "failing"]
    table = js.freshness(js.history(polls.jobs)).filter(pl.col("n_failing") >= 3, pl.col("status") == "unknown")
    assert len(named) == len(table) == 4
    assert "23 failures in a row" in named[0].message
    assert "4 repeatedly failing connectors" in report.verdict.headline
    rates = js.retry_rates(js.history(polls.jobs)).row(0, named=True)
    detail = {figure.name: figure.detail for figure in report.figures}["Retried runs"]
    assert detail.startswith(f"bounds, not an estimate: {rates['n_retried']} of {rates['n']} ended, {rates['n_open']} ")


def test_days_are_whole_days_before_the_newest_observation():
    now = datetime.fromisoformat("2026-11-23T05:10:11Z")
    assert [f"{end:%d %H:%M}" for end in cut("7d", None, now)] == ["16 00:00", "23 00:00"]
    assert [f"{end:%d %H:%M}" for end in cut("1w", "2d", now)] == ["16 00:00", "21 00:00"]
    assert [end and f"{end:%d %H:%M:%S}" for end in cut("24h", None, now)] == ["22 05:10:11", None]
    assert cut(None, None, now) == (None, None)
    assert cut("7d", None, None) == (None, None)
    with pytest.raises(js.ArgumentError, match="must lie before"):
        cut("1d", "2d", now)
    assert baseline(*cut("7d", None, now)) == "1w"
    assert baseline(*cut("3d", None, now)) == "3d"
    assert baseline(None, now) is None


def test_numbers_are_said_as_the_analyses_mean_them():
    frame = pl.DataFrame({"p95_ms": [2_730.0], "failure_rate": [0.1361], "n": [1_900], "connector": ["a\u202eb"]})
    table = tabled(frame)
    row = dict(zip((column.name for column in table.columns), table.rows[0], strict=True))
    assert [said(column.kind, row[column.name]) for column in table.columns] == ["2.73 s", "13.6 %", "1,900", "a b"]


def test_frames_larger_than_memory_give_the_same_report(dump):
    assert build(dump.jobs.lazy(), dump.rejects, since="3m").report == build(*dump, since="3m").report


def test_a_page_is_small_however_much_there_is_to_tell(dump):
    name = pl.format("The connector of department {}", pl.col("connector_id").hash() % 10_000)
    times = pl.col(pl.Datetime("ms", "UTC"))
    days = [dump.jobs.with_columns(times.dt.offset_by(f"{hours}h"), connector=name) for hours in range(0, 8 * 24, 6)]
    many = pl.concat(days)
    assert many["connector"].n_unique() > 400
    objectives = [SLO[0], SLO[1], js.Objective(name="Fresh", kind="fresh", target=0.95, within="26h", by=["connector"])]
    built = build(many, dump.rejects, since="7d", objectives=objectives)
    assert built.report.period.every == "6h"
    said = {exhibit.id: exhibit.sentence for section in built.report.sections for exhibit in section.exhibits}
    # Schedules of seconds, of which six minutes in six hours were seen.
    assert re.fullmatch(r"Not told: [\d,]+ expected fires were not seen, too many .*\.", said["schedules"])
    assert 400_000 < len(page(built).encode()) < 600_000
    assert len(page(built, live=True).encode()) < 1_100_000


def test_labels_of_emoji_can_be_drawn(tmp_path):
    for changes in ({"failedReason": "😀" * 100}, {"data": {"connector": "😀" * 50}}):
        failed = [immediate(str(n), state="failed", **({"failedReason": "no"} | changes)) for n in range(70)]
        assert js.write_report(jobs(*failed, immediate("done")), tmp_path).exists()


def test_the_sentences_are_those_of_the_tables(built, dump):
    failing = js.retry_rates(dump.jobs, by="connector").sort("failure_rate_low", descending=True)
    assert built.report.headlines[1].startswith(
        f"{failing['connector'][0]} fails most: {percent(failing['failure_rate'][0])}"
    )
    assert "HTTP 429, 18 failed runs" in built.report.headlines[2]
    text = " ".join(exhibit.sentence for section in built.report.sections for exhibit in section.exhibits)
    assert "At least 135 runs waited to be started at once" in text
    assert "35 more did so at times not known" in text
    peaks = js.backlog(dump.jobs, every="1m")["max_waiting"]
    assert peaks.max() == 135
    assert "Of 418 connectors: 247 fresh, 118 unscheduled, 26 failed so far, 19 stale, 8 pending. " in text
    off_schedule = js.schedule_adherence(dump.jobs)["n_off_schedule"][0]
    assert f"{off_schedule:,} more runs came when no schedule of theirs fires" in text


def test_a_report_ignores_what_a_later_version_adds(built):
    text = built.report.model_dump_json().replace('{"schema_version":1', '{"schema_version":1,"later":{"a":1}', 1)
    assert Report.model_validate_json(text).model_dump_json() == built.report.model_dump_json()
