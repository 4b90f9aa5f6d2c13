"""What each peer makes of one odd record between two good ones, told by comparing with the text.

``right``: kept with the values of the text, or refused with its line. ``fails``: nothing is read at all. ``dropped``:
records are gone without a word. ``nulled``: a value of the text has become null. ``corrupted``: it has become another.
``refuses good``: what is right is refused.
``kept unflagged``: what breaks the contract, or means two things, is kept as if nothing were wrong.
"""

import json
import math
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from _measure import measured, script
from _peers import DUCKDB_READ, IGNORE_ERRORS, POLARS_READ

_TAIL = """
import contextlib, json
def value(found):
    if isinstance(found, str) and not globals().get('keeps_nested'):
        with contextlib.suppress(ValueError):
            if isinstance(nested := json.loads(found), (dict, int, float, str)):
                return nested
        return found
    return None if found != found else found.item() if hasattr(found, 'item') else found
def compare(row):
    nested = ('progress', 'scheduleConfig')
    names = ('id', 'name', 'state', 'attemptsMade', 'delay', 'timestamp', 'failedReason', 'connector', 'priority')
    plain = {name: row.get(name) for name in names}
    plain = {name: None if found != found else found for name, found in plain.items()}
    return plain | {name: value(row.get(name)) for name in nested}
for source in sys.argv[1:]:
    try:
        rows, lines = read(source)
        found = {'rows': [compare(row) for row in rows], 'lines': lines}
    except BaseException as error:
        found = {'error': f'{type(error).__name__}: {error}'}
    print(json.dumps(found, default=lambda o: o.item() if hasattr(o, 'item') else str(o)))
"""
_JOBSTATS = """
import json, jobstats as js
def read(source):
    jobs, rejects = js.load(source)
    names = {'job_id': 'id', 'attempts_made': 'attemptsMade', 'delay_ms': 'delay', 'failed_reason': 'failedReason',
        'progress_json': 'progress', 'schedule_json': 'scheduleConfig'}
    rows = jobs.rename(names).to_dicts()
    for row in rows:
        row['timestamp'] = round(row['created_at'].timestamp() * 1000)
        row |= json.loads(row['extra_json'] or '{}')
    return rows, rejects['line'].to_list()
"""
_DUCKDB = """
def read(source):
    found = duckdb.sql(query(source, %r, 'auto'))
    return [dict(zip(found.columns, row)) for row in found.fetchall()], []
"""
_POLARS = """
def read(source):
    frame = pl.scan_ndjson(source, schema=schema%s).collect()
    return [row | {k: v for k, v in (row['data'] or {}).items() if k != 'timestamp'} for row in frame.to_dicts()], []
"""
_PANDAS = """
keeps_nested = True
import json, pandas as pd
def nested(row):
    out = {}
    for name, found in row.items():
        if isinstance(found, (list, dict)) or not pd.isna(found):
            *outer, last = name.removeprefix('data.').split('.')
            place = out
            for step in outer:
                place = place.setdefault(step, {})
            place.setdefault(last, found)
    return out
def read(source):
    %s
    return [nested(row) for row in frame.to_dict('records')], []
"""
_NORMALIZED = "frame = pd.json_normalize([json.loads(line) for line in open(source, encoding='utf-8')])"
_READ_JSON = """frame = pd.read_json(source, lines=True, convert_dates=False)
    data = pd.json_normalize(list(frame['data'])).drop(columns='timestamp')
    frame = pd.concat([frame.drop(columns='data'), data], axis=1)"""
_PYDANTIC = """
keeps_nested = True
import json
from jobstats.contract import JobStatus
def read(source):
    rows, lines = [], []
    for number, line in enumerate(open(source, 'rb'), 1):
        try:
            JobStatus.model_validate_json(line)
            row = json.loads(line)
            rows.append(row | {k: v for k, v in row['data'].items() if k != 'timestamp'})
        except ValueError:
            lines.append(number)
    return rows, lines
"""
PEERS = {
    "jobstats": _JOBSTATS,
    "DuckDB": DUCKDB_READ + _DUCKDB % "",
    "DuckDB, ignore_errors": DUCKDB_READ + _DUCKDB % IGNORE_ERRORS,
    "Polars": POLARS_READ + _POLARS % "",
    "Polars, ignore_errors": POLARS_READ + _POLARS % ", ignore_errors=True",
    "pandas json_normalize": _PANDAS % _NORMALIZED,
    "pandas read_json": _PANDAS % _READ_JSON,
    "Pydantic, line by line": _PYDANTIC,
}

