"""What is told to be worse, better, new or gone, and which gates stop a scheduler."""

from typing import Any

import polars as pl
import pytest

import jobstats as js
from jobstats.report import changes, sentences
from jobstats.report.building import build
from jobstats.report.gates import GATES, failed
from jobstats.report.model import Figure, ObjectiveResult, Report, Stale


@pytest.fixture(scope="module")
def report(dump) -> Report:
    objective = js.Objective(name="Crawls succeed", kind="success", target=0.9, by=["schedule_type"])
    return build(*dump, objectives=objective).report


def stale(*names: str) -> tuple[Stale, ...]:
    return tuple(Stale(key=f"key of {name}", name=name) for name in names)


def figure(**values: Any) -> Figure:
    usual = {"id": "failure_rate", "name": "Failed runs", "kind": "rate", "value": 0.10, "low": 0.09, "high": 0.11}
    more = {"is_bounds": False, "n": 1_000, "text": "x", "detail": ""}
    return Figure(**(usual | more | values))


@pytest.mark.parametrize(
    ("old", "new", "direction"),
    [
        ({}, {"value": 0.20, "low": 0.18, "high": 0.22}, "worse"),
        ({}, {"value": 0.05, "low": 0.04, "high": 0.06}, "better"),
        ({}, {"value": 0.12, "low": 0.105, "high": 0.135}, None),  # the intervals overlap
        (
            {"low": 0.0999, "high": 0.1001},
            {"value": 0.105, "low": 0.1049, "high": 0.1051},
            None,
        ),  # sure, and too little
        ({"low": 0.0999, "high": 0.1001}, {"value": 0.111, "low": 0.1109, "high": 0.1111}, "worse"),
        ({}, {"value": None, "low": 0.2, "high": 0.9, "is_bounds": True}, None),  # bounds are no estimate
        ({"value": None, "low": None, "high": None}, {"value": 0.9, "low": 0.8, "high": 0.95}, None),
        ({"id": "on_time_rate"}, {"id": "on_time_rate", "value": 0.05, "low": 0.04, "high": 0.06}, "worse"),
        ({"id": "objective:a"}, {"id": "objective:a", "value": 0.2, "low": 0.18, "high": 0.22}, "better"),
        (
            {"id": "q", "kind": "duration", "value": 1_000.0, "low": 990.0, "high": 1_010.0},
            {"id": "q", "kind": "duration", "value": 1_099.0, "low": 1_090.0, "high": 1_110.0},
            None,
        ),
        (
            {"id": "q", "kind": "duration", "value": 1_000.0, "low": 990.0, "high": 1_010.0},
            {"id": "q", "kind": "duration", "value": 1_100.0, "low": 1_090.0, "high": 1_110.0},
            "worse",
        ),
        ({"id": "other"}, {"value": 0.9, "low": 0.8, "high": 0.95}, None),  # the report before did not have it
    ],
)
def test_figures_differ_where_it_is_sure_and_matters(report, old, new, direction):
    before = report.model_copy(update={"figures": (figure(**old),), "objectives": (), "causes": (), "stale": ()})
    found = changes.since_report(before, (figure(**new),), (), {}, ())
    assert [change.direction for change in found] == ([direction] if direction else [])


def test_steps_of_objectives_causes_and_connectors(report):
    def result(objective: str, verdict: str) -> ObjectiveResult:
        empty = dict.fromkeys(("attainment", "attainment_low", "attainment_high", "budget_left", "alert", "reason"))
        return ObjectiveResult(
            objective=objective, group="(all)", verdict=verdict, target=0.9, n=1, n_bad=0, n_excluded=0, **empty
        )

    was = (result("a", "met"), result("b", "breached"), result("c", "met"), result("e", "met"))
    now = (
        result("a", "at risk"),
        result("b", "met"),
        result("c", "met"),
        result("d", "breached"),
        result("e", "not enough data"),
    )
    before = report.model_copy(
        update={"figures": (), "objectives": was, "causes": ("1",), "stale": stale("Drive 1", "Slack 2", "Twin")}
    )
    found = changes.since_report(before, (), now, {"1": "HTTP 429", "2": "ENOSPC"}, stale("Slack 2", "Jira 3", "Twin"))
    assert [(change.direction, change.message) for change in found] == [
        ("worse", "a: met, now at risk."),
        ("worse", "Jira 3 has become stale."),
        ("new", "ENOSPC: not among the causes of the report before."),
        ("better", "b: breached, now met."),
        ("better", "Drive 1 is stale no longer."),
    ]
    many = {str(n): f"cause {n}" for n in range(100)}
    found = changes.since_report(before, (), was, many, stale(*(f"x {n}" for n in range(100))))
    assert len([change for change in found if change.direction == "new"]) == 11
    assert any("89 more causes" in change.message for change in found)
    assert any("90 more connectors have become stale" in change.message for change in found)


