import json
import re

import polars as pl
import pytest
import vl_convert

import jobstats as js

from .drawing import DRAWN, datasets, draw, marks, nodes, subtitle, values

LENGTHS = {
    "queue_latency": js.queue_latency,
    "processing_time": js.processing_time,
    "turnaround": js.turnaround,
}
MANY = [n / 100 for n in range(1, 100)]


@pytest.mark.parametrize("name", LENGTHS)
def test_a_ladder_has_a_mark_for_each_quantile_of_each_group(dump, name):
    table = LENGTHS[name](dump.jobs, by="connector")
    drawn = marks(getattr(js.charts, name)(table))
    assert drawn["symbol"] == 3 * len(table)
    assert drawn["rule"] == len(table)
    rows = values(draw(name, table))
    worst = table.sort(pl.col("n") < 20, "p95_ms", "connector", descending=[False, True, False])
    assert [row["label"] for row in rows] == worst["connector"].to_list()
    for column in ("p50_ms", "p99_ms"):
        assert [row[column] for row in rows] == pytest.approx(worst[column].to_list(), rel=DRAWN)


def test_intervals_are_those_of_the_table_and_dashed_where_they_have_no_end(dump):
    table = js.turnaround(dump.jobs, by="schedule_type", censored=True)
    chart = js.charts.turnaround(table)
    ends = pl.concat([table.select(low=f"p{q}_ms_low", high=f"p{q}_ms_high") for q in (50, 90, 95, 99)])
    n_known, n_open = len(ends.drop_nulls()), len(ends) - len(ends.drop_nulls())
    assert n_known > 0
    assert n_open > 0
    assert marks(chart)["rule"] == len(table) + len(ends)
    rows = [row for data in datasets(chart.to_dict()) for row in data if "low" in row]
    drawn = sorted((row["low"], row["high"]) for row in rows)
    last = max(high for _, high in drawn)
    expected = sorted((row["low"], row["high"] or last) for row in ends.to_dicts())
    assert [end for pair in drawn for end in pair] == pytest.approx(
        [end for pair in expected for end in pair], rel=DRAWN
    )
    dashes = [len(node["items"]) for node in dashed(chart)]
    assert sum(dashes) == n_open


def dashed(chart) -> list[dict]:
    scene = vl_convert.vegalite_to_scenegraph(chart.to_json())["scenegraph"]
    return [
        node
        for node in nodes(scene)
        if isinstance(node, dict)
        and node.get("marktype") == "rule"
        and node["items"]
        and node["items"][0].get("strokeDash")
    ]


@pytest.mark.parametrize("arguments", [{"by": "connector"}, {"every": "15s"}, {"by": "connector", "every": "1m"}])
@pytest.mark.parametrize("q", [(0.5, 0.95, 0.99), MANY])
def test_an_objective_is_a_dashed_rule_with_its_words(dump, arguments, q):
    table = js.queue_latency(dump.jobs, q=q, **arguments)
    chart = js.charts.queue_latency(table, target_ms=60_000)
    svg = vl_convert.vegalite_to_svg(chart.to_json())
    assert "objective 1 min" in svg
    n_panels = 1 if len(arguments) == 1 and not ("by" in arguments and q is MANY) else 12
    assert len(dashed(chart)) == n_panels
    with pytest.raises(js.ArgumentError, match="above 0"):
        js.charts.queue_latency(table, target_ms=0)


def test_many_quantiles_are_a_distribution_for_each_group(dump):
    table = js.queue_latency(dump.jobs, by="connector", q=MANY)
    spec = draw("queue_latency", table)
    assert len(json.dumps(spec)) < 60_000
    of_panels = next(data for data in datasets(spec) if "label" in data[0])
    worst = table.filter(pl.col("n") >= 20).sort("p95_ms", descending=True).head(12)
    assert list(dict.fromkeys(row["label"] for row in of_panels)) == worst["connector"].to_list()
    for row in of_panels:
        column = f"p{round(row['share'] * 100)}_ms"
        expected = table.filter(pl.col("connector") == row["label"])[column].item()
        assert row["value"] == pytest.approx(max(expected, 1), rel=DRAWN)
    # 12 panels, and in each the lines of all groups and its own.
    assert marks(js.charts.queue_latency(table))["line"] == 12 * (len(table) + 1)


def test_many_quantiles_of_one_group_are_one_line(dump):
    table = js.processing_time(dump.jobs, q=MANY)
    rows = values(draw("processing_time", table))
    assert [row["share"] for row in rows] == MANY
    assert [row["value"] for row in rows] == pytest.approx(table.select("^p.*_ms$").row(0), rel=DRAWN)
    assert marks(js.charts.processing_time(table))["line"] == 1


def test_quantiles_of_hundreds_of_groups_stay_small(dump):
    jobs = pl.concat([dump.jobs.with_columns(connector=pl.format("{}-{}", "connector", pl.lit(n))) for n in range(8)])
    for q in (MANY, [n / 1000 for n in range(1, 1000)]):
        text = js.charts.queue_latency(js.queue_latency(jobs, by="connector", q=q)).to_json(indent=None)
        assert len(text) < 60_000
        vl_convert.vegalite_to_svg(text)
    censored = js.queue_latency(jobs, by="connector", censored=True)
    assert len(js.charts.queue_latency(censored, target_ms=1_000).to_json(indent=None)) < 60_000


def test_many_quantiles_over_time_are_the_usual_ones(dump):
    table = js.queue_latency(dump.jobs, every="15s", q=MANY)
    spec = draw("queue_latency", table)
    assert "4 of 99 quantiles" in subtitle(spec)
    assert [row["p95_ms"] for row in values(spec)] == pytest.approx(table["p95_ms"].to_list(), rel=DRAWN)


@pytest.mark.parametrize("name", ["processing_time", "turnaround"])
def test_lengths_that_cannot_be_estimated_are_counts(polls, name):
    for arguments in ({}, {"by": "connector"}, {"every": "1m"}, {"q": MANY}):
        table = LENGTHS[name](polls.jobs, **arguments)
        spec = draw(name, table)
        assert "cannot be estimated" in subtitle(spec)
        assert not any("_ms" in field for data in datasets(spec) for row in data for field in row if row[field])
        assert "n = " in vl_convert.vegalite_to_svg(json.dumps(spec))


def test_time_is_that_of_the_clocks_asked_for(dump):
    table = js.turnaround(dump.jobs, every="1m")
    svg = vl_convert.vegalite_to_svg(js.charts.turnaround(table, tz="Asia/Kolkata").to_json())
    assert "Asia/Kolkata" in svg
    assert re.search(r">19:4\d<", svg)
