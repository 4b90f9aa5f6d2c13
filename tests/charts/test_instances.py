import json
import re
from datetime import datetime, timedelta

import altair as alt
import polars as pl
import pytest
import vl_convert

import jobstats as js
from jobstats.charts import instances, theme
from jobstats.charts.fires import FATES
from jobstats.charts.freshness import STATUSES
from jobstats.charts.stuck import KINDS
from jobstats.charts.timeline import OUTCOMES
from jobstats.wording import duration

from .drawing import DRAWN, datasets, draw, nodes, rows, subtitle, values
from .test_charts import HOSTILE

TIMES = ("eligible_at", "started_at", "ended_at", "seen_until_at", "from_at", "until_at")
T0 = datetime(2026, 11, 23, 14, 10)


def timeline(_jobs, **_):
    """The runs of :func:`run` one after another: two lanes of waits of 4 s and runs of 6 s."""
    return runs(60)


def runs(n: int) -> pl.DataFrame:
    outcomes = list(OUTCOMES)
    return pl.DataFrame([run(i, outcomes[i % len(outcomes)]) for i in range(n)], infer_schema_length=None).with_columns(
        pl.col(TIMES).cast(pl.Datetime("ms", "UTC"))
    )


def run(i: int, outcome: str) -> dict:
    due = T0 + timedelta(seconds=12 * (i // 2))
    start = due + timedelta(seconds=4)
    end = start + timedelta(seconds=6)
    is_ended = outcome in ("completed", "failed")
    return {
        "connector": "Drive" if i % 3 else "Jira",
        "outcome": outcome,
        "eligible_at": due,
        "started_at": None if outcome == "waiting" else start,
        "ended_at": end if is_ended else None,
        "seen_until_at": end,
        "processing_ms": 6_000 if is_ended else None,
        "from_at": due,
        "until_at": end,
        "lane": i % 2,
    }


ANALYSES = {
    "schedule_adherence": js.schedule_adherence,
    "fires": js.fires,
    "freshness": js.freshness,
    "stuck": js.stuck,
    "timeline": timeline,
}
FORMS = {
    "schedule_adherence": (
        {"grace": "5s"},
        {"by": "connector", "grace": "5s"},
        {"by": ["org_id", "schedule_type"]},
        {"every": "15s", "grace": "5s"},
        {"by": "connector", "every": "15s", "q": 0.9},
    ),
    "fires": ({}, {"grace": "5s"}),
}
CASES = [(name, arguments) for name in ANALYSES for arguments in FORMS.get(name, ({},))]
CALLED = [f"{name}-{'-'.join(arguments)}" for name, arguments in CASES]


def marks(spec: dict, kind: str) -> int:
    """How many marks of a kind the picture has, without legends and axes."""
    scene = vl_convert.vegalite_to_scenegraph(json.dumps(spec))["scenegraph"]
    return sum(
        len(node["items"])
        for node in nodes(scene)
        if isinstance(node, dict) and node.get("marktype") == kind and re.search("marks$", str(node.get("name")))
    )


def many(table: pl.DataFrame, n: int, column: str = "connector_id") -> pl.DataFrame:
    return pl.concat([table.with_columns(pl.format("{}{}", pl.lit(i), column).alias(column)) for i in range(n)])


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=CALLED)
@pytest.mark.parametrize("data", ["dump", "polls"])
def test_every_table_can_be_drawn_on_any_paper(request, data, name, arguments):
    table = ANALYSES[name](request.getfixturevalue(data).jobs, **arguments)
    for mode in ("light", "dark"):
        with alt.theme.enable("jobstats", mode=mode):
            spec = draw(name, table)
        svg = vl_convert.vegalite_to_svg(json.dumps(spec))
        assert "NaN" not in svg
    assert re.search(r"n = [\d,]+", subtitle(spec))
    assert len(json.dumps(spec)) < 60_000
    for node in nodes(spec):
        if isinstance(node, dict) and node.get("type") == "temporal" and "timeUnit" not in node:
            assert node["scale"]["type"] == "utc"
    texts = {text for text in re.findall(r">([^<>]+)</text>", svg) if not text.isascii()}
    assert all(set(text) <= {*map(chr, range(128)), *"·…–−"} for text in texts)


def test_specs_stay_small_whatever_the_input(dump):
    fires = js.fires(dump.jobs)
    later = [fires.with_columns(pl.col("due_at") + pl.duration(hours=hours)) for hours in range(20)]
    by_second = js.schedule_adherence(dump.jobs, by="connector", every="1s", grace="5s")
    tables = [
        ("schedule_adherence", many(by_second, 10, "connector")),
        ("schedule_adherence", js.schedule_adherence(dump.jobs, by="connector_id")),
        ("fires", many(fires, 4)),
        ("fires", pl.concat(later)),
        ("freshness", many(js.freshness(dump.jobs), 4)),
        ("stuck", many(js.stuck(dump.jobs), 80)),
        ("timeline", runs(1_000)),
    ]
    for name, table in tables:
        assert len(table) > 300
        spec = draw(name, table)
        assert 0 < rows(spec) <= 5_000
        assert len(json.dumps(spec)) < 60_000
        assert "NaN" not in vl_convert.vegalite_to_svg(json.dumps(spec))
    assert "drawn" not in subtitle(draw("timeline", runs(1_000)))
    different = runs(1_000).with_columns(connector=pl.format("ж" * 20 + "{}", pl.int_range(1_000)))
    assert len(json.dumps(draw("timeline", different))) < 60_000


def test_missed_and_late_fires_are_the_shares_of_the_table(dump):
    table = js.schedule_adherence(dump.jobs, by="connector", grace="5s")
    # Of Drive's known fires a tenth is missed, and of those late a third has not started.
    is_drive = pl.col("connector") == "Drive"
    changed = {"n": 100, "n_on_time": 60, "n_late": 30, "n_missed": 10, "n_late_waiting": 10, "n_expected": 110}
    changed |= {"on_time_rate": 0.6, "on_time_rate_low": 0.5, "on_time_rate_high": 0.6999, "missed_rate": 0.1}
    table = table.with_columns(
        pl.when(is_drive).then(value).otherwise(name).alias(name) for name, value in changed.items()
    )
    spec = draw("schedule_adherence", table)
    bars = next(data for data in datasets(spec) if "word" in data[0])
    drive = {row["word"]: (row["low"], row["high"]) for row in bars if row["label"] == "Drive"}
    expected = {"missed": (0, 0.1), "late, not started when last seen": (0.1, 0.2), "late": (0.2, 0.4)}
    assert {word: pytest.approx(ends, rel=DRAWN) for word, ends in expected.items()} == drive
    for row in table.filter(~is_drive, pl.col("n_late") > 0).to_dicts():
        late = [bar["share"] for bar in bars if bar["label"] == row["connector"]]
        assert sum(late) == pytest.approx(row["n_late"] / row["n"], rel=DRAWN)
    said = next(row["values"] for data in datasets(spec) for row in data if row.get("label") == "Drive")
    assert said == "60.0 % on time · 30 late · 10 missed"


def test_windows_of_unknown_fates_are_gaps_and_no_fire_of_them_is_missed(polls):
    table = js.schedule_adherence(polls.jobs, every="15s", grace="5s")
    is_open = (pl.col("n_expected") > 0) & (pl.col("n") < 0.5 * pl.col("n_expected"))
    assert len(table.filter(is_open)) > 0
    spec = draw("schedule_adherence", table)
    assert f"{table['n_unknown'].sum()} unknown" in subtitle(spec)
    assert f"{len(table.filter(is_open))} window" in subtitle(spec)
    known = table.filter(~is_open, pl.col("n") > 0)
    lines = [row["bucket"] for row in values(spec) if row["share"] is None]
    assert lines == known["bucket"].dt.timestamp("ms").to_list()
    assert marks(spec, "rule") == len(known)
    assert {row["word"] for row in values(spec) if row["share"] is not None} == {"late"}


def test_each_fire_has_a_mark_and_the_worst_connectors_come_first(dump):
    table = js.fires(dump.jobs, grace="5s").head(300)
    missed = table.with_row_index().with_columns(
        fate=pl.when(pl.col("index") % 50 == 7).then(pl.lit("missed")).otherwise("fate")
    )
    worst = missed.filter(fate="missed")["connector_id"].unique()
    few = missed.filter(pl.col("connector_id").is_in(worst.implode()))
    spec = draw("fires", few)
    assert marks(spec, "symbol") == len(few)
    drawn = next(data for data in datasets(spec) if "due_at" in data[0])
    words = few.with_columns(pl.col("fate").replace({name: look.word for name, look in FATES.items()}))["fate"]
    assert sorted(row["word"] for row in drawn) == sorted(words)
    assert sorted(row["due_at"] for row in drawn) == sorted(few["due_at"].dt.timestamp("ms"))
    said = next(data for data in datasets(spec) if "values" in data[0])
    counts = [int(re.match(r"(\d+) missed", row["values"])[1]) for row in said]
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) == len(few.filter(fate="missed"))


