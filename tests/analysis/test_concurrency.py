import polars as pl
import pytest

import jobstats as js

from .levels import at, ran, table


def test_three_seconds_by_hand(engine, as_polars):
    second = {"is_retried": True}
    jobs = table(
        ran(0, 1_000),
        ran(1_000, 1_800),  # takes the place of the first: one at a time
        ran(500, 1_200, **second),
        ran(1_500, 1_400),  # clocks differ: no time
        ran(1_600, None, 2_200),  # last seen running before the newest observation
        ran(1_900, None, 2_499, is_rerun_suspected=True),  # still running
        ran(2_100, None, 2_499, state="completed", is_ended=True),  # ended after its times were read
        ran(300, None, 2_499, state="delayed", delay_ms=5_000, **second),  # waits for another attempt
        ran(400, None, 2_499, delay_ms=5_000, **second),  # the same, and taken up after its times were read
        ran(700, 2_300) | {"processed_at": None},  # when it ran is not known
        ran(0, 2_400, is_latest=False),
    ).with_columns(observed_at=pl.min_horizontal("observed_at", pl.lit(at(2_499))))
    answer = as_polars(js.concurrency(engine(jobs), every="1s"))
    assert answer.drop("bucket").to_dict(as_series=False) == {
        "max_running": [2, 2, 3],
        "mean_running": [1.5, (800 + 200 + 400 + 100) / 1_000, (200 + 500 + 400) / 500],
        "running_at_start": [0, 2, 2],
        "running_at_end": [2, 2, 2],
        "oldest_run_ms": [1_000, 400, 600],
        "covered_ms": [1_000, 1_000, 500],
        "n_started": [2, 4, 1],
        "n_ended": [0, 4, 0],
        "n_retried": [1, 1, 0],
        "n_unseen": [0, 0, 1],
        "n_unknown": [3, 0, 0],
        "is_partial": [False, False, True],
    }


@pytest.mark.parametrize("by", [None, ["schedule_type", "org_id"]])
def test_engines_agree_on_the_dump(dump, by, engine, as_polars):
    window = {"every": "30s", "since": "3m", "until": "2026-11-23T14:14:20.123Z", "by": by}
    assert as_polars(js.concurrency(engine(dump.jobs), **window)).equals(js.concurrency(dump.jobs, **window))


def test_littles_law_holds_exactly_on_the_dump(dump):
    row = js.concurrency(dump.jobs, until="2026-11-23T14:14:00Z").row(0, named=True)
    assert (row["running_at_start"], row["running_at_end"]) == (0, 0)
    ended = dump.jobs.filter(pl.col("finished_at") < at(240_000))
    assert row["n_ended"] == row["n_started"] == len(ended)
    assert row["mean_running"] * row["covered_ms"] == pytest.approx(ended["processing_ms"].sum(), rel=1e-12)


def test_groups_and_windows_add_up(dump):
    whole = js.concurrency(dump.jobs, every="30s")
    parts = js.concurrency(dump.jobs, every="30s", by="connector")
    counts = [name for name in whole.columns if name.startswith(("n_", "running", "mean"))]
    summed = parts.group_by("bucket").agg(pl.col(counts).sum(), pl.col("oldest_run_ms").max()).sort("bucket")
    for name in [*counts, "oldest_run_ms"]:
        assert summed[name].to_list() == pytest.approx(whole[name].to_list())
    assert whole["running_at_start"].to_list()[1:] == whole["running_at_end"].to_list()[:-1]
    assert whole["max_running"].max() == js.concurrency(dump.jobs)["max_running"].item()


def test_no_more_run_than_there_are_workers(dump):
    # Two workers with five places each; the last window is the export itself, which is not read at one instant.
    assert js.concurrency(dump.jobs, every="1m")["max_running"].to_list() == [2, 10, 10, 10, 10, 10, 11]


def test_todays_answers_leave_most_runs_at_a_time_not_known(polls):
    row = js.concurrency(js.history(polls.jobs)).row(0, named=True)
    assert row["n_unknown"] > 3 * row["n_started"] > 10 * row["n_ended"] / 3


def test_runs_observed_before_they_happened_are_not_lost(dump):
    # Files unpacked with the wrong times, or no times at all.
    long_ago = pl.when("is_ended").then(pl.lit(at(-(10**9)))).otherwise(pl.lit(at(-(10**9) - 1)))
    for observed in (long_ago, pl.lit(None, dump.jobs.schema["observed_at"])):
        row = js.concurrency(dump.jobs.with_columns(observed_at=observed)).row(0, named=True)
        ended = dump.jobs.filter(pl.col("finished_at").is_not_null())
        assert row["n_ended"] == len(ended) < row["n_started"]
        assert row["n_started"] == row["n_ended"] + row["n_unseen"] + row["running_at_end"]
        assert row["mean_running"] * row["covered_ms"] >= ended["processing_ms"].sum()


def test_too_many_windows_are_refused_before_the_work(dump):
    with pytest.raises(js.ArgumentError, match="choose a longer every"):
        js.concurrency(dump.jobs, by="job_id", every="1s", since="2026-11-23T14:00:00Z")
    with pytest.raises(js.ArgumentError, match="column of the answer"):
        js.concurrency(dump.jobs.with_columns(oldest_run_ms=1), by="oldest_run_ms")
