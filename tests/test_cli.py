import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import jobstats as js

from .factories import record

DUMP, POLLS = "data/dump", "data/polls"


def test_load_then_report_then_query(run, tmp_path):
    code, out, err = run("load", DUMP, POLLS, "--to", tmp_path)
    assert (code, out) == (0, f"{tmp_path}\n")
    assert err.startswith("4,521 records from 73 files: 4,521 accepted, 0 rejected")
    assert "4,521 are new, 0 the store held already" in err
    assert "0 are new, 2,302 the store held already" in run("load", POLLS, "--to", tmp_path)[2]
    code, out, err = run("report", tmp_path, "--out", tmp_path / "r", "--since", "2026-11-23T14:00")
    assert (code, Path(out.strip())) == (0, (tmp_path / "r/latest/report.html").resolve())
    assert "Queue latency, median" in err
    code, out, err = run("query", tmp_path, "select count(*) as n from jobs")
    assert (code, out, err) == (0, "n\n4521\n", "")


def test_a_history_is_written_and_a_store_is_compacted(run, tmp_path, polls):
    run("load", POLLS, "--to", tmp_path / "crawls")
    code, out, err = run("history", tmp_path / "crawls", "--to", tmp_path / "runs.parquet")
    assert (code, out, err) == (0, f"{tmp_path}/runs.parquet\n", "503 runs\n")
    assert len(js.scan(tmp_path / "runs.parquet").collect()) == len(js.history(polls.jobs))
    assert run("history", POLLS, "--to", tmp_path / "again.parquet")[2] == "503 runs\n"
    assert run("query", tmp_path / "runs.parquet", "select count(*) n from history")[1] == "n\n503\n"
    assert run("query", tmp_path / "crawls", "show tables")[1].split() == [
        "name", "history", "jobs", "observations", "rejects",
    ]  # fmt: skip
    reports = [run("report", tmp_path / name, "--out", tmp_path / name[:1])[2] for name in ("crawls", "runs.parquet")]
    assert reports[0].splitlines()[:10] == reports[1].splitlines()[:10]
    assert run("compact", tmp_path / "crawls")[1:] == (f"{tmp_path}/crawls\n", "nothing to merge in 1 file\n")
    run("load", DUMP, "--to", tmp_path / "crawls")
    assert run("compact", tmp_path / "crawls")[2] == "2 files merged into 1\n"


def test_query_formats(run):
    query = "select state, count(*) as n, max(created_at) as t from jobs where state = 'active' group by all"
    assert run("query", DUMP, query)[1] == "state,n,t\nactive,14,2026-11-23T14:14:51.663Z\n"
    assert json.loads(run("query", DUMP, query, "--format", "json")[1]) == {
        "state": "active",
        "n": 14,
        "t": "2026-11-23T14:14:51.663Z",
    }
    assert "active" in run("query", DUMP, query, "--format", "table")[1]


