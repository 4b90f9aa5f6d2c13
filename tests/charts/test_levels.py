import json

import polars as pl
import pytest
import vl_convert

import jobstats as js

from .drawing import DRAWN, datasets, draw, marks, subtitle, values

LEVELS = {"backlog": (js.backlog, "waiting", "n_arrived"), "concurrency": (js.concurrency, "running", "n_started")}


@pytest.mark.parametrize("name", LEVELS)
@pytest.mark.parametrize("arguments", [{"every": "15s"}, {"by": "schedule_type", "every": "1m"}])
def test_every_window_has_its_peak_and_mean(dump, name, arguments):
    analysis, place, entered = LEVELS[name]
    table = analysis(dump.jobs, **arguments)
    chart = getattr(js.charts, name)(table)
    rows = {(row["label"], row["bucket"]): row for row in values(chart.to_dict())}
    assert len(rows) == len(table)
    for row in table.with_columns(at=pl.col("bucket").dt.timestamp("ms")).to_dicts():
        drawn = rows[row.get("schedule_type", "all runs"), row["at"]]
        assert drawn["peak"] == row[f"max_{place}"]
        assert drawn["mean"] == pytest.approx(row[f"mean_{place}"], rel=DRAWN)
        assert drawn["entered"] == row[entered]
    # One group has a second panel, with bars of those that came and rules of those that went.
    is_one = "by" not in arguments
    assert marks(chart)["rect"] == len(table) * (1 + is_one)
    assert marks(chart)["rule"] == len(table) * (2 + is_one)


def test_windows_covered_in_part_are_dashed_and_said(dump):
    table = js.backlog(dump.jobs, every="1m")
    assert table["is_partial"].sum() == 2
    assert "2 windows covered in part" in subtitle(draw("backlog", table))
    svg = vl_convert.vegalite_to_svg(js.charts.backlog(table).to_json())
    assert svg.count("stroke-dasharray") == 4


def test_a_window_is_as_wide_as_it_is_and_levels_not_known_are_gaps():
    times = pl.Series([0, 3_600_000, 7_200_000]).cast(pl.Datetime("ms")).dt.replace_time_zone("UTC")
    counts = {name: [1, 0, 2] for name in ("n_arrived", "n_started", "n_unseen", "n_unknown")}
    table = pl.DataFrame(
        {
            "bucket": times,
            "max_waiting": [2, None, 4],
            "mean_waiting": [1.0, None, 2.0],
            "waiting_at_start": [0, None, 1],
            "waiting_at_end": [0, None, 1],
            "oldest_wait_ms": [None, None, 5],
            "covered_ms": [3_600_000, 0, 3_600_000],
            **counts,
            "is_partial": [False, True, False],
        }
    )
    chart = js.charts.backlog(table)
    assert "datum.bucket + 3600000" in chart.to_json()
    # Two windows with levels, and three with counts of those that came and went.
    assert (marks(chart)["rect"], marks(chart)["rule"]) == (2 + 3, 2 * 2 + 3)


def test_groups_are_bars_with_the_highest_peak_first(dump):
    table = js.backlog(dump.jobs, by="connector")
    rows = values(draw("backlog", table))
    highest = table.sort("max_waiting", "mean_waiting", "connector", descending=[True, True, False])
    assert [row["label"] for row in rows] == highest["connector"].to_list()
    assert [row["peak"] for row in rows] == highest["max_waiting"].to_list()
    assert rows[0]["last"].startswith(f"{highest['waiting_at_end'][0]}, oldest ")


def test_what_the_level_lacks_is_said(dump):
    assert "35 of unknown wait" in subtitle(draw("backlog", js.backlog(dump.jobs, every="1m")))
    assert "a later attempt" in subtitle(draw("concurrency", js.concurrency(dump.jobs)))


def test_thousands_of_windows_keep_the_newest(dump):
    few = js.concurrency(dump.jobs, every="1s")
    table = pl.concat([few.with_columns(pl.col("bucket") + pl.duration(seconds=len(few) * n)) for n in range(10)])
    spec = draw("concurrency", table)
    assert f"of {len(table):,} windows" in subtitle(spec)
    assert len(json.dumps(spec)) < 60_000
    assert max(row["bucket"] for data in datasets(spec) for row in data) == table["bucket"].dt.timestamp("ms").max()
