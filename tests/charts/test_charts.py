import json
import re

import altair as alt
import polars as pl
import pytest
import vl_convert

import jobstats as js

from .drawing import DRAWN, datasets, draw, nodes, rows, subtitle, values

ANALYSES = {
    "attempts": js.attempts,
    "backlog": js.backlog,
    "concurrency": js.concurrency,
    "failure_reasons": js.failure_reasons,
    "processing_time": js.processing_time,
    "queue_latency": js.queue_latency,
    "retry_rates": js.retry_rates,
    "slowdown": js.slowdown,
    "turnaround": js.turnaround,
}
FORMS = {
    "alone": {},
    "by connector": {"by": "connector"},
    "by two": {"by": ["org_id", "schedule_type"]},
    "over time": {"every": "15s"},
    "both": {"by": "connector", "every": "1m"},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ANALYSES)
@pytest.mark.parametrize("data", ["dump", "polls"])
def test_every_table_can_be_drawn(request, data, name, form):
    jobs = request.getfixturevalue(data).jobs
    spec = draw(name, ANALYSES[name](jobs, **FORMS[form]))
    svg = vl_convert.vegalite_to_svg(json.dumps(spec))
    assert "NaN" not in svg
    assert re.search(r"n = [\d,]+", subtitle(spec))
    for node in nodes(spec):
        if isinstance(node, dict) and node.get("type") == "temporal" and "timeUnit" not in node:
            assert node["scale"]["type"] == "utc"
    assert len(json.dumps(spec)) < 60_000


@pytest.mark.parametrize("name", ANALYSES)
def test_a_spec_stays_small_whatever_the_input(dump, name):
    # Some 350 windows of 78 groups: far more than a chart can hold.
    many = pl.concat([dump.jobs.with_columns(connector=pl.format("{}-{}", "connector", pl.lit(n))) for n in range(3)])
    for arguments in ({"by": "connector"}, {"every": "1s"}, {"by": "connector", "every": "1s"}):
        spec = draw(name, ANALYSES[name](many, **arguments))
        assert 0 < rows(spec) <= 5_000
        assert len(json.dumps(spec)) < 60_000


def test_windows_that_do_not_fit_are_said():
    start, n = 1_795_443_000, 6_000
    buckets = pl.Series([start + i for i in range(n)]).cast(pl.Int64) * 1000
    table = pl.DataFrame({"bucket": buckets.cast(pl.Datetime("ms")).dt.replace_time_zone("UTC")}).with_columns(
        p50_ms=pl.lit(5.0), max_ms=pl.lit(9), n=pl.lit(1), n_excluded=pl.lit(0), n_waiting=pl.lit(0)
    )
    spec = draw("queue_latency", table)
    assert f"newest {rows(spec):,} of 6,000 windows" in subtitle(spec)
    assert 800 < rows(spec) < 5_000
    assert values(spec)[-1]["bucket"] == (start + n - 1) * 1000


def test_the_ladder_draws_the_table_worst_first(dump):
    table = js.queue_latency(dump.jobs, by="connector")
    drawn = values(draw("queue_latency", table))
    worst = table.sort(pl.col("n") < 20, "p95_ms", "connector", descending=[False, True, False])
    assert worst["n"][-1] < 20
    assert [row["label"] for row in drawn] == worst["connector"].to_list()
    assert [row["p95_ms"] for row in drawn] == pytest.approx(worst["p95_ms"].to_list(), rel=DRAWN)
    assert drawn[0]["count"] == f"n = {worst['n'][0]:,}"


def test_waits_of_nothing_or_less_stay_on_a_log_axis():
    table = pl.DataFrame(
        {"p50_ms": [-4.0], "p99_ms": [0.0], "max_ms": [0], "n": [3], "n_excluded": [0], "n_waiting": [0]}
    )
    row = values(draw("queue_latency", table))[0]
    assert (row["p50_ms"], row["p50_ms_drawn"], row["values"]) == (-4.0, 1.0, "-4 ms · 0 ms")


def test_marks_in_the_picture_are_the_rows_of_the_table(dump):
    table = js.retry_rates(dump.jobs, by="schedule_type")
    scene = vl_convert.vegalite_to_scenegraph(js.charts.retry_rates(table).to_json())["scenegraph"]
    points = [
        len(node["items"])
        for node in nodes(scene)
        if isinstance(node, dict) and node.get("marktype") == "symbol" and "mark" in str(node.get("name"))
    ]
    assert 2 * len(table) in points
    assert sum(points) == 2 * len(table)


def test_rates_not_estimated_are_said_and_bounded_and_not_drawn(polls):
    runs = js.history(polls.jobs)
    for arguments in ({"by": "connector"}, {"every": "1m"}):
        spec = draw("retry_rates", js.retry_rates(runs, **arguments))
        assert "rates cannot be estimated" in subtitle(spec)
        assert "%" not in json.dumps(values(spec))
    table = js.retry_rates(runs, by="connector")
    svg = vl_convert.vegalite_to_svg(js.charts.retry_rates(table).to_json())
    drawn = {
        row["label"]: (row["low"], row["high"])
        for row in values(draw("retry_rates", table))
        if row.get("measure") == "failed"
    }
    bounds = table.select("connector", "failure_rate_min", "failure_rate_max").rows()
    assert sorted(drawn) == sorted(connector for connector, *_ in bounds)
    for connector, *bound in bounds:
        assert drawn[connector] == pytest.approx(bound, rel=DRAWN)
    assert svg.count('aria-roledescription="rule mark"') == 2 * len(table)
    assert 'aria-roledescription="point"' not in svg