def test_a_table_carries_no_control_characters_to_the_terminal(run, tmp_path):
    (tmp_path / "x.json").write_text(json.dumps(record(name="\x1b[31mred\x1b]0;title\x07")))
    assert "\x1b" not in run("query", tmp_path / "x.json", "select name from jobs", "--format", "table")[1]
    assert next(csv.DictReader(io.StringIO(run("query", tmp_path / "x.json", "select name from jobs")[1])))[
        "name"
    ].startswith("\x1b")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["load", "nope.json", "--to", "{tmp}/x"], 4, "nope.json: no such file or folder"),
        (
            ["load", "{tmp}", "--to", "{tmp}/x"],
            4,
            "{tmp}: no exports in this folder; expected .json, .ndjson, .jsonl (also .gz, .zst), found nothing",
        ),
        (
            ["report", "LICENSE", "--out", "{tmp}/x"],
            4,
            "LICENSE:1: not JSON: expected value at line 1 column 1 (1 rejected, none accepted)",
        ),
        (
            ["report", "{tmp}/no.parquet", "--out", "{tmp}/x"],
            4,
            "{tmp}/no.parquet: no such file; write it with jobstats load … --to {tmp}/no.parquet",
        ),
        (
            ["report", DUMP, "--out", "{tmp}/x", "--since", "last week"],
            2,
            "since must be a datetime, ISO text or an age such as '7d'; found 'last week'",
        ),
        (["query", DUMP, "selec 1"], 2, 'SQL: Parser Error: syntax error at or near "selec"'),
        (["load", DUMP], 2, 'Command "load" parameter --to requires an argument'),
        (["load", "--to", "{tmp}/x"], 2, "no SOURCE given"),
        (["reprot", DUMP], 2, 'Did you mean "report"'),
        (["load", DUMP, "--to", "LICENSE/x"], 4, "LICENSE/x: cannot be written"),
        (["load", DUMP, "--to", "{tmp}/x.csv"], 2, "name a .parquet file, or a folder for a store"),
        (["compact", "{tmp}/no"], 4, "{tmp}/no: no store is there"),
        (["history", DUMP, "--to", "{tmp}/x"], 2, "a jobs table is written to a .parquet file"),
        (["query", DUMP, "select * from nowhere"], 2, "tables: jobs, rejects, history"),
    ],
)
def test_what_goes_wrong_is_one_clear_line(run, tmp_path, arguments, code, message):
    got, out, err = run(*(argument.replace("{tmp}", str(tmp_path)) for argument in arguments))
    assert (got, out) == (code, "")
    assert err.startswith("jobstats: ")
    assert err.count("\n") == 1
    assert message.replace("{tmp}", str(tmp_path)) in err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "query",
    [
        "select sum(attempts_made) s from jobs",
        "select created_at::date d from jobs limit 1",
        "select 'nan'::double x",
        "select 1::decimal(4,1) x",
    ],
)
@pytest.mark.parametrize("form", ["csv", "json", "table"])
def test_any_type_can_be_printed(run, query, form):
    code, out, err = run("query", DUMP, query, "--format", form)
    assert (code, err) == (0, "")
    if form == "json":
        json.loads(out, parse_constant=pytest.fail)


def test_a_value_outside_the_calendar_is_one_clear_line(run):
    code, out, err = run("query", DUMP, "select timestamp 'infinity' as x")
    assert (code, out) == (2, "")
    assert "cast it to text" in err


def test_the_period_is_passed_on_and_an_early_start_is_no_trouble(run, tmp_path):
    for arguments in (["--since", "2020-01-01"], ["--until", "2026-11-23T14:12:00Z"]):
        code, out, _ = run("report", DUMP, "--out", tmp_path / "out", *arguments)
        assert code == 0
        page = Path(out.strip()).read_text()
        assert arguments[1][:16].replace("T", " ") in page[page.index("<h1>") : page.index("</h1>")]


def test_reports_are_not_put_among_the_exports_that_they_are_of(run, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(record()))
    code, _, err = run("report", tmp_path, "--out", tmp_path / "out")
    assert (code, "lies in" in err) == (2, True)
    run("load", tmp_path, "--to", tmp_path / "crawls")
    assert run("report", tmp_path / "crawls", "--out", tmp_path / "crawls", "--format", "md")[0] == 0
    assert "up to date" in run("report", tmp_path / "crawls", "--out", tmp_path / "crawls", "--format", "md")[2]


def test_other_ways_to_go_wrong(run, tmp_path):
    run("load", DUMP, "--to", tmp_path)
    assert run("report", tmp_path, DUMP, "--out", tmp_path)[::2] == (
        2, f"jobstats: {tmp_path} is a jobs table, which cannot be mixed with other sources; pass it alone\n",
    )  # fmt: skip
    assert run("load", DUMP, "--to", tmp_path / "y", "--observed-at", "2026-11-23T15:00:00")[0] == 0
    assert "2026-11-23T15:00:00.000Z" in run("query", tmp_path / "y", "select max(observed_at) from jobs")[1]
    (tmp_path / "z\x1b[31m.txt").write_text("")
    (tmp_path / "a.json").write_text(json.dumps(record()))
    _, _, err = run("load", tmp_path, "--to", tmp_path / "z")
    assert "other files skipped" in err
    assert "\x1b" not in err
    assert run("report", DUMP, "--out", tmp_path, "--since", "9999999d")[0] == 2