_FLAT = {"scheduleType": "custom", "isEnabled": True, "timezone": "UTC", "cronExpression": "*/5 * * * *"}
_NESTED = {"scheduleType": "interval", "isEnabled": True, "scheduleConfig": {"intervalMinutes": 5, "timezone": "UTC"}}


class Situation(NamedTuple):
    """A file, the values a reader should find in it by id, and the line to refuse, with the field to blame.

    ``may_keep``: to keep the value is as right as to refuse it. ``or_else``: the other value the text may mean.
    """

    text: bytes
    good: dict[str, dict[str, Any]]
    odd_line: int | None = None
    field: str | None = None
    may_keep: bool = False
    or_else: object = None


def _record(number: int, *, schedule: dict[str, Any] | None = None, **changed: Any) -> dict[str, Any]:
    """A whole record; ``…`` leaves a field out."""
    data = {"connector": "Drive", "connectorId": "c7", "orgId": "o", "userId": "u"}
    data |= {"timestamp": "2026-11-23T14:10:06.921Z", "scheduleConfig": schedule or _FLAT}
    times = {"timestamp": 1_795_443_252_238 + number, "attemptsMade": 3, "processedOn": 1_795_443_306_423}
    end = {"finishedOn": 1_795_443_307_000, "failedReason": "Access denied", "state": "failed"}
    record = {"id": f"job-{number}", "name": "crawl-drive-c7", "data": data, "progress": 20, "delay": 0, **times, **end}
    return {name: value for name, value in (record | changed).items() if value is not ...}


def _seen(record: dict[str, Any]) -> dict[str, Any]:
    """The values of a record that are compared."""
    names = ("id", "name", "state", "attemptsMade", "delay", "timestamp", "failedReason", "priority", "progress")
    inner = {name: record["data"].get(name) for name in ("connector", "scheduleConfig")}
    return {name: record.get(name) for name in names} | inner


def _all_good(*records: dict[str, Any], before: str = "", between: str = "\n", after: str = "\n") -> Situation:
    text = before + between.join(json.dumps(record, ensure_ascii=False) for record in records) + after
    return Situation(text.encode(), {record["id"]: _seen(record) for record in records})


def _between(odd: dict[str, Any], field: str, was: str = "", becomes: str = "", **more: Any) -> Situation:
    """One odd record between two good ones, its text changed where JSON cannot be written from Python values."""
    one, other = _record(1), _record(3)
    text = json.dumps(odd)
    lines = [json.dumps(one), text.replace(was, becomes, 1) if was else text, json.dumps(other)]
    good = {record["id"]: _seen(record) for record in (one, other)} | {odd["id"]: _seen(odd)}
    return Situation("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"), good, 2, field, **more)


def situations() -> dict[str, Situation]:
    """Everything that real exports, or damaged ones, are known to hold."""
    three = [_record(number) for number in (1, 2, 3)]
    attempts, reason = '"attemptsMade": 3', '"failedReason": "Access denied"'
    progress = {"percentage": 20, "current": 2, "total": 10}
    cut = _between(_record(2), "id")
    lines = cut.text.splitlines(keepends=True)
    return {
        "progress: number, object and text": _all_good(
            _record(1), _record(2, progress=progress), _record(3, progress="half done")
        ),
        'progress: text that looks a number, "50"': _all_good(_record(1), _record(2, progress="50"), _record(3)),
        "both shapes of schedules": _all_good(_record(1), _record(2, schedule=_NESTED), _record(3)),
        "schedule of unknown type": _all_good(
            _record(1), _record(2, schedule={"scheduleType": "lunar", "phase": "full"}), _record(3)
        ),
        "key outside the contract": _all_good(_record(1), _record(2, priority=7), _record(3)),
        "required field missing": _between(_record(2, attemptsMade=...), "attemptsMade"),
        'integer as text, "5"': _between(_record(2, attemptsMade="5"), "attemptsMade"),
        "5.0 in an integer field": _between(_record(2, attemptsMade=5.0), "attemptsMade", may_keep=True),
        "5.7 in an integer field": _between(_record(2, attemptsMade=5.7), "attemptsMade"),
        "integer beyond 64 bit": _between(_record(2, attemptsMade=2**70), "attemptsMade"),
        "NaN": _between(_record(2, delay=float("nan")), "delay"),
        "last line cut off": Situation(lines[0] + lines[2] + lines[1][:200], cut.good, 3, "id"),
        "invalid UTF-8 in a text": _between(
            _record(2, failedReason="Access d\udcffnied"), "failedReason", "\\udcff", "\udcff"
        ),
        "lone surrogate in a text": _between(_record(2, failedReason="Access d\ud800nied"), "failedReason"),
        "one key twice": _between(
            _record(2), "attemptsMade", attempts, f"{attempts}, {attempts.replace('3', '2')}", or_else=2
        ),
        "text beyond ASCII, escapes": _all_good(
            _record(1), _record(2, failedReason='Büro „Ä“ 🚀\r\n\t"quoted" \\ 共有'), _record(3)
        ),
        "number as text in a text": _between(_record(2), "failedReason", reason, '"failedReason": "404"')._replace(
            good=cut.good | {"job-2": _seen(_record(2, failedReason="404"))}, odd_line=None
        ),
        "blank lines": _all_good(*three, between="\n\n  \n"),
        "byte order mark": _all_good(*three, before="\ufeff"),
        "CRLF line ends": _all_good(*three, between="\r\n", after="\r\n"),
        "API envelope": _all_good(
            *three, before='{"success": true, "message": "ok", "data": [', between=", ", after="]}"
        ),
        "JSON array, one line": _all_good(*three, before="[", between=", ", after="]"),
        "JSON array, many lines": _all_good(*three, before="[\n  ", between=",\n  ", after="\n]\n"),
    }