def test_axes_speak_of_time_as_people_do(dump):
    chart = js.charts.queue_latency(js.queue_latency(dump.jobs, by="connector"))
    svg = vl_convert.vegalite_to_svg(chart.to_json())
    labels = re.findall(r">([^<>]+)</text>", svg)
    assert {"50 ms", "1 s", "30 s"} <= set(labels)
    over_time = vl_convert.vegalite_to_svg(js.charts.queue_latency(js.queue_latency(dump.jobs, every="1m")).to_json())
    assert ">14:10<" in over_time


HOSTILE = [
    "\u202egnp.exe",
    "a\u2028b",
    "<script>alert(1)</script>",
    "'+alert(1)+'",
    "{{7*7}}",
    "\x1b[31m",
    "x" * 500,
    "",
    "|",
    "a\x00b",
]


@pytest.mark.parametrize("name", ANALYSES)
def test_labels_are_data_and_not_trusted(dump, name):
    names = pl.Series(HOSTILE)
    jobs = dump.jobs.with_columns(
        connector=names.gather([i % len(names) for i in range(len(dump.jobs))]),
        failed_reason=names.gather([i % len(names) for i in range(len(dump.jobs))]),
    )
    for arguments in ({"by": "connector"}, {"by": "connector", "every": "1m"}):
        text = getattr(js.charts, name)(ANALYSES[name](jobs, **arguments)).to_json()
        assert not re.search("[\u2028\u202e\x00\x1b]|u2028|u202e|u001b|u0000", text)
        svg = vl_convert.vegalite_to_svg(text)
        assert "<script" not in svg
        assert max(len(label) for label in re.findall(r'"label": "([^"]*)"', text)) <= 130


def test_groups_that_shorten_to_one_label_keep_their_own_rows(dump):
    names = pl.Series(["x" * 80 + "a", "x" * 80 + "b"])
    jobs = dump.jobs.with_columns(connector=names.gather([i % 2 for i in range(len(dump.jobs))]))
    labels = [row["label"] for row in values(draw("queue_latency", js.queue_latency(jobs, by="connector")))]
    assert len(set(labels)) == 2


def test_intervals_and_orders_are_those_of_the_table(dump):
    table = js.retry_rates(dump.jobs, by="connector")
    worst = table.sort("failure_rate_low", descending=True, nulls_last=True)["connector"][0]
    spec = draw("retry_rates", table)
    drawn = [row for data in datasets(spec) for row in data if row.get("measure") == "failed" and row["label"] == worst]
    row = table.filter(pl.col("connector") == worst).row(0, named=True)
    expected = [row["failure_rate_low"], row["failure_rate"], row["failure_rate_high"]]
    assert [drawn[0]["low"], drawn[0]["rate"], drawn[0]["high"]] == pytest.approx(expected, rel=DRAWN)
    assert drawn[0]["rank"] == 0


def test_the_slowest_panels_are_shown(dump):
    table = js.queue_latency(dump.jobs, by="connector", every="1m")
    shown = {row["label"] for row in values(draw("queue_latency", table))}
    worst = table.group_by("connector").agg(pl.col("p95_ms").max()).sort("p95_ms", descending=True)["connector"]
    assert shown == set(worst.head(12))


def test_only_the_most_frequent_reasons_are_drawn(dump):
    spec = draw("failure_reasons", js.failure_reasons(dump.jobs))
    assert len(values(spec)) == 15
    assert "first 15 of" in subtitle(spec)


def test_minutes_are_said_as_minutes():
    table = pl.DataFrame(
        {"p50_ms": [50_000.0], "p99_ms": [400_000.0], "max_ms": [9], "n": [3], "n_excluded": [0], "n_waiting": [0]}
    )
    svg = vl_convert.vegalite_to_svg(js.charts.queue_latency(table).to_json())
    assert {"30 s", "1 min", "10 min"} <= set(re.findall(r">([^<>]+)</text>", svg))


def test_windows_with_many_open_runs_are_not_drawn(dump):
    table = js.retry_rates(dump.jobs, every="15s")
    spec = draw("retry_rates", table)
    open_too_far = table.filter(pl.col("n_open") > 0.1 * (pl.col("n") + pl.col("n_open")))
    assert len(open_too_far) > 0
    assert f"{len(open_too_far)} window" in subtitle(spec)
    hidden = [row for row in values(spec) if row["rate"] is None and row["n"] > 0]
    assert len(hidden) == 2 * len(open_too_far.filter(pl.col("n") > 0))


@pytest.mark.parametrize("name", ANALYSES)
def test_another_table_is_refused(dump, name):
    for wrong in (dump.jobs, pl.DataFrame({"x": [1]}), [1]):
        with pytest.raises(js.ArgumentError, match=f"expected the table of {name}"):
            getattr(js.charts, name)(wrong)


@pytest.mark.parametrize("name", ANALYSES)
def test_an_empty_table_is_drawn_empty(dump, name):
    for arguments in ({}, {"by": "connector"}, {"every": "1h"}):
        spec = draw(name, ANALYSES[name](dump.jobs.head(0), **arguments))
        vl_convert.vegalite_to_svg(json.dumps(spec))
        assert "n = 0" in subtitle(spec)


def test_charts_can_be_put_together(dump):
    table = js.queue_latency(dump.jobs, by="connector")
    both = alt.vconcat(js.charts.queue_latency(table), js.charts.failure_reasons(js.failure_reasons(dump.jobs)))
    assert len(both.to_dict()["vconcat"]) == 2