def test_standard_output_may_be_closed_full_or_narrow(root):
    command = f"{sys.executable} -m jobstats query {DUMP} \"select 'é' as x\""
    for redirect, code, said in (
        (">&-", 0, ""),
        ("> /dev/full", 1, "cannot write: No space left on device"),
        ("| cat", 0, ""),
    ):
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", f"{command} {redirect}"],
            cwd=root,
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONIOENCODING": "ascii"},
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_rejects_are_said(run, tmp_path):
    (tmp_path / "x.ndjson").write_text(json.dumps(record()) + "\n" + json.dumps(record(state=5)) + "\n")
    code, _, err = run("load", tmp_path / "x.ndjson", "--to", tmp_path / "x.parquet")
    assert code == 0
    assert "1 accepted, 1 rejected" in err
    assert "rejected 1: state: expected a string, found 5" in err
    assert run("query", tmp_path / "x.parquet", "select line, field from rejects")[1] == "line,field\n2,state\n"


@pytest.mark.parametrize(
    ("gate", "code"),
    [
        ([], 0),
        (["--strict"], 3),
        (["--max-reject-rate", "0.4"], 3),
        (["--max-reject-rate", "0.5"], 0),
        (["--max-reject-rate", "50"], 2),
    ],
)
def test_a_gate_that_is_not_passed_still_writes(run, tmp_path, gate, code):
    (tmp_path / "x.ndjson").write_text(json.dumps(record()) + "\n" + json.dumps(record(state=5)) + "\n")
    got, _, err = run("load", tmp_path / "x.ndjson", "--to", tmp_path / "x.parquet", *gate)
    assert got == code
    assert (tmp_path / "x.parquet").exists() == (code != 2)
    assert ("50.00 % of the records were rejected" in err) == (code == 3)


def test_a_reader_that_goes_away_is_no_crash(root):
    command = [sys.executable, "-m", "jobstats", "query", DUMP, "select * from jobs"]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0


def test_help_does_not_wait_for_heavy_imports(root):
    script = "import sys; from jobstats.cli import main; main(['--help']); print([n for n in ('altair', 'duckdb', 'jinja2', 'vl_convert') if n in sys.modules], file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"NO_COLOR": "1"},
    )
    assert "report" in done.stdout
    assert done.stderr.strip().endswith("[]")


