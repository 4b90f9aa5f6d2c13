"""Two verdicts, one meaning: what the quick way accepts, the contract accepts with the same values."""

import gzip
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobstats.contract import Refusal, decode, parse
from jobstats.ingest import quick
from jobstats.ingest.flatten import Seen, flatten

from ..conftest import ROOT

SEEN = Seen("here", 5, "caller")
MUTANTS = 6_000
ODD = [
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        1.0,
        1.5,
        1e3,
        2**53 + 1,
        2**63,
        2**64,
        10**30,
        -0.0,
        253402300799999,
        253402300800000,
    ),
    *(
        "",
        "x",
        "1",
        "true",
        "null",
        "\x00",
        "\ud800",
        "é",
        "\u2028",
        "2026-11-23T14:10:06.921Z",
        "2026-11-23",
        "repeat:a:1",
    ),
    *(
        [],
        [1],
        {},
        {"percentage": 5},
        {"percentage": "5", "current": 1.5},
        {"scheduleType": "daily", "hour": 1, "minute": 2},
    ),
]
TEXTS = [
    b"NaN",
    b"Infinity",
    b"1e400",
    b"-0",
    b"01",
    b"1.",
    b"1E2",
    b'"\\ud800"',
    b'"\\u0041"',
    b'"\xff"',
    b"[" * 190 + b"]" * 190,
    b"{}",
    b"tru",
    b"",
]


def slowly(line: bytes) -> tuple[Any, ...] | None:
    try:
        value = decode(line.strip(b" \t\r\n"))
        return flatten(value, parse(value), SEEN)
    except Refusal:
        return None


def places(value: Any, path: tuple = ()) -> list[tuple]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


def mutated(line: bytes, draw: random.Random) -> bytes:
    """A real record with something changed: a value, a key, or bytes."""
    record = json.loads(line)
    kind = draw.randrange(7)
    if kind >= 5:
        cut, with_what = (
            draw.randrange(len(line)),
            draw.choice([b"", b" ", b"\x00", b'"', b"}", b",", b"\xc3", b"\\u00", b"1", b"-"]),
        )
        return line[:cut] + with_what + line[cut + draw.randrange(3) :] if kind == 5 else line[:cut]
    *above, key = draw.choice([place for place in places(record) if place])
    holder = record
    for step in above:
        holder = holder[step]
    if kind == 0:
        del holder[key]
    elif kind == 1:
        holder[key] = draw.choice(ODD)
    elif kind == 2 and isinstance(holder, dict):
        holder[
            draw.choice(["attempts_made", "connectorType", "extra", "scheduleConfig", "is_unknown", str(key).upper()])
        ] = draw.choice(ODD)
    elif kind == 3:
        holder[key] = "\ue123"
        return json.dumps(record, ensure_ascii=False).encode().replace('"\ue123"'.encode(), draw.choice(TEXTS))
    elif isinstance(holder, dict):
        twice = json.dumps(record)
        at = draw.choice([i for i, c in enumerate(twice) if c == "{"])
        return (twice[: at + 1] + f"{json.dumps(str(key))}:{json.dumps(draw.choice(ODD))}," + twice[at + 1 :]).encode()
    return json.dumps(record, ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")


def agree(line: bytes) -> bool:
    """Whether the quick way took the line; if so, the contract must say the same."""
    taken = quick.row(line, SEEN)
    if taken is not None:
        assert taken == slowly(line), line
        assert [type(value) for value in taken] == [type(value) for value in slowly(line) or ()], line
    return taken is not None


def test_every_usual_record_is_taken(lines):
    assert all(agree(line) for line in lines)


def test_mutants_of_real_records_mean_the_same_to_both(lines):
    draw = random.Random(20261123)
    taken = [agree(mutated(draw.choice(lines), draw)) for _ in range(MUTANTS)]
    assert 0.1 < sum(taken) / MUTANTS < 0.9  # a test of agreement needs both


@pytest.mark.parametrize("form", ["attributes_snake_case", "model_dump_json_by_alias", "model_dump_json_default"])
def test_sdk_exports_mean_the_same_to_both(form):
    for version in ("pypi_1.0.1", "repo_0.0.3"):
        text = gzip.decompress((ROOT / f"tests/data/sdk/{version}_{form}.ndjson.gz").read_bytes())
        for line in text.splitlines():
            agree(line)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_break_the_quick_way(line):
    agree(line)


def test_what_repeats_is_remembered_and_forgotten_in_time():
    known = quick.Remembered(lambda key: [key])
    assert known[1] is known[1]
    for key in range(quick.MOST_REMEMBERED + 1):
        _ = known[key]
    assert len(known) <= quick.MOST_REMEMBERED
