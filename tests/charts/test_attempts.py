import polars as pl
import pytest

import jobstats as js

from .drawing import DRAWN, draw, marks, subtitle, values


def test_each_attempt_has_its_share_and_its_interval(dump):
    table = js.attempts(dump.jobs, by="schedule_type")
    chart = js.charts.attempts(table)
    rows = {(row["label"], row["attempts"]): row for row in values(chart.to_dict())}
    assert marks(chart)["rect"] == marks(chart)["rule"] == len(rows) == len(table)
    for row in table.to_dicts():
        drawn = rows[row["schedule_type"], row["attempts"]]
        for name in ("share", "share_low", "share_high", "success_rate"):
            assert drawn[name] == (None if row[name] is None else pytest.approx(row[name], rel=DRAWN))
        assert drawn["words"].endswith(f" of {row['n_reached']:,}")


def test_groups_of_which_fewest_succeed_at_once_come_first(dump):
    table = js.attempts(dump.jobs, by="connector")
    first = table.filter(attempts=1).sort(pl.col("n_ended") < 20, "success_rate")["connector"].head(12).to_list()
    spec = draw("attempts", table)
    assert list(dict.fromkeys(row["label"] for row in values(spec))) == first
    assert f"worst 12 of {table['connector'].n_unique()} groups" in subtitle(spec)


def test_windows_in_which_many_runs_have_not_ended_are_left_open(dump):
    table = js.attempts(dump.jobs, every="15s")
    spec = draw("attempts", table)
    assert "1 window left open" in subtitle(spec)
    last = [row for row in values(spec) if row["bucket"] == table["bucket"].dt.timestamp("ms").max()]
    assert [(row["share"], row["n"] >= 0) for row in last] == [(None, True)] * 3


def test_shares_not_estimated_are_counts(polls):
    for arguments in ({}, {"by": "connector"}, {"every": "1m"}):
        table = js.attempts(polls.jobs, **arguments)
        spec = draw("attempts", table)
        assert "shares cannot be estimated" in subtitle(spec)
        assert not any("share" in field for row in values(spec) for field in row)
    assert marks(js.charts.attempts(js.attempts(polls.jobs)))["rect"] == 4


def test_more_attempts_than_can_be_read_are_said(dump):
    jobs = dump.jobs.with_columns(attempts=pl.when(pl.col("attempts") == 3).then(30).otherwise("attempts"))
    spec = draw("attempts", js.attempts(jobs))
    assert "137 runs of more than 12 attempts not shown" in subtitle(spec)
    assert len(values(spec)) == 12