def test_connectors_are_ordered_by_status_and_those_without_success_have_no_age(dump):
    table = js.freshness(dump.jobs)
    spec = draw("freshness", table)
    for name, n in table["status"].value_counts().rows():
        assert f"{n} {STATUSES[name].word}" in subtitle(spec)
    few = table.filter(pl.int_range(pl.len()) % 11 == 0)
    assert len(few) < 40
    spec = draw("freshness", few)
    drawn = next(data for data in datasets(spec) if "age" in data[0])
    order = [look.word for look in STATUSES.values()]
    ranks = [order.index(row["word"]) for row in drawn]
    assert ranks == sorted(ranks)
    assert [row["age"] for row in drawn if row["word"] == "never succeeded"] == [None] * len(few.filter(status="never"))
    ages = sorted(few["age_ms"].drop_nulls())
    assert sorted(row["age"] for row in drawn if row["age"] is not None) == pytest.approx(ages, rel=DRAWN)
    assert marks(spec, "symbol") == len(few)
    failing = few.filter(pl.col("n_failing") > 0).row(0, named=True)
    words = (
        f"failing since {failing['failing_since_at']:%d %b %H:%M}, {failing['n_failing']} in a row: {failing['cause']}"
    )
    assert any(row["values"].endswith(words) for row in drawn)


