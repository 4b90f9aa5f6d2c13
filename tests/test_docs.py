"""What the documents say is true: commands parse, snippets run, links lead somewhere, samples are what is printed."""

import ast
import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import types
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
import yaml

import jobstats as js
from jobstats.cli import app, main
from jobstats.report.model import SCHEMA_VERSION, Report

ROOT = Path(__file__).parents[1]
SNIPPETS = ROOT / "docs/scheduling"
SCHEMA = ROOT / "docs/report.schema.json"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NIGHT = "2026-11-24"
"""The night of the test: the sample's export is passed off as one of 05:00 on that day."""


def text_of(name: str) -> str:
    return (SNIPPETS / name).read_text()


def blocks(page: Path, *languages: str) -> list[str]:
    return [body for language, body in FENCE.findall(page.read_text()) if language in languages]


# ---- command lines ---------------------------------------------------------------------------------------------------


def commands(script: str) -> Iterator[list[str]]:
    """The arguments of every call of jobstats in a shell script, with or without prompts."""
    plain = re.sub(r"^\$ ", "", script, flags=re.MULTILINE).replace("\\\n", " ")
    for line in plain.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        call: list[str] | None = None
        for token in [*lexer, ";"]:
            if call is None:
                call = [] if re.fullmatch(r"([\w./]*/)?jobstats", token) else None
            elif re.fullmatch(r"[();<>|&]+", token):
                if call:
                    yield call
                call = None
            else:
                call.append(token)


def run_of(name: str) -> list[str]:
    """The shell scripts in a snippet."""
    if name == "github-actions.yml":
        return [step["run"] for step in yaml.safe_load(text_of(name))["jobs"]["report"]["steps"] if "run" in step]
    if name == "cronjob.yaml":
        job = next(yaml.safe_load_all(text_of(name)))["spec"]["jobTemplate"]["spec"]
        return [job["template"]["spec"]["containers"][0]["args"][0]]
    if name == "airflow_dag.py":
        return list(constants(text_of(name)).values())
    if name == "crontab":
        return [line.split(None, 5)[5] for line in entries()]
    return executed() if name == "jobstats-report.service" else []


def constants(source: str) -> dict[str, str]:
    """The texts in capitals that a module defines."""
    return {
        node.targets[0].id: node.value.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }


def entries() -> list[str]:
    """The lines of the crontab that start something."""
    return [line for line in text_of("crontab").splitlines() if line and not re.match(r"#|\w+=", line)]


def executed() -> list[str]:
    """The commands of the service, as systemd reads them."""
    lines = re.findall(r"^ExecStart(?:Pre)?=(.*)$", text_of("jobstats-report.service"), re.MULTILINE)
    return [line.replace("$$", "$").replace("%%", "%") for line in lines]


SCRIPTS = {
    **{f"{page.name} {n}": body for page in PAGES for n, body in enumerate(blocks(page, "console", "bash", "sh"), 1)},
    **{f"{path.name} {n}": body for path in sorted(SNIPPETS.iterdir()) for n, body in enumerate(run_of(path.name), 1)},
}
CALLS = [(name, call) for name, body in SCRIPTS.items() for call in commands(body)]


@pytest.mark.parametrize(("where", "call"), CALLS, ids=[f"{where}: {call[0]}" for where, call in CALLS])
def test_every_command_line_is_one_that_the_command_line_takes(where, call):
    arguments = ["<stdin>" if argument == "-" else argument for argument in call]
    command, bound, _ = app.parse_args(arguments, exit_on_error=False, print_error=False)
    assert command.__name__ == call[0]
    if call[0] == "report":
        gates = [part for value in bound.arguments.get("fail_on", ()) for part in value.split(",")]
        formats = [part for value in bound.arguments.get("format", ()) for part in value.split(",")]
        assert {*gates} <= {"slo", "quality", "new-reason", "stale", "regression"}
        assert {*formats} <= {"html", "json", "md", "eml", "png", "pdf"}


def test_no_call_is_overlooked():
    """As many as a reader counts: every jobstats that is followed by a command and not by a comment or a name."""
    word = re.compile(r"(?<![\w./-])(?:[\w./]*/)?jobstats (?=load|report|history|compact|query|reasons)")
    assert len(CALLS) == sum(len(word.findall(re.sub(r"\s#.*", "", body))) for body in SCRIPTS.values()) > 20


