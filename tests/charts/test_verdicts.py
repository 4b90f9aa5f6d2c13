"""Charts of verdicts: objectives, comparisons and drivers."""

import json
import re

import polars as pl
import pytest
import vl_convert

import jobstats as js

from .drawing import DRAWN, datasets, draw, nodes, rows, subtitle, values

SINCE = "2026-11-23T14:12:30Z"
OBJECTIVES = [
    js.Objective(name="Runs start in time", kind="start", target=0.95, within="10s", by=("connector",)),
    js.Objective(name="Crawls succeed", kind="success", target=0.9, by=("connector",)),
    js.Objective(name="Connectors are fresh", kind="fresh", target=0.9),
]
ANALYSES = {
    "slo": lambda jobs, **by: js.slo(jobs, OBJECTIVES[0] if by else OBJECTIVES),
    "compare": lambda jobs, **by: js.compare(jobs, baseline="2m", since=SINCE, **by),
    "drivers": lambda jobs, **by: js.drivers(jobs, **({"columns": "connector"} if by else {})),
    "failure_reasons": lambda jobs, **by: js.failure_reasons(jobs, since=SINCE, baseline="2m", **by),
}
FORMS = {"alone": {}, "by connector": {"by": "connector"}}


def drawn_points(name: str, table: pl.DataFrame) -> list[int]:
    """How many symbols each mark of the picture has."""
    scene = vl_convert.vegalite_to_scenegraph(getattr(js.charts, name)(table).to_json())["scenegraph"]
    return [
        len(node["items"])
        for node in nodes(scene)
        if isinstance(node, dict) and node.get("marktype") == "symbol" and "mark" in str(node.get("name"))
    ]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ANALYSES)
@pytest.mark.parametrize("data", ["dump", "polls"])
def test_every_table_can_be_drawn(request, data, name, form):
    spec = draw(name, ANALYSES[name](request.getfixturevalue(data).jobs, **FORMS[form]))
    assert "NaN" not in vl_convert.vegalite_to_svg(json.dumps(spec))
    assert re.search(r"n = [\d,]+", subtitle(spec))
    assert len(json.dumps(spec)) < 60_000


@pytest.mark.parametrize("name", ANALYSES)
def test_a_spec_stays_small_and_labels_are_not_trusted(dump, name):
    hostile = ["\u202egnp", "a\u2028b", "<script>x</script>", "'+alert(1)+'", "\x1b[31m", "x" * 500, "", "|", "a\x00b"]
    names = pl.Series(hostile + [f"{'W' * 70}{n}" for n in range(300)])
    which = [i % len(names) for i in range(len(dump.jobs))]
    jobs = dump.jobs.with_columns(connector=names.gather(which), failed_reason=names.gather(which))
    by = {"compare": {"by": ["connector", "org_id"]}, "slo": {"by": "connector"}}.get(name, {})
    chart = getattr(js.charts, name)(ANALYSES[name](jobs, **by))
    text = chart.to_json(indent=None)
    assert len(text) < 60_000
    assert 0 < rows(chart.to_dict()) <= 5_000
    assert not re.search("[\u2028\u202e\x00\x1b]|u2028|u202e|u001b|u0000", text)
    assert "<script" not in vl_convert.vegalite_to_svg(text)


@pytest.mark.parametrize("name", ANALYSES)
def test_an_empty_table_is_drawn_empty_and_another_is_refused(dump, name):
    spec = draw(name, ANALYSES[name](dump.jobs).head(0))
    vl_convert.vegalite_to_svg(json.dumps(spec))
    assert "n = 0" in subtitle(spec)
    for wrong in (dump.jobs, [1]):
        with pytest.raises(js.ArgumentError, match=f"expected the table of {name}"):
            getattr(js.charts, name)(wrong)