def test_a_report_does_not_differ_from_itself(dump, report):
    objective = js.Objective(name="Crawls succeed", kind="success", target=0.9, by=["schedule_type"])
    again = build(*dump, objectives=objective, previous=lambda _: report).report
    assert again.previous is not None
    assert [change for change in again.changes if change.against == "report"] == []


def test_a_planted_regression_is_found(dump):
    """Half of the completed runs of the second three minutes fail, for a reason never seen before."""
    at = pl.lit("2026-11-23T14:12:00Z").str.to_datetime(time_zone="UTC", time_unit="ms")
    is_hit = (
        (pl.col("state") == "completed") & (pl.col("started_at") >= at) & (pl.col("created_at").dt.timestamp() % 2 == 0)
    )
    worse = dump.jobs.with_columns(
        state=pl.when(is_hit).then(pl.lit("failed")).otherwise("state"),
        failed_reason=pl.when(is_hit).then(pl.lit("Flux capacitor is out of plutonium")).otherwise("failed_reason"),
    )
    window = {"since": "2026-11-23T14:12:00Z"}
    good, bad = build(*dump, **window), build(worse, dump.rejects, **window)
    before = build(*dump, until="2026-11-23T14:12:00Z").report
    assert "regression" not in "".join(failed(good.report, ["regression"]))
    new = [item.message for item in bad.report.attention if item.kind == "cause"]
    assert len(new) == 1
    assert "Flux capacitor" in new[0]
    report = build(worse, dump.rejects, previous=lambda _: before, **window).report
    told = [change.subject for change in report.changes if change.direction == "worse" and change.against == "report"]
    assert "Failed runs" in told
    assert [gate.split(":")[0] for gate in failed(report, ["regression", "new-reason", "quality"])] == [
        "regression",
        "new-reason",
    ]


def test_gates(report, polls):
    assert failed(report, []) == []
    reasons = dict(reason.split(": ", 1) for reason in failed(report, GATES))
    assert set(reasons) == {"slo", "stale"}
    breached = [result for result in report.objectives if result.verdict == "breached"]
    assert reasons["slo"].startswith(f"Crawls succeed ({breached[0].group})")
    assert reasons["stale"].startswith("19 connectors: ")
    silent = build(*polls, objectives=js.Objective(name="Crawls succeed", kind="success", target=0.9)).report
    reasons = dict(reason.split(": ", 1) for reason in failed(silent, ["slo", "quality"]))
    assert reasons == {"slo": "Crawls succeed cannot be judged", "quality": "outcomes_missing"}
    with pytest.raises(js.ArgumentError, match="no gate 'sol'; choose from slo, quality"):
        failed(report, ["sol"])
    with pytest.raises(js.ArgumentError, match="the gate slo needs objectives"):
        failed(build(*polls).report, ["slo"])


def test_connectors_of_one_name_are_told_apart():
    row = {"connector": "Drive", "connector_id": None, "org_id": "o1"}
    assert changes.instance(row) == "Drive"
    assert changes.key_of(row) != changes.key_of(row | {"org_id": "o2"})
    assert changes.instance({"connector": None, "connector_id": "c" * 40, "org_id": None}) == f"(none) {'c' * 35}…"


def test_what_is_worse_is_told_before_what_is_better():
    good = {"measure": "cause_rate", "verdict": "better", "before": 0.2, "after": 0.1, "n_before": 9, "n_after": 9}
    rows = [
        *({**good, "cause": f"cause {n}"} for n in range(12)),
        good | {"measure": "failure_rate", "cause": None, "verdict": "worse"},
    ]
    found = changes.since_window(pl.DataFrame(rows))
    assert [change.direction for change in found] == ["worse", *["better"] * 9]


def test_where_no_other_run_fails_there_is_no_number_of_times():
    row = {"column": "org_id", "value": "o1", "verdict": "driver", "lift": None, "n": 30, "n_bad": 30}
    assert sentences.drivers(pl.DataFrame([row], schema_overrides={"lift": pl.Float64})) == (
        "Of all failed runs, surely more than by chance have org id o1: 30 of 30 runs; no other run failed."
    )
    assert "fail 17 times as often as the rest" in sentences.drivers(pl.DataFrame([row | {"lift": 17.0}]))
