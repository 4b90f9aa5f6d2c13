"""JobStatus records as a busy server exports them, the same for the same seed.

2,400 schedules of six organisations fire in the order of their times into one queue, first in, first out. Kinds of
connectors, schedules in both shapes and failure texts are those of the bundled dump, which a real queue wrote; ids,
times and outcomes are drawn. A run is created when the one before it is picked up, so creation times never repeat.
"""

import gzip
import heapq
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from _measure import ROOT

SCHEDULES = 2_400
BAD_KINDS = ("string in a number field", "missing field", "truncated line", "NaN", "fraction in an integer field")
_BEGUN_MS = 1_795_443_600_000
_MINUTE_MS = 60_000
_ORGS = 6
_NOT_ASCII = ("Büro-Ablage", "共有ドライブ", "Документы", "Équipe 🚀")
_TEXTS = (
    "Zugriff verweigert: Ordner „Verträge“ gehört einem anderen Konto",
    'Unexpected end of JSON input at "cursor":\n\tat parse (C:\\app\\sync.js:41:7)\n\tat async run (C:\\app\\run.js:9)',
    "レート制限を超えました\r\nretry-after: 30",
)
LAYOUTS = {
    "ndjson": ("", "\n", "\n"),
    "array": ("[", ",", "]"),
    "envelope": ('{"success":true,"message":"Job statuses retrieved successfully","data":[', ",", "]}"),
}
"""How records become a file: what comes before, between and after them."""


def generate(
    path: Path,
    records: int,
    *,
    spacing: tuple[str, str] = (",", ":"),
    shuffled: bool = False,
    bad: float = 0.0,
    layout: str = "ndjson",
) -> int:
    """Write records to a file and return its size.

    Args:
        path: The file.
        records: How many, bad ones included.
        spacing: What follows a value and a key, as ``separators`` of ``json.dumps``.
        shuffled: Whether each record has an order of keys of its own.
        bad: Share of records that break the contract, spread evenly, one kind after the other.
        layout: One of ``LAYOUTS``.
    """
    before, between, after = LAYOUTS[layout]
    texts = lines(records, spacing=spacing, shuffled=shuffled, bad=bad)
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(before + next(texts))
        while batch := list(islice(texts, 1_000)):
            file.write(between + between.join(batch))
        file.write(after)
    return path.stat().st_size