def verdict(situation: Situation, found: dict[str, Any]) -> str:
    """One cell of the table."""
    if "error" in found:
        return "fails"
    rows = {row["id"]: row for row in found["rows"]}
    odd = "job-2" if situation.odd_line else None
    for key, truth in situation.good.items():
        if key != odd and (wrong := _wrong(rows.get(key), truth, found)):
            return wrong
    if odd:
        return _of_odd(situation, rows.get(odd), situation.good[odd], found)
    return "right" if not found["lines"] and len(found["rows"]) == len(situation.good) else "refuses good"


def _wrong(row: dict[str, Any] | None, truth: dict[str, Any], found: dict[str, Any]) -> str | None:
    """What is wrong with a row that should be as in the text."""
    if row is None:
        return _absent(found, None)
    name = next((name for name, value in truth.items() if not _same(row[name], value)), None)
    if name is None:
        return None
    return "key dropped" if name == "priority" else _other(name, row[name])


def _of_odd(situation: Situation, row: dict[str, Any] | None, truth: dict[str, Any], found: dict[str, Any]) -> str:
    """What has become of the record that breaks the contract."""
    field = situation.field
    if row is None or field is None:
        return _absent(found, situation.odd_line)
    if _same(row[field], truth[field]) or row[field] == situation.or_else is not None:
        return "right" if situation.may_keep else "kept unflagged"
    return _other(field, row[field])


def _absent(found: dict[str, Any], line: int | None) -> str:
    if line and found["lines"] == [line]:
        return "right"
    if found["lines"]:
        return "refuses good"
    return "nulled" if any(row["id"] is None for row in found["rows"]) else "dropped"


def _other(name: str, value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=True)
    return f"nulled: {name}" if value is None else f"corrupted: {shown if len(shown) < 30 else name}"


def _same(value: Any, truth: Any) -> bool:
    """Equal, and a text where the text has a text; whether a number is written 5 or 5.0 is no difference."""
    if isinstance(truth, float) and math.isnan(truth):
        return isinstance(value, float) and math.isnan(value)
    return value == truth and isinstance(value, str) == isinstance(truth, str)


def honesty() -> str:
    """The table; each column is one process that reads every file."""
    cases = situations()
    peers = {name: code for name, code in PEERS.items() if find_spec(name.split()[0].strip(",").lower())}
    cells: dict[str, list[str]] = {name: [] for name in cases}
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number:02}.ndjson" for number in range(len(cases))]
        for path, situation in zip(paths, cases.values(), strict=True):
            path.write_bytes(situation.text)
        for code in peers.values():
            run = measured(script(code + _TAIL, *paths))
            if run.failure:
                raise RuntimeError(run.failure)
            answers = map(json.loads, run.printed.splitlines())
            for (name, situation), answer in zip(cases.items(), answers, strict=True):
                cells[name].append(verdict(situation, answer))
    lines = ["| " + " | ".join(["", *peers]) + " |", "|---" * (len(peers) + 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join([name, *row]) + " |" for name, row in cells.items()])


if __name__ == "__main__":
    print(honesty())