def test_stuck_runs_are_bars_in_the_order_of_the_table(dump):
    table = js.stuck(dump.jobs)
    table = table.with_columns(kind=pl.Series(["lost_worker", "running_long", "waiting_long", "unjudged", "unjudged"]))
    table = table.with_columns(bound_ms=pl.Series([None, 60_000, 120_000, None, None], dtype=pl.Int64))
    spec = draw("stuck", table)
    drawn = next(data for data in datasets(spec) if "age" in data[0])
    assert [row["age"] for row in drawn] == table["age_ms"].to_list()
    assert [row["bound_ms"] for row in drawn] == table["bound_ms"].to_list()
    assert [row["word"] for row in drawn] == [KINDS[kind].word for kind in table["kind"]]
    assert marks(spec, "rect") == len(table) + table["bound_ms"].count()
    # Two runs of one connector have two rows.
    assert len({row["label"] for row in drawn}) == len(table)


def test_runs_are_lines_while_they_wait_and_bars_while_they_run():
    table = runs(60)
    spec = draw("timeline", table)
    n_started, n_ended = table["started_at"].count(), table["ended_at"].count()
    assert marks(spec, "rule") == len(table)
    # What is known to be work lies, solid, on the time between first start and end.
    assert marks(spec, "rect") == n_started + n_ended
    assert marks(spec, "symbol") == len(table.filter(outcome="failed"))
    drawn = next(data for data in datasets(spec) if "begin" in data[0])
    assert {(row["start"], row["until"]) for row in drawn} == {(4_000, 10_000), (None, 10_000)}
    assert {row["work"] for row in drawn} == {4_000, None}
    for outcome, n in table["outcome"].value_counts().rows():
        assert f"{n} {OUTCOMES[outcome].word}" in subtitle(spec)


def test_of_a_wait_of_days_only_the_end_is_drawn():
    old = runs(20).with_columns(
        pl.when(pl.int_range(pl.len()) == 0).then(pl.col(name) - pl.duration(days=3)).otherwise(name).alias(name)
        for name in ("eligible_at", "from_at")
    )
    spec = draw("timeline", old)
    first, last = next(node["domain"] for node in nodes(spec) if isinstance(node, dict) and node.get("type") == "utc")
    assert 0 < last - first < 300_000
    assert "NaN" not in vl_convert.vegalite_to_svg(json.dumps(spec))


