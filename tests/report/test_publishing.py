"""Reports night after night: made once, published whole, compared with the one before, kept for as long as asked."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

import jobstats as js

from ..factories import immediate

KILLS = int(os.environ.get("KILLS", "8"))
SLO = '[[objective]]\nname = "Runs start in time"\nkind = "start"\ntarget = 0.5\nwithin = "10s"\n'


@pytest.fixture
def run(run):
    def call(*arguments: object) -> tuple[int, str, str]:
        code, out, err = run(*arguments)
        return code, out.strip(), err

    return call


@pytest.fixture(scope="module")
def store(tmp_path_factory, root) -> Path:
    path = tmp_path_factory.mktemp("store") / "crawls"
    js.store(path).append(root / "data/dump")
    return path


def names(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir())


def held(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_same_night_is_the_same_report_and_is_made_once(run, store, tmp_path):
    asked = ("report", store, "--out", tmp_path / "a", "--format", "html,md,eml,png")
    code, out, err = run(*asked)
    folder = Path(out).parent
    assert code == 0
    assert re.fullmatch(r"2026-11-23_[0-9a-f]{8}", folder.name)
    assert Path(out).name == "report.html"
    assert "Queue latency, median" in err
    assert names(tmp_path / "a") == [".lock", folder.name, "index.html", "latest"]
    assert os.readlink(tmp_path / "a/latest") == folder.name
    assert {"report.html", "report.json", "report.md", "report.eml", "charts/latency.png"} <= set(held(folder))
    first, times = held(folder), {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    code, out, err = run(*asked)
    assert (code, Path(out).parent, err) == (0, folder, f"up to date: {folder}\n")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == times
    run(*asked, "--force")
    assert held(folder) == first
    elsewhere = Path(run(*asked[:3], tmp_path / "b", *asked[4:])[1]).parent
    assert held(elsewhere) == first
    assert (tmp_path / "b/index.html").read_bytes() == (tmp_path / "a/index.html").read_bytes()
    assert (tmp_path / "a/index.html").read_text().count(f'href="{folder.name}/report.html"') == 1


def test_whatever_is_asked_for_otherwise_is_another_report(run, store, tmp_path):
    slo = tmp_path / "slo.toml"
    slo.write_text(SLO)
    asked = ("report", store, "--out", tmp_path / "out", "--format", "md")
    more: list[tuple[object, ...]] = [(), ("--since", "3m"), ("--slo", slo), ("--title", "Mine"), ("--compare", "none")]
    folders = {run(*asked, *options)[1] for options in more}
    slo.write_text(SLO.replace("0.5", "0.6"))
    folders.add(run(*asked, "--slo", slo)[1])
    assert len(folders) == len(more) + 1
    js.store(copy := tmp_path / "copy").append("data/dump")
    js.store(copy).append([immediate("one more")])
    assert run("report", copy, *asked[2:])[1] not in folders


def test_a_report_is_compared_with_the_one_before(run, store, tmp_path):
    out = tmp_path / "out"
    asked = ("report", store, "--out", out, "--format", "md", "--until")
    folders = [Path(run(*asked, f"2026-11-23T14:1{minute}:00Z")[1]).parent for minute in (2, 3, 4)]
    reports = [json.loads((folder / "report.json").read_text()) for folder in folders]
    assert reports[0]["previous"] is None
    assert [report["previous"]["key"] for report in reports[1:]] == [folder.name[-8:] for folder in folders[:2]]
    assert os.readlink(out / "latest") == folders[2].name
    # One of an earlier time is compared with what is older, and is not the latest.
    early = Path(run(*asked, "2026-11-23T14:11:00Z")[1]).parent
    assert json.loads((early / "report.json").read_text())["previous"] is None
    assert os.readlink(out / "latest") == folders[2].name
    named = Path(run(*asked, "2026-11-23T14:15:00Z", "--compare", early / "report.json")[1]).parent
    assert json.loads((named / "report.json").read_text())["previous"]["key"] == early.name[-8:]
    code, _, err = run(*asked, "2026-11-23T14:15:00Z", "--compare", tmp_path / "no.json")
    assert (code, "not a report of jobstats" in err) == (2, True)


def test_the_oldest_go_and_nothing_else_does(run, store, tmp_path):
    out = tmp_path / "out"
    (out / "2026-11-23_notes").mkdir(parents=True)
    (out / "2020-01-01_0123abcd").mkdir()  # no report
    for minute in (1, 2, 3, 4):
        until = f"2026-11-23T14:1{minute}:00Z"
        _, _, err = run("report", store, "--out", out, "--format", "json", "--keep", 2, "--until", until)
    reports = [folder for folder in out.iterdir() if (folder / "report.json").exists() and not folder.is_symlink()]
    untils = sorted(json.loads((folder / "report.json").read_text())["period"]["until"] for folder in reports)
    assert untils == ["2026-11-23T14:13:00Z", "2026-11-23T14:14:00Z"]
    assert "removed " in err
    assert {"2026-11-23_notes", "2020-01-01_0123abcd"} < set(names(out))
    assert (out / "index.html").read_text().count('<th scope="row" class="t"><a href=') == 2
    assert run("report", store, "--out", out, "--keep", 0)[0] == 2


def test_another_process_is_not_waited_for(run, store, tmp_path):
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out/.lock"):
        code, out, err = run("report", store, "--out", tmp_path / "out")
    assert (code, out) == (75, "")
    assert err == f"jobstats: {tmp_path}/out: another process is publishing a report here\n"
    assert names(tmp_path / "out") == [".lock"]


def test_a_gate_that_is_not_passed_exits_3_with_the_report_written_each_time(run, store, tmp_path):
    asked = ("report", store, "--out", tmp_path, "--format", "md", "--fail-on", "stale,quality", "--log", "json")
    for _ in range(2):
        code, out, err = run(*asked)
        lines = [json.loads(line) for line in err.splitlines()]
        assert code == 3
        assert Path(out).exists() or Path(out).with_suffix(".md").exists()
        assert [line["message"].split(":")[1] for line in lines if line["event"] == "gate"] == [" stale"]
        assert {"level", "event", "elapsed_ms", "message"} == set(lines[0])
    assert run("report", store, "--out", tmp_path, "--format", "md", "--fail-on", "quality")[0] == 0


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--fail-on", "sol"], 2, "there is no gate 'sol'; choose from slo, quality, new-reason, stale, regression"),
        (["--fail-on", "slo"], 2, "--fail-on slo needs objectives; pass a file of them with --slo"),
        (["--format", "docx"], 2, "there is no format 'docx'; choose from html, json, md, eml, png, pdf"),
        (["--slo", "LICENSE"], 2, "objectives LICENSE: not TOML"),
        (["--since", "7d"], 4, "no run was due, started or ended in the period (2026-11-16 to 2026-11-23 UTC)"),
        (["--since", "2030-01-01"], 4, "no run was due, started or ended in the period (from 2030-01-01 UTC on)"),
    ],
)
def test_what_cannot_be_done_leaves_no_report(run, store, tmp_path, options, code, words):
    found, out, err = run("report", store, "--out", tmp_path / "out", *options)
    assert (found, out) == (code, "")
    assert words in err
    assert not (tmp_path / "out/latest").exists()
    assert set(names(tmp_path / "out") if (tmp_path / "out").exists() else []) <= {".lock"}


def test_standard_input_is_a_source(root, tmp_path):
    records = next((root / "data/dump").glob("*.gz")).read_bytes()
    command = [sys.executable, "-m", "jobstats", "report", "-", "--out", tmp_path / "out", "--format", "md"]
    found = {subprocess.run(command, input=records, capture_output=True, check=True).stdout for _ in range(2)}
    assert len(found) == 1
    assert len([name for name in names(tmp_path / "out") if "_" in name]) == 1


def test_a_killed_process_leaves_no_half_of_a_report(store, tmp_path):
    """At any moment: ``latest`` and every dated folder hold whole reports, and the next run clears away and succeeds."""
    out = tmp_path / "out"
    random.seed(7)

    def command(until: str) -> list[str]:
        asked = ["--format", "md", "--until", until, "--force"]
        return [sys.executable, "-m", "jobstats", "report", str(store), "--out", str(out), *asked]

    def whole() -> None:
        for folder in out.iterdir():
            if re.fullmatch(r"2026-11-23_[0-9a-f]{8}", folder.name) or folder.name == "latest":
                assert json.loads((folder / "report.json").read_text())["title"]
                assert (folder / "report.md").read_text().endswith("all times UTC\n")

    begun = time.monotonic()
    subprocess.run(command("2026-11-23T14:12:00Z"), check=True, capture_output=True)
    lasted = time.monotonic() - begun
    for number in range(KILLS):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command(f"2026-11-23T14:1{2 + number % 3}:00Z"), **quiet)
        # Most of the time nothing is written, so most are killed near the end.
        time.sleep(lasted * random.uniform(0.6, 1.05))
        process.send_signal(signal.SIGKILL)
        process.wait()
        whole()
    subprocess.run(command("2026-11-23T14:13:00Z"), check=True, capture_output=True)
    whole()
    assert not [name for name in names(out) if name.startswith((".new-", ".old-"))]
    assert (out / "latest/report.md").exists()


def test_a_latest_that_is_a_folder_of_somebody_is_not_taken(run, store, tmp_path):
    (tmp_path / "out/latest").mkdir(parents=True)
    (tmp_path / "out/latest/mine.txt").write_text("mine")
    code, _, err = run("report", store, "--out", tmp_path / "out", "--format", "md")
    assert (code, "cannot be written" in err) == (4, True)
    assert "latest: cannot be written" in err
    assert (tmp_path / "out/latest/mine.txt").read_text() == "mine"
    assert names(tmp_path / "out") == [".lock", "latest"]


def test_the_index_leads_to_what_there_is(run, store, tmp_path):
    run("report", store, "--out", tmp_path / "out", "--format", "md")
    page = (tmp_path / "out/index.html").read_text()
    links = re.findall(r'href="([^"#]+)"', page)
    assert links
    assert all((tmp_path / "out" / link).is_file() for link in links)


def test_what_was_stopped_before_it_was_shown_is_shown_by_the_next_run(run, store, tmp_path):
    asked = ("report", store, "--out", tmp_path / "out", "--format", "md")
    folder = Path(run(*asked)[1]).parent
    (tmp_path / "out/latest").unlink()
    (tmp_path / "out/index.html").unlink()
    assert "up to date" in run(*asked)[2]
    assert os.readlink(tmp_path / "out/latest") == folder.name
    assert (tmp_path / "out/index.html").exists()


def test_latest_is_the_one_just_asked_for_and_has_a_page_if_any_has(run, store, tmp_path):
    asked = ("report", store, "--out", tmp_path / "out")
    first = Path(run(*asked, "--title", "a")[1]).parent
    run(*asked, "--format", "md", "--title", "b")
    assert os.readlink(tmp_path / "out/latest") == first.name
    for title in "cdef":  # whichever of them has the highest key
        second = Path(run(*asked, "--title", title)[1]).parent
        assert os.readlink(tmp_path / "out/latest") == second.name
    old = Path(run(*asked, "--format", "md", "--until", "2026-11-23T14:12:00Z", "--keep", 1)[1])
    assert old.exists()
    assert os.readlink(tmp_path / "out/latest") == second.name


@pytest.mark.parametrize("change", ["naive", "deep", "newer", "empty"])
def test_a_report_that_cannot_be_read_stops_no_other(run, store, tmp_path, change):
    asked = ("report", store, "--out", tmp_path / "out", "--format", "json", "--until")
    text = Path(run(*asked, "2026-11-23T14:12:00Z")[1]).read_text()
    texts = {
        "naive": text.replace('Z"', '"'),
        "deep": "[" * 100_000,
        "newer": text.replace('"schema_version": 1', '"schema_version": 99'),
        "empty": "",
    }
    other = tmp_path / "out/2026-12-01_00000000"
    other.mkdir()
    (other / "report.json").write_text(texts[change])
    code, out, _ = run(*asked, "2026-11-23T14:13:00Z")
    assert code == 0
    assert os.readlink(tmp_path / "out/latest") == Path(out).parent.name
    assert run(*asked, "2026-11-23T14:14:00Z", "--compare", other / "report.json")[0] == 2


def test_odd_days_and_many_attempts_are_no_trouble(run, tmp_path):
    source = tmp_path / "2026-11-23T150000.000Z.json"
    source.write_text(json.dumps([immediate("1"), immediate("2", attemptsMade=10_000, state="failed")]))
    for since in ("2024-02-29", "1900-01-01", "7d"):
        code, _, err = run("report", source, "--out", tmp_path / since, "--format", "md", "--since", since)
        assert (code, "Traceback" in err) == (4 if since == "7d" else 0, False)