def test_a_load_that_is_stopped_leaves_nothing(lines, tmp_path):
    command = [sys.executable, "-m", "jobstats", "load", "-", "--to", str(tmp_path / "out")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdin.write(b"\n".join(lines))
    process.stdin.flush()  # more than a pipe holds, so it is being read
    process.terminate()
    assert process.wait(timeout=60) == 143
    assert process.stderr.read() == b""
    assert not (tmp_path / "out").exists()
    process.stdin.close()
    process.stderr.close()


def test_a_stop_that_a_library_swallows_is_said_again():
    code = """
import os, signal, time
from jobstats import cli
class SlowToGo:
    def __del__(self, sleep=time.sleep):
        sleep(3)
slow = SlowToGo()
cli._STOP_AGAIN_SECONDS = 1
cli.main(["--version"])
try:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)
except BaseException:
    pass
time.sleep(60)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, timeout=50).returncode == 143


@pytest.mark.parametrize("command", [[], ["load"], ["report"]])
def test_the_version_is_ours(run, command):
    assert run(*command, "--version") == (0, f"{js.__version__}\n", "")


def test_reasons_are_counted_apart_and_say_where(run, tmp_path, lines):
    bad = [b'{"id":', b"x", b'{"id":1,', lines[0].replace(b'"attemptsMade":', b'"attemptsMade":"1","x":')]
    (tmp_path / "bad.ndjson").write_bytes(b"\n".join([*lines[:3], *bad, bad[3].replace(b'"1"', b'"2"')]))
    code, _, err = run("load", tmp_path / "bad.ndjson", "--to", tmp_path / "bad.parquet", "--max-reject-rate", 0.1)
    assert code == 3
    assert f'rejected 2: attemptsMade: expected an integer, found "1" (first: {tmp_path}/bad.ndjson:7)' in err
    assert f"rejected 1: not JSON: expected value at line 1 column 1 (first: {tmp_path}/bad.ndjson:5)" in err
    assert f"all of them in {tmp_path}/bad.rejects.parquet" in err
    assert "62.50 % of the records were rejected, more than the 10.00 % allowed" in err


def test_reasons_in_every_format(run):
    code, out, err = run("reasons", DUMP)
    assert (code, err) == (0, "122 failed runs, 154 recovered after an error, 14 to be tried again\n")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert (rows[0]["cause"], rows[0]["n"], rows[0]["n_recovered"]) == ("HTTP 429", "18", "8")
    assert sum(int(row["n"]) for row in rows) == 122
    shown = run("reasons", DUMP, "--format", "table", "--by", "schedule_type", "--since", "2026-11-23T14:12Z")[1]
    assert "schedule_type" in shown
    assert "template_id" not in shown.splitlines()[1]
    first = json.loads(run("reasons", DUMP, "--format", "json")[1].splitlines()[0])
    assert first["template"] == "Request failed with status code 429"


def test_reasons_compared_with_a_baseline_and_a_catalog(run, tmp_path):
    window = ("reasons", DUMP, "--since", "2m", "--baseline", "3m", "--format", "json")
    changes = [json.loads(line)["change"] for line in run(*window)[1].splitlines()]
    assert {"steady", "few"} <= set(changes)
    catalog = tmp_path / "reasons.parquet"
    assert run(*window, "--catalog", catalog)[0] == 0
    known = js.reasons.read_catalog(catalog)
    assert len(known.table) == len(
        js.reasons.classify(js.load(DUMP).jobs["failed_reason"].drop_nulls())["template_id"].unique()
    )
    assert run(*window, "--catalog", catalog)[0] == 0
    assert js.reasons.read_catalog(catalog).table.equals(known.table)
    assert run("reasons", DUMP, "--baseline", "3m")[0] == 2


def test_a_text_is_explained(run):
    code, out, _ = run("reasons", "--explain", "HTTP 429 from 10.0.0.7, token=hunter2x")
    assert code == 0
    assert [line.split(",")[:2] for line in out.splitlines()[1:]] == [
        ["secret", "opaque-secret"], ["protect", "status"], ["mask", "address"], ["tidy", "marks"],
        ["template", ""], ["template_id", ""], ["cause", "http-status"], ["cause_id", ""], ["category", "http-rate"],
    ]  # fmt: skip
    assert "hunter2x" not in out
    assert run("reasons", DUMP, "--explain", "x")[0] == 2
    assert run("reasons")[0] == 2


def test_unknown_templates_are_suggested_as_rules(run, tmp_path):
    records = [record(id=str(i), state="failed", failedReason=f"no 'grist' for [mill] {i}: \"dry\"") for i in range(3)]
    (tmp_path / "a.json").write_text(
        json.dumps([*records, record(id="x", state="failed", failedReason="read ECONNRESET")])
    )
    code, out, _ = run("reasons", tmp_path / "a.json", "--suggest")
    assert code == 0
    assert out.startswith("# 3 failed runs, 0 recovered, 1 connector\n[[cause]]\n")
    assert out.count("[[cause]]") == 1
    rules = tmp_path / "mine.toml"
    rules.write_text(out.replace('category = "unknown"', 'category = "storage"'))
    answer = run("reasons", tmp_path / "a.json", "--rules", rules, "--format", "json")[1]
    assert json.loads(answer.splitlines()[0])["category"] == "storage"
    assert (
        run("reasons", tmp_path / "a.json", "--rules", rules, "--suggest")[1]
        == "# a rule names the cause of every template\n"
    )
    assert "storage" in run("report", tmp_path / "a.json", "--out", tmp_path / "r", "--rules", rules)[2]
    rules.write_text('[[cause]]\nid = "x"\npattern = "("\ncause = "y"')
    code, _, err = run("reasons", tmp_path / "a.json", "--rules", rules)
    assert code == 2
    assert "cause: rule 'x': bad pattern" in err