@pytest.mark.parametrize("name", ANALYSES)
def test_labels_are_data_and_not_trusted(dump, name):
    names = pl.Series([*HOSTILE, "🜁" * 70])
    table = ANALYSES[name](dump.jobs, **({"by": ["org_id", "connector"]} if name == "schedule_adherence" else {}))
    at = pl.Series([i % len(names) for i in range(len(table))], dtype=pl.UInt32)
    columns = [*("connector", "connector_id", "cause", "job_id"), *("kind", "evidence", "bound_of", "fate", "outcome")]
    told = {column: names.gather(at) for column in columns if column in table.columns}
    for columns in (["connector"], list(told)):
        table = table.with_columns(told[column].alias(column) for column in columns if column in told)
        text = getattr(js.charts, name)(table).to_json()
        assert not re.search("[\u2028\u202e\x00\x1b]|u2028|u202e|u001b|u0000", text)
        assert "<script" not in vl_convert.vegalite_to_svg(text)
        assert len(text) < 80_000  # indented


@pytest.mark.parametrize("name", ANALYSES)
def test_another_table_is_refused(dump, name):
    for wrong in (dump.jobs, pl.DataFrame({"x": [1]}), [1]):
        with pytest.raises(js.ArgumentError, match=f"expected the table of {name}"):
            getattr(js.charts, name)(wrong)
    with pytest.raises(js.ArgumentError, match="tz is the name"):
        getattr(js.charts, name)(ANALYSES[name](dump.jobs), tz="Berlin")


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=CALLED)
def test_an_empty_table_is_drawn_empty(dump, name, arguments, capfd):
    table = ANALYSES[name](dump.jobs.head(0), **arguments).head(0)
    spec = draw(name, table)
    vl_convert.vegalite_to_svg(json.dumps(spec))
    assert "n = 0" in subtitle(spec)
    assert "WARN" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("name", ["fires", "timeline", "schedule_adherence"])
def test_clocks_are_those_of_the_zone(dump, name):
    table = ANALYSES[name](dump.jobs, **({"every": "1m"} if name == "schedule_adherence" else {}))
    svg = vl_convert.vegalite_to_svg(getattr(js.charts, name)(table, tz="Europe/Berlin").to_json())
    labels = re.findall(r">([^<>]+)</text>", svg)
    assert "Europe/Berlin" in labels
    assert any(label.startswith("15:1") for label in labels)
    assert not any(label.startswith("14:1") for label in labels)


def test_instances_are_told_apart():
    table = pl.DataFrame(
        [
            *(("o", "Drive", "abcdefgh-1"), ("o", "Drive", "abcdefgh-2"), ("p", "Drive", "abcdefgh-2")),
            *(("o", "Box", "12345678-1"), ("o", "Box", "abcdefgh-1"), ("o", "Jira", "x"), (None, None, None)),
        ],
        schema=["org_id", "connector", "connector_id"],
        orient="row",
    )
    labels = instances.labelled_instances(pl.concat([table, table]))["label"].to_list()
    told = [
        "Drive …cdefgh-1",
        "Drive …cdefgh-2",
        "Drive …cdefgh-2 #2",
        "Box 12345678",
        "Box abcdefgh",
        "Jira",
        "(none)",
    ]
    assert labels == told * 2
    names = pl.DataFrame({"name": ["a\u202e", "a", "a #2", "a"]})
    assert theme.labelled(names, ["name"], "")["label"].to_list() == ["a", "a #2", "a #2 #2", "a #2"]


def test_lengths_are_said_in_vega_as_in_python():
    lengths = [0, 85, 999, 2_730, 59_000, 163_800, 9_000_000, 259_200_000, -4_000]
    spec = alt.Chart(alt.InlineData(values=[{"ms": ms} for ms in [*lengths, None]])).mark_text()
    spec = spec.transform_calculate(said=instances.words_of("datum.ms")).encode(text="said:N", y="ms:O").to_json()
    said = set(re.findall(r"text mark\"[^>]*>([^<]+)<", vl_convert.vegalite_to_svg(spec)))
    assert {duration(ms) for ms in lengths} | {"–"} == {text.replace("−", "-") for text in said}
