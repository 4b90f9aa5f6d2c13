"""Two verdicts, one meaning: what the quick way accepts, the contract accepts with the same values."""

import gzip
import json
import os
import random
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobstats.contract import Refusal, decode, parse
from jobstats.ingest import quick
from jobstats.ingest.flatten import flatten, frame

from ..conftest import ROOT

MUTANTS = int(os.environ.get("MUTANTS", "6000"))
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
        return flatten(value, parse(value))
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


def agreeing(lines: list[bytes]) -> int:
    """How many lines the quick way took; of each, the contract must say the same."""
    readable = [line.decode() for line in lines if is_utf8(line)]
    taken = quick.columns(pl.Series(readable, dtype=pl.String))
    for at, *values in taken.iter_rows():
        slow = slowly(readable[at].encode())
        assert slow is not None, readable[at]
        assert values == list(frame([slow]).row(0)), readable[at]
    return len(taken)


def is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_every_usual_record_is_taken(lines, monkeypatch):
    monkeypatch.setattr(quick, "_MOST_SPACED", 1_000)
    spaced = [json.dumps(json.loads(line)).encode() for line in lines]
    indented = [json.dumps(json.loads(line), indent=2, ensure_ascii=False).encode() for line in lines[:200]]
    nulls = [json.dumps({"progress": None, "failedReason": None} | json.loads(line)).encode() for line in lines[:200]]
    for form in (lines, spaced, indented, nulls):
        assert agreeing(form) == len(form)


def test_mutants_of_real_records_mean_the_same_to_both(lines):
    draw = random.Random(20261123)
    n_taken = 0
    for _ in range(MUTANTS // 2_000):
        mutants = [mutated(draw.choice(lines), draw) for _ in range(2_000)]
        n_taken += agreeing(mutants)
        agreeing([mutated(mutant, draw) for mutant in mutants[:300] if slowly(mutant)])
    assert 0.1 < n_taken / MUTANTS < 0.9  # a test of agreement needs both
    few = mutants[:200]
    assert sum(agreeing([mutant]) for mutant in few) == agreeing(few)  # what stands beside a record means nothing


def test_a_record_cut_at_any_byte_means_the_same_to_both(lines):
    line = max(lines, key=len)
    assert agreeing([line[:end] for end in range(len(line))]) == 0
    assert agreeing([line[:at] + line[at + 1 :] for at in range(len(line))]) < len(line) - 50


@pytest.mark.parametrize("form", ["attributes_snake_case", "model_dump_json_by_alias", "model_dump_json_default"])
def test_sdk_exports_mean_the_same_to_both(form):
    for version in ("pypi_1.0.1", "repo_0.0.3"):
        text = gzip.decompress((ROOT / f"tests/data/sdk/{version}_{form}.ndjson.gz").read_bytes())
        taken = agreeing(text.splitlines())
        assert bool(taken) == (form == "model_dump_json_by_alias")


@pytest.mark.parametrize(
    ("what", "instead"),
    [
        ('"progress":100,', '"progress":1e2,'),
        ('"progress":100,', '"progress":1e1,,'),
        ('"progress":100,', '"progress":1e1,"x":"' + "9" * 90 + '",'),
        ('"state":"completed"}', '"state":"completed",}'),
        ('"delay":0,', '"delay":00,'),
        ('"delay":0,', '"delay":-0,'),
        ('"delay":0,', '"delay":0.0,'),
        ('"attemptsMade":1,', '"attemptsMade":1,"attemptsMade":2,'),
        ('"state":"completed"', '"state":"compl\\u0065ted"'),
        ('"isEnabled":true', '"isEnabled":1'),
    ],
)
def test_one_change_that_could_hide(lines, what, instead):
    line = next(text for line in lines if what in (text := line.decode()))
    agreeing([line.replace(what, instead, 1).encode()])


def test_what_an_exponent_hides_is_found(lines):
    # DuckDB writes 1e15 as 1000000000000000.0, 14 characters more: as many as another key may take.
    line = next(text for line in lines if '"progress":100,' in (text := line.decode()))
    hidden = line.replace('"progress":100,', '"progress":1e15,"extra":"123",', 1)
    assert agreeing([hidden.encode()]) == 0
    # Nor does it help that the digits stand somewhere else.
    elsewhere = hidden.replace('"delay":0', '"delay":0,"failedReason":"1000000000000000.0"')
    metadata = hidden.replace('"connector":', '"metadata":{"progress":1000000000000000.0},"connector":')
    assert agreeing([elsewhere.encode(), metadata.encode()]) == 0
    assert agreeing([line.replace('"progress":100,', '"progress":1e2,', 1).encode()]) == 0


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=5))
def test_no_bytes_break_the_quick_way(lines):
    agreeing(lines)


def test_what_repeats_is_remembered_and_forgotten_in_time(lines, monkeypatch):
    before = quick.columns(pl.Series([line.decode() for line in lines]))
    monkeypatch.setattr(quick, "_MOST_REMEMBERED", 3)
    assert quick.columns(pl.Series([line.decode() for line in lines])).equals(before)