def lines(
    records: int, *, spacing: tuple[str, str] = (",", ":"), shuffled: bool = False, bad: float = 0.0
) -> Iterator[str]:
    """The records as JSON texts."""
    random = Random(20261123)
    comma, colon = spacing
    templates = [json.loads(line) for line in _dump().splitlines()]
    failures = sorted({record["failedReason"] for record in templates if "failedReason" in record}) + [*_TEXTS] * 4
    failures = [json.dumps(text, ensure_ascii=False) for text in failures]
    schedules = [_schedule(random, templates, spacing, shuffled) for _ in range(SCHEDULES)]
    # Fire time, number of the schedule, number of the run, when the run was created.
    queue = [(_BEGUN_MS + random.randrange(10 * _MINUTE_MS), n, 0, _BEGUN_MS - n) for n in range(SCHEDULES)]
    heapq.heapify(queue)
    clock, every, draw = _BEGUN_MS, round(1 / bad) if bad else 0, random.random
    for number in range(records):
        due, n, run, created = queue[0]
        name, key, data, period = schedules[n]
        clock = start = max(clock + 1, due + int(20 + 400 * draw() ** 4))
        heapq.heapreplace(queue, (due + period, n, run + 1, start))
        if key:
            job_id = f"repeat:{key}:{due}"
        else:
            job_id = f"{name}-{run}"
            data = data.replace("SCHEDULED", datetime.fromtimestamp(due / 1000, UTC).isoformat()[:19] + ".000Z")
        fate = draw()
        attempts = 1 if fate < 0.8 else 3 if fate < 0.9 else 2
        processed = start + (attempts - 1) * 2_000
        percent = 100 if fate < 0.88 else 20 * int(5 * draw())
        progress = str(percent)
        if n % 3 == 0:
            total = 20 + int(980 * draw())
            numbers = (("percentage", percent), ("current", total * percent // 100), ("total", total))
            progress = "{" + comma.join(f'"{name}"{colon}{value}' for name, value in numbers) + "}"
        fields = [
            ("id", f'"{job_id}"'),
            ("name", f'"{name}"'),
            ("data", data),
            ("progress", progress),
            ("delay", "0"),
            ("timestamp", str(created)),
        ]
        if fate < 0.96:  # ended: 88 in 100 completed, 8 failed
            fields += [
                ("attemptsMade", str(attempts)),
                ("finishedOn", str(processed + 80 + int(3_000 * draw()))),
                ("processedOn", str(processed)),
            ]
            if attempts > 1 or fate >= 0.88:
                fields.append(("failedReason", _named(failures[int(len(failures) * draw())], number)))
            fields.append(("state", '"completed"' if fate < 0.88 else '"failed"'))
        elif fate < 0.98:
            fields += [("attemptsMade", "0"), ("processedOn", str(start)), ("state", '"active"')]
        else:
            fields[4:5] = [("delay", str(max(0, due - created)))]
            fields += [("attemptsMade", "0"), ("state", '"delayed"')]
        if shuffled:
            random.shuffle(fields)
        kind = number // every % len(BAD_KINDS) if every and number % every == every - 1 else -1
        yield _text(fields, comma, colon) if kind < 0 else _spoilt(fields, comma, colon, kind)


def _text(fields: list[tuple[str, str]], comma: str, colon: str) -> str:
    return "{" + comma.join([f'"{name}"{colon}{value}' for name, value in fields]) + "}"


def _spoilt(fields: list[tuple[str, str]], comma: str, colon: str, kind: int) -> str:
    values = dict(fields)
    if kind == 0:
        values["attemptsMade"] = f'"{values["attemptsMade"]}"'
    elif kind == 1:
        del values["state"]
    elif kind == 3:
        values["delay"] = "NaN"
    elif kind == 4:
        values["attemptsMade"] += ".7"
    text = _text(list(values.items()), comma, colon)
    return text[: len(text) * 2 // 3] if kind == 2 else text


def _schedule(
    random: Random, templates: list[dict[str, Any]], spacing: tuple[str, str], shuffled: bool
) -> tuple[str, str, str, int]:
    """Name, key (none for one-time jobs), the text of ``data``, and milliseconds between runs."""
    data = dict(random.choice(templates)["data"])
    data["connectorId"] = f"{random.getrandbits(128):032x}"
    data["orgId"] = f"69de15251f3f3480bf27ef{random.randrange(_ORGS):02x}"
    data["userId"] = f"{random.getrandbits(96):024x}"
    if random.random() < 0.03:
        data["connector"] = random.choice(_NOT_ASCII)
    slug = data["connector"].lower().replace(" ", "-")
    config, period = dict(data["scheduleConfig"]), random.choice((5, 10, 10, 15, 60)) * _MINUTE_MS
    data["scheduleConfig"] = config
    kind, nested = config["scheduleType"], config.get("scheduleConfig")
    if kind == "once":
        config["scheduleConfig"] = nested | {"scheduledTime": "SCHEDULED"}
    elif kind == "interval":
        config["scheduleConfig"] = nested | {"intervalMinutes": period // _MINUTE_MS}
    elif kind == "custom":
        config["cronExpression"] = f"*/{period // _MINUTE_MS} * * * *" if period < 60 * _MINUTE_MS else "0 * * * *"
    else:
        period = (60 if kind == "hourly" else 1_440) * _MINUTE_MS
    if shuffled:
        data = dict(random.sample(list(data.items()), len(data)))
    key = "" if kind == "once" else f"{random.getrandbits(128):032x}"
    text = json.dumps(data, separators=spacing, ensure_ascii=False)
    return f"crawl-{slug}-{data['connectorId']}", key, text, period


def _named(text: str, number: int) -> str:
    """Texts that name a file or an object name another one each time, as real ones do."""
    return f"{text[:-1]} (object {number:x})" + '"' if "not found" in text or "no such" in text else text


def _dump() -> bytes:
    return gzip.decompress(next((ROOT / "data/dump").glob("*.gz")).read_bytes())