def test_objectives_are_drawn_worst_first_with_their_numbers(dump):
    table = js.slo(dump.jobs, OBJECTIVES)
    spec = draw("slo", table)
    drawn = next(data for data in datasets(spec) if "attainment" in data[0])
    assert len(drawn) == 40
    assert f"{len(table) - 40} more are not" in subtitle(spec)
    order = ["breached", "at risk", "not enough data", "met"]
    places = [order.index(row["verdict"]) for row in sorted(drawn, key=lambda row: row["rank"])]
    assert places == sorted(places)
    worst = table.filter(pl.col("verdict") == "breached").sort("budget_left").row(0, named=True)
    first = min(drawn, key=lambda row: row["rank"])
    for name in ("attainment", "attainment_low", "attainment_high", "target"):
        assert first[name] == pytest.approx(worst[name], rel=DRAWN)
    burns = next(data for data in datasets(spec) if "burn" in data[0])
    hour = next(row for row in burns if row["rank"] == 0 and row["span"] == "1h")
    assert hour["burn"] == pytest.approx(worst["burn_1h"], rel=DRAWN)


def test_marks_in_the_picture_are_the_rows_of_the_table(dump):
    table = js.slo(dump.jobs, OBJECTIVES[0])
    # A point in the panel and one beside the word.
    assert drawn_points("slo", table) == [len(table.drop_nulls("attainment")), len(table)]
    table = js.drivers(dump.jobs, columns=["connector", "schedule_type"])
    assert drawn_points("drivers", table) == [len(table.drop_nulls("lift")), len(table)]
    table = js.compare(dump.jobs, baseline="2m", since=SINCE)
    times = table.filter(pl.col("measure").str.ends_with("_ms"), pl.col("verdict") != "not estimable")
    assert drawn_points("compare", times) == [len(times)] * 3


def test_a_comparison_keeps_the_order_of_the_table(dump):
    table = js.compare(dump.jobs, baseline="2m", since=SINCE)
    rates = table.filter(pl.col("measure").str.ends_with("_rate"))
    drawn = next(data for data in datasets(draw("compare", rates)) if "from" in data[0])
    for name in ("before", "after"):
        assert [row[name] for row in drawn] == pytest.approx(rates[name].to_list(), rel=DRAWN)
    row = rates.row(0, named=True)
    said = f"{row['change'] * 100:+.2g} points ({row['change_low'] * 100:+.2g} to {row['change_high'] * 100:+.2g})"
    assert drawn[0]["values"] == said


def test_what_is_worse_in_any_group_is_on_top(dump):
    table = js.compare(dump.jobs, baseline="2m", since=SINCE, by="connector")
    best = table.drop_nulls("q_value").sort("q_value", pl.col("effect").abs(), descending=[False, True]).row(0)
    drawn = [row for data in datasets(draw("compare", table)) for row in data if "from" in row and row["rank"] == 0]
    assert any(row["label"].startswith(best[0]) for row in drawn)


def test_nothing_is_compared_where_rates_cannot_be_estimated(polls):
    table = js.drivers(polls.jobs)
    spec = draw("drivers", table)
    assert "rates cannot be estimated" in subtitle(spec)
    drawn = next(data for data in datasets(spec) if "share" in data[0])
    assert [row["n_bad"] for row in drawn] == table["n_bad"].to_list()
    assert any("same runs as connector=Gmail" in row["values"] for row in values_of(spec, "values"))
    spec = draw("slo", js.slo(polls.jobs, OBJECTIVES[1]))
    assert "cannot be estimated, completed runs are missing" in subtitle(spec)
    assert drawn_points("slo", js.slo(polls.jobs, OBJECTIVES[1]))[0] in (0, len(values(spec)))
    spec = draw("compare", js.compare(polls.jobs, baseline="2m", since=SINCE))
    assert "measures cannot be estimated" in subtitle(spec)
    assert not any("rate" in str(row["label"]) for row in values_of(spec, "label"))


def values_of(spec: dict, name: str) -> list[dict]:
    return [row for data in datasets(spec) for row in data if name in row]


def test_new_causes_come_first_among_equals_and_vanished_ones_last(dump):
    table = js.failure_reasons(dump.jobs, since=SINCE, baseline="2m").filter(pl.col("n") > 0).head(4)
    table = table.with_columns(
        n=pl.Series([5, 5, 5, 0]),
        change=pl.Series(["steady", "few", "new", "vanished"]),
        n_before=pl.Series([5, 1, 0, 9]),
    )
    drawn = values_of(draw("failure_reasons", table), "word")
    assert [row["change"] for row in drawn] == ["new", "steady", "few", "vanished"]
    assert drawn[0]["word"].endswith("(0 before)")