@pytest.mark.parametrize("where", [where for where, body in SCRIPTS.items() if "<anything>" not in body])
def test_scripts_are_of_the_shell(where):
    script = re.sub(r"^\$ ", "", SCRIPTS[where], flags=re.MULTILINE)
    script = re.sub(r"\$\{\{.*?\}\}", "expression", script)
    done = subprocess.run(["bash", "-n", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_named_in_prose_exist(page):
    known = {
        name for command in ("load", "report", "history", "compact", "query", "reasons") for name in names(command)
    }
    prose = FENCE.sub("", page.read_text())
    own = " ".join(code for code in re.findall(r"`([^`]+)`", prose) if not re.match(r"(\.venv|kubectl|jupytext)", code))
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", own)) <= known


def names(command: str) -> set[str]:
    collection = app[command].assemble_argument_collection(parse_docstring=True)
    return {name for argument in collection for name in argument.names}


# ---- links and blocks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    prose = FENCE.sub("", page.read_text())
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", prose) if not re.match(r"https?://", link)]
    for link in links:
        path, _, place = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if place:
            heads = re.findall(r"^#+ (.*)$", FENCE.sub("", target.read_text()), re.MULTILINE)
            assert place in {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}, link


def test_every_snippet_is_in_the_document_as_it_is():
    page = (ROOT / "docs/scheduling.md").read_text()
    shown = dict(
        re.findall(r"^\[`[^`]+`\]\(scheduling/([^)]+)\):\n\n```\w+\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    )
    assert shown == {path.name: path.read_text() for path in SNIPPETS.iterdir()}


def test_no_registry_is_named():
    for path in [*PAGES, *SNIPPETS.iterdir()]:
        assert not re.search(r"pypi\.|ghcr\.|docker\.io|quay\.", path.read_text()), path.name


def test_the_sample_in_the_readme_is_what_is_printed(published):
    sample = next(body for body in blocks(ROOT / "README.md", "text"))
    lines = sample.splitlines()
    assert lines[-1].strip() == "…"
    assert published.stderr.splitlines()[: len(lines) - 1] == lines[:-1]


# ---- snippets, run ---------------------------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path, root):
    """A machine with jobstats, an export of last night, objectives, and a clock that says it is that night."""
    exports = tmp_path / "lib/exports"
    exports.mkdir(parents=True)
    shutil.copyfile(next((root / "data/dump").glob("*.gz")), exports / f"{NIGHT}T050000.000Z_all.ndjson.gz")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/slo.toml").write_text(text_of("slo.toml"))
    tools = tmp_path / "bin"
    tools.mkdir()
    tool(tools / "date", f'case "$*" in "-u -Idate") echo {NIGHT};; *) exit 9;; esac')
    tool(tools / "jobstats", f'exec {shlex.quote(sys.executable)} -m jobstats "$@"')
    return tmp_path


def tool(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def placed(script: str, machine: Path) -> str:
    """A script with the paths of a machine for those it names."""
    for path, own in (("/opt/jobstats/bin", "bin"), ("/var/lib/jobstats", "lib"), ("/etc/jobstats", "etc")):
        script = script.replace(path, str(machine / own))
    return script


def sh(script: str, machine: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run as a scheduler does, with little in the environment."""
    given = {"PATH": f"{machine}/bin:/usr/bin:/bin", "HOME": str(machine), **more}
    return subprocess.run(["sh", "-c", script], capture_output=True, text=True, env=given, cwd=machine, check=False)


def reports(machine: Path) -> list[Path]:
    return sorted(path.resolve() for path in (machine / "lib/reports").glob("latest/report.html"))


def test_crontab_lines_are_lines_of_a_crontab():
    assert "CRON_TZ=UTC" in text_of("crontab").splitlines()
    assert len(entries()) == 2
    for line in entries():
        *fields, command = line.split(None, 5)
        assert_cron(" ".join(fields))
        assert not re.search(r"(?<!\\)%", command)
        words = list(shlex.shlex(command, posix=True, punctuation_chars=True))
        assert all(word.startswith("/") for word in words if "/" in word)
        assert "jobstats" not in words, "cron does not find it"


def assert_cron(text: str) -> None:
    """Five fields, each a number, a star, a range, a step or a list of them, within what it may be."""
    fields = text.split()
    assert len(fields) == 5
    for field, (least, most) in zip(fields, ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7)), strict=True):
        for part in field.split(","):
            found = re.fullmatch(r"(?:\*|(\d+)(?:-(\d+))?)(?:/([1-9]\d*))?", part)
            assert found, part
            assert all(least <= int(number) <= most for number in found.groups()[:2] if number)


def test_crontab_runs(machine):
    watch, night = (placed(line.split(None, 5)[5], machine) for line in entries())
    done = sh(night, machine)
    assert done.returncode in {0, 3}, done.stderr
    [page] = reports(machine)
    assert done.stdout.splitlines()[-1] == str(page)
    assert page.parent.name.startswith("2026-11-23_"), "seven whole days end before the night of the export"
    again = sh(night, machine)
    assert (again.returncode, again.stdout) == (done.returncode, done.stdout)
    assert "up to date" in again.stderr
    assert sh(watch, machine).stdout == ""
    os.utime(next((machine / "lib/exports").iterdir()), (0, 0))
    assert sh(watch, machine).stdout == "no export came in the last 24 hours\n"


def test_units_are_units(machine):
    for name, sections in (
        ("jobstats-report.service", {"Unit", "Service"}),
        ("jobstats-report.timer", {"Unit", "Timer", "Install"}),
    ):
        parser = configparser.RawConfigParser(strict=False)
        parser.optionxform = str
        parser.read_string(text_of(name))
        assert {*parser.sections()} == sections
        (machine / name).write_text(placed(text_of(name), machine))
    service = configparser.RawConfigParser(strict=False)
    service.read_string(text_of("jobstats-report.service"))
    assert service["Service"]["RestartPreventExitStatus"].split() == ["2", "3", "4"]
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("no systemd here")
    units = [str(machine / f"jobstats-report.{kind}") for kind in ("service", "timer")]
    done = subprocess.run([verify, "verify", "--man=no", *units], capture_output=True, text=True, check=False)
    about = [line for line in done.stderr.splitlines() if "jobstats-report" in line]
    assert (done.returncode, about) == (0, [])
    when = re.search(r"^OnCalendar=(.*)$", text_of("jobstats-report.timer"), re.MULTILINE)[1]
    assert subprocess.run([verify, "calendar", when], capture_output=True, check=False).returncode == 0


def test_service_runs(machine):
    codes = []
    for line in executed():
        command = shlex.split(placed(line, machine))
        assert command[0].startswith("/"), "systemd asks for absolute paths"
        codes.append(sh(shlex.join(command), machine).returncode)
    assert codes[:-1] == [0, 0]
    assert codes[-1] in {0, 3}
    assert len(reports(machine)) == 1
    shutil.rmtree(machine / "lib/exports")
    assert sh(shlex.join(shlex.split(placed(executed()[0], machine))), machine).returncode == 1


def test_github_workflow_is_one(machine):
    workflow = yaml.safe_load(text_of("github-actions.yml"))
    assert {*workflow} <= {"name", True, "permissions", "concurrency", "jobs"}, "on is read as true by YAML 1.1"
    for entry in workflow[True]["schedule"]:
        assert_cron(entry["cron"])
    job = workflow["jobs"]["report"]
    assert job["runs-on"]
    ids = {step.get("id") for step in job["steps"]}
    for step in job["steps"]:
        assert ("uses" in step) != ("run" in step)
        assert {*step} <= {"name", "id", "uses", "with", "run", "if", "env"}
        assert "uses" not in step or re.fullmatch(r"actions/[\w/-]+@v\d+", step["uses"])
        assert {*re.findall(r"steps\.(\w+)\.", str(step))} <= ids
    upload = next(step for step in job["steps"] if step.get("uses", "").startswith("actions/upload-artifact"))
    assert "!cancelled()" in upload["if"], "a red run keeps its report"
    assert upload["with"]["path"] == "${{ steps.report.outputs.folder }}"


@pytest.mark.parametrize("source", ["sample", "nothing"])
def test_github_workflow_runs(machine, root, source):
    (machine / "data").symlink_to(root / "data")
    (machine / "docs").symlink_to(root / "docs")
    files = {name: str(machine / name.lower()) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    _, fetch, load, report = run_of("github-actions.yml")
    if source == "sample":
        for script in (fetch, load):
            assert sh(f"set -e\n{script}", machine, **files).returncode == 0
    done = sh(f"set -e\n{report}", machine, **files)
    if source == "nothing":
        assert (done.returncode, (machine / "github_output").exists()) == (4, False)
        return
    assert done.returncode in {0, 3}, done.stderr
    folder = (machine / "github_output").read_text().removeprefix("folder=").strip()
    assert {path.name for path in (machine / folder).iterdir()} == {"report.html", "report.md", "report.json"}
    assert (machine / "github_step_summary").read_text().startswith("# Job queue report")


@pytest.fixture
def airflow(monkeypatch):
    """As much of Airflow as a DAG needs to be read, and its tasks called."""
    found: dict[str, object] = {"tasks": {}}

    class Task:
        def __init__(self, function):
            self.function = function
            found["tasks"][function.__name__] = function

        def __call__(self, *arguments):
            found.setdefault("asked", []).append((self.function.__name__, arguments))
            return self

        def __rshift__(self, other):
            found["order"] = (self.function.__name__, other.function.__name__)
            return other

    def dag(**options):
        found["options"] = options
        return lambda function: function

    class AirflowFailException(Exception):
        pass

    class CronDataIntervalTimetable:
        def __init__(self, cron, timezone):
            assert_cron(cron)
            assert timezone == "UTC"

    modules = {
        "airflow": {},
        "airflow.exceptions": {"AirflowFailException": AirflowFailException},
        "airflow.sdk": {"dag": dag, "task": Task},
        "airflow.timetables": {},
        "airflow.timetables.interval": {"CronDataIntervalTimetable": CronDataIntervalTimetable},
    }
    for name, names_in in modules.items():
        module = types.ModuleType(name)
        vars(module).update(names_in)
        monkeypatch.setitem(sys.modules, name, module)
    found["fail"] = AirflowFailException
    return found


def test_airflow_dag_runs(machine, airflow, monkeypatch):
    source = placed(text_of("airflow_dag.py"), machine)
    exec(compile(ast.parse(source), "airflow_dag.py", "exec"), {"__name__": "dag"})  # noqa: S102
    assert airflow["order"] == ("load", "report")
    assert [name for name, _ in airflow["asked"]] == ["load", "report"]
    assert airflow["asked"][1][1] == ("{{ data_interval_start | ds }}", "{{ data_interval_end | ds }}")
    assert airflow["options"]["max_active_runs"] == 1
    tasks = airflow["tasks"]
    with pytest.raises(airflow["fail"], match="exit 4"):
        tasks["load"]("2026-11-25")
    tasks["load"](NIGHT)
    with pytest.raises(airflow["fail"], match="exit 3"):
        tasks["report"]("2026-11-23", NIGHT)
    assert [page.parent.name[:10] for page in reports(machine)] == ["2026-11-23"]
    for code, error in ((2, airflow["fail"]), (1, RuntimeError), (75, RuntimeError)):
        tool(machine / "bin/jobstats", f"exit {code}")
        with pytest.raises(error, match=f"exit {code}"):
            tasks["report"]("2026-11-23", NIGHT)


def test_kubernetes_objects_are_ones():
    cron, claim = yaml.safe_load_all(text_of("cronjob.yaml"))
    assert (cron["apiVersion"], cron["kind"], claim["kind"]) == ("batch/v1", "CronJob", "PersistentVolumeClaim")
    spec = cron["spec"]
    assert_cron(spec["schedule"])
    assert (spec["timeZone"], spec["concurrencyPolicy"]) == ("Etc/UTC", "Forbid")
    job = spec["jobTemplate"]["spec"]
    pod = job["template"]["spec"]
    assert pod["restartPolicy"] == "Never", "podFailurePolicy asks for it"
    [container] = pod["containers"]
    [rule] = job["podFailurePolicy"]["rules"]
    codes = {"containerName": container["name"], "operator": "In", "values": [2, 3, 4]}
    assert rule == {"action": "FailJob", "onExitCodes": codes}
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["data"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert claim["spec"]["resources"]["requests"]["storage"]
    assert re.fullmatch(r"[a-z0-9-]+:[\w.]+", container["image"])


def test_kubernetes_container_runs(machine):
    [script] = run_of("cronjob.yaml")
    done = sh(f"set -e\n{placed(script, machine)}", machine)
    assert done.returncode in {0, 3}, done.stderr
    assert len(reports(machine)) == 1
    assert all(
        {"level", "event", "elapsed_ms", "message"} == {*json.loads(line)} for line in done.stderr.splitlines()[2:]
    )
    shutil.rmtree(machine / "lib/exports")
    assert sh(f"set -e\n{placed(script, machine)}", machine).returncode == 4


def test_objectives_are_read():
    found = js.read_objectives(SNIPPETS / "slo.toml")
    assert [objective.kind for objective in found] == ["start", "success", "fresh"]
    for page in PAGES:
        for body in blocks(page, "toml"):
            tomllib.loads(body)


def test_the_mail_script_keeps_the_exit_code(machine, root):
    [script] = blocks(ROOT / "docs/scheduling.md", "bash")
    tool(machine / "bin/sendmail", 'echo "$1" >> sent; grep -m1 ^Subject: >> sent')
    assert sh("jobstats load lib/exports --to out/crawls", machine).returncode == 0
    assert sh(script, machine).returncode == 3
    assert (machine / "sent").read_text().startswith("you@example.org\nSubject: [Look here] Job queue report")
    shutil.rmtree(machine / "out/crawls")
    assert sh(script, machine).returncode == 4
    assert (machine / "sent").read_text().count("Subject:") == 1


# ---- the model -------------------------------------------------------------------------------------------------------

REGENERATE = (
    "import json; from jobstats.report.model import Report; "
    "print(json.dumps(Report.model_json_schema(), indent=1, sort_keys=True))"
)


@pytest.fixture(scope="session")
def published(tmp_path_factory) -> subprocess.CompletedProcess[str]:
    """The README's report of the sample; its arguments end with the folder."""
    folder = tmp_path_factory.mktemp("published")
    command = [sys.executable, "-m", "jobstats", "report", "data/dump", "--format", "html,json", "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert (folder / "latest/report.html").stat().st_size > 0
    return done


def test_schema_is_up_to_date():
    written = json.dumps(Report.model_json_schema(), indent=1, sort_keys=True) + "\n"
    how = f"the model has changed; .venv/bin/python -c {shlex.quote(REGENERATE)} > docs/report.schema.json"
    assert SCHEMA.read_text() == written, how
    assert (
        subprocess.run([sys.executable, "-c", REGENERATE], capture_output=True, text=True, check=True).stdout == written
    )


def test_a_report_fits_the_schema(published):
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    report = json.loads((Path(published.args[-1]) / "latest/report.json").read_text())
    assert list(validator.iter_errors(report)) == []
    assert report["schema_version"] == SCHEMA_VERSION
    assert f"`schema_version` is {SCHEMA_VERSION}." in (ROOT / "docs/reports.md").read_text()
    assert list(validator.iter_errors({**report, "verdict": {"status": "fine", "headline": ""}}))


def test_python_in_the_page_on_reports_runs(published, tmp_path, monkeypatch):
    write, read = blocks(ROOT / "docs/reports.md", "python")
    command = shlex.split(blocks(ROOT / "docs/reports.md", "console")[0].removeprefix("$ "))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(SNIPPETS, "docs/scheduling")
    exports = Path("exports")
    exports.mkdir()
    shutil.copyfile(next((ROOT / "data/dump").glob("*.gz")), exports / f"{NIGHT}T050000.000Z.ndjson.gz")
    assert main(["load", "exports", "--to", "out/crawls"]) == 0
    assert command[0] == "jobstats"
    assert main(command[1:]) == 0
    assert Path("out/latest/report.html").exists()
    exec(write, {})  # noqa: S102
    assert Path("out/mine/report.html").exists()
    Path("out/latest").unlink()
    os.symlink(Path(published.args[-1]) / "latest", "out/latest")
    namespace: dict[str, object] = {}
    exec(read, namespace)  # noqa: S102
    assert round(namespace["figures"]["failure_rate"], 3) == 0.064
