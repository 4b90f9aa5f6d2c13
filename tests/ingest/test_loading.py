import gzip
import io
import json
import os
from datetime import UTC, datetime, timedelta, timezone

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from pydantic import BaseModel

import jobstats as js
from jobstats.table import SCHEMA

from ..factories import record

PROVENANCE = ["source", "observed_at", "observed_at_source"]


def same(left: pl.DataFrame, right: pl.DataFrame, but: tuple[str, ...] = ()) -> None:
    assert_frame_equal(left.drop(*PROVENANCE, *but), right.drop(*PROVENANCE, *but))


def zstd(content: bytes) -> bytes:
    return pa.compress(content, codec="zstd", asbytes=True)


@pytest.fixture(scope="module")
def few(lines) -> list[bytes]:
    return lines[:40]


@pytest.fixture(scope="module")
def expected(few) -> pl.DataFrame:
    return js.load(b"\n".join(few)).jobs


def wrappings(few: list[bytes]) -> dict[str, bytes]:
    records = [json.loads(line) for line in few]
    envelope = {"success": True, "message": "All job statuses retrieved successfully", "data": records}
    return {
        "ndjson": b"\n".join(few),
        "ndjson, crlf, blank lines, bom": b"\xef\xbb\xbf" + b"\r\n \r\n".join(few) + b"\r\n\r\n",
        "array": b"[" + b",".join(few) + b"]",
        "array, a line each": b"[\n" + b",\n".join(few) + b"\n]\n",
        "array, indented": json.dumps(records, indent=2).encode(),
        "envelope": json.dumps(envelope).encode(),
        "envelope, indented": json.dumps(envelope, indent="\t").encode(),
        "envelope, data first": json.dumps({"data": records, "success": True}).encode(),
        "envelopes of one record, a line each": b"\n".join(b'{"success":true,"data":' + line + b"}" for line in few),
        "arrays, a line each": b"[" + b",".join(few[:9]) + b"]\n[" + b",".join(few[9:]) + b"]",
    }


@pytest.mark.parametrize("wrapping", wrappings([b"{}"]))
@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstd], ids=["plain", "gzip", "zstd"])
def test_every_wrapping_gives_the_same_jobs(few, expected, wrapping, compress):
    loaded = js.load(compress(wrappings(few)[wrapping]))
    assert loaded.rejects.is_empty()
    same(loaded.jobs, expected)


def test_every_kind_of_source_gives_the_same_jobs(few, expected, tmp_path):
    half = [tmp_path / "b.ndjson", tmp_path / "a.json.gz"]
    half[1].write_bytes(gzip.compress(b"\n".join(few[:20])))
    half[0].write_bytes(b"\n".join(few[20:]))
    decoded = [json.loads(line) for line in few]
    with half[0].open() as text, half[1].open("rb") as binary:
        sources = [
            str(tmp_path),
            tmp_path,
            f"{tmp_path}/*.*",
            [half[1], str(half[0])],
            [binary, text],
            io.BytesIO(b"\n".join(few)),
            bytearray(b"\n".join(few)),
            decoded,
            iter(decoded),
            [js.JobStatus.model_validate(one) for one in decoded],
            {"success": True, "data": decoded},
        ]
        for source in sources:
            loaded = js.load(source)
            assert loaded.rejects.is_empty()
            same(loaded.jobs, expected, but=("schedule_json", "extra_json"))


def test_models_keep_their_schedule(few):
    models = [js.JobStatus.model_validate(json.loads(line)) for line in few]
    configs = [json.loads(text) for text in js.load(models).jobs["schedule_json"]]
    exported = [json.loads(line)["data"]["scheduleConfig"] for line in few]
    for config, original in zip(configs, exported, strict=True):
        flat = original | original.get("scheduleConfig", {})
        kept = {key: value for key, value in flat.items() if key not in ("scheduleConfig", "scheduledTime")}
        assert config | kept == config


@pytest.mark.parametrize(("version", "n"), [("pypi_1.0.1", 34), ("repo_0.0.3", 49)])
def test_exports_of_the_sdk_mean_what_the_server_said(root, version, n):
    def load(form):
        return js.load(root / f"tests/data/sdk/{version}_{form}.ndjson.gz")

    source = load("source_records")
    for form in ("attributes_snake_case", "model_dump_json_by_alias"):
        loaded = load(form)
        assert loaded.rejects.is_empty()
        # The SDK writes 20 as 20.0 and drops what it does not know, so only the JSON texts differ.
        same(loaded.jobs, source.jobs, but=("schedule_json", "progress_json", "extra_json"))
    assert (len(source.jobs), len(load("model_dump_json_default").rejects)) == (n, n)


def test_every_era_of_the_server_is_read(root):
    loaded = js.load(root / "tests/data/legacy")
    assert loaded.rejects.is_empty()
    assert loaded.n_without_records == 1
    by_era = dict(
        loaded.jobs.group_by(pl.col("source").str.extract(r"(era.)_")).agg(pl.col("connector").first()).rows()
    )
    assert set(by_era) == {"eraA", "eraB", "eraC"}
    assert loaded.jobs["connector"].null_count() == 0
    assert loaded.jobs["connector_id"].null_count() == len(loaded.jobs)


def test_answers_without_records_are_counted_and_not_rejected(root):
    loaded = js.load(root / "tests/data/status")
    assert loaded.rejects.is_empty()
    texts = [json.loads(path.read_bytes()) for path in (root / "tests/data/status").iterdir()]
    assert loaded.n_without_records == sum(1 for text in texts if not text.get("data"))
    assert len(loaded.jobs) == sum(1 for text in texts if text.get("data"))


def test_the_dump_is_loaded_whole_and_flat(dump, lines):
    jobs, rejects = dump
    assert jobs.schema == SCHEMA
    assert rejects.is_empty()
    assert len(jobs) == len(lines)
    for row, line in zip(jobs.iter_rows(named=True), lines, strict=True):
        exported = json.loads(line)
        data, config = exported["data"], exported["data"]["scheduleConfig"]
        inner = config | config.get("scheduleConfig", {})
        progress = exported["progress"]
        assert json.loads(row["schedule_json"]) == config
        assert json.loads(row["progress_json"]) == progress
        assert row["job_id"] == exported["id"]
        assert row["attempts_made"] == exported["attemptsMade"]
        assert row["failed_reason"] == exported.get("failedReason")
        assert row["delay_ms"] == exported["delay"]
        assert row["schedule_timezone"] == inner.get("timezone", "UTC")
        assert row["schedule_every_ms"] == (inner["intervalMinutes"] * 60_000 if "intervalMinutes" in inner else None)
        assert row["progress_pct"] == (progress["percentage"] if isinstance(progress, dict) else progress)
        assert row["progress_total"] == (progress["total"] if isinstance(progress, dict) else None)
        for column, key in (
            ("created_at", "timestamp"),
            ("processed_at", "processedOn"),
            ("finished_at", "finishedOn"),
        ):
            assert row[column] == (datetime.fromtimestamp(exported[key] / 1000, UTC) if key in exported else None)
        assert row["requested_at"] == datetime.fromisoformat(data["timestamp"])
        assert (row["metadata_json"] is None) == ("metadata" not in data)


def test_extra_keys_are_kept_out_of_the_way():
    jobs, _ = js.load([record(opts={"priority": 5}, data={"region": "eu"})])
    assert json.loads(jobs["extra_json"][0]) == {"opts": {"priority": 5}, "data": {"region": "eu"}}


def test_a_reject_says_where_and_why_and_keeps_the_text(few, tmp_path):
    bad = few[1].replace(b'"attemptsMade":', b'"attemptsMade":"')
    wrong = json.dumps(record(attemptsMade="2"), indent=None).encode()
    path = tmp_path / "x.ndjson"
    path.write_bytes(b"\n".join([few[0], b"", bad, wrong, few[2]]))
    jobs, rejects = js.load(path)
    assert len(jobs) == 2
    assert rejects.select("source", "line", "index", "field", "raw").rows() == [
        (str(path), 3, None, "", bad.decode()),
        (str(path), 4, None, "attemptsMade", wrong.decode()),
    ]
    assert rejects["reason"][0].startswith("not JSON: ")
    assert rejects["reason"][1] == 'attemptsMade: expected an integer, found "2"'
    assert rejects["raw_bytes"].to_list() == [len(bad), len(wrong)]


def test_a_reject_in_an_array_is_cut_out_exactly(few):
    wrong = b'{ "name" : 1.50,  "x": "\\u00e9" }'
    jobs, rejects = js.load(b'{"success":true,"data":[' + few[0] + b" ,\n" + wrong + b"]}")
    assert len(jobs) == 1
    assert rejects.select("index", "raw", "raw_bytes").row(0) == (1, wrong.decode(), len(wrong))


def test_long_and_undecodable_texts_are_kept_bounded():
    text = b'{"name": "\xff' + b"x" * 10_000_000 + b'"}'
    _, rejects = js.load(text)
    assert rejects["raw_bytes"][0] == len(text)
    assert rejects["raw"][0].startswith('{"name": "\\xffxxx')
    assert len(rejects["raw"][0]) == 2_000
    assert js.load(b"x" * 1999 + "é".encode() + b"y").rejects["raw"][0] == "x" * 1999 + "é"


@pytest.mark.parametrize("wrapping", wrappings([b"{}"]))
def test_a_text_cut_anywhere_keeps_what_was_whole(few, wrapping):
    whole = wrappings(few[:6])[wrapping]
    for end in range(1, len(whole), 97):
        loaded = js.load(whole[:end])
        assert len(loaded.jobs) <= 6
        assert loaded.n_records or loaded.n_without_records or not whole[:end].strip(b"\xef\xbb\xbf \r\n")
        done = whole[:end].count(b'"state"') - 1
        if "of one record" not in wrapping and not wrapping.startswith("arrays"):
            assert len(loaded.jobs) >= done
    assert len(js.load(whole).jobs) == 6


@pytest.mark.parametrize("compress", [gzip.compress, zstd], ids=["gzip", "zstd"])
def test_a_damaged_archive_keeps_what_could_be_read(lines, compress):
    content = compress(b"\n".join(lines))
    loaded = js.load(content[: len(content) // 2])
    assert len(loaded.jobs) > 300
    assert "damaged" in loaded.rejects["reason"][-1]
    assert loaded.rejects["reason"].len() <= 2


def test_records_behind_a_damaged_element_are_found_again(few):
    broken = b"[" + b",".join(
        [*few[:3], b'{"id":nope}', *few[3:20], b'{"x":' + b"9" * 5_000 + b"}", *few[20:], b'{"cut']
    )
    jobs, rejects = js.load(broken)
    assert len(jobs) == len(few)
    assert rejects.select("index", "raw_bytes").rows() == [(3, 11), (21, 5_006), (len(few) + 2, 5)]


def test_a_whole_archive_with_something_behind_it_is_read(few):
    for compress in (gzip.compress, zstd):
        loaded = js.load(compress(b"\n".join(few) + b"\n") + b"garbage")
        assert (len(loaded.jobs), len(loaded.rejects)) == (len(few), 1)


def test_a_reject_shows_the_text_that_was_judged_whatever_stands_before(few):
    # Of two keys of one name the last counts, as in every JavaScript engine.
    text = b'{"success":true,"data":[{"id":"FIRST"},{"id":"FIRST2"}],"data":[{"id":"SECOND"}]}'
    assert js.load(text).rejects["raw"].to_list() == ['{"id":"SECOND"}']
    assert js.load(text.replace(b'"success":true', b'"extra":1')).rejects["raw"].to_list() == [
        text.replace(b'"success":true', b'"extra":1').decode()
    ]


def test_envelopes_may_stand_in_an_array(few):
    envelope = b'{"success":true,"message":"m","data":[' + few[0] + b"]}"
    loaded = js.load(
        b"[" + b",".join([envelope, few[1], b'{"success":false,"message":"none","data":null}', b"[]"]) + b"]"
    )
    assert (len(loaded.jobs), loaded.n_without_records, len(loaded.rejects)) == (2, 1, 1)


def test_numbers_json_has_not_are_refused_in_models_too():
    class Loose(BaseModel):
        name: str = "n"
        progress: float | None = None

    _, rejects = js.load(Loose(progress=float("nan")))
    assert rejects["reason"][0].startswith("not JSON")


def test_progress_is_reported(few, tmp_path):
    (tmp_path / "x.json").write_bytes(b"\n".join(few))
    told = []
    js.load(tmp_path, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (len(b"\n".join(few)),) * 2


def test_pipes_links_and_odd_names(few, tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/b\udcff.json").write_bytes(few[0])
    (tmp_path / "link").symlink_to(tmp_path / "deep")
    (tmp_path / "nowhere.json").symlink_to(tmp_path / "gone")
    (tmp_path / ".hidden.json").write_bytes(few[0])
    os.mkfifo(tmp_path / "fifo.json")
    loaded = js.load(tmp_path)
    assert loaded.jobs["source"].to_list() == [f"{tmp_path}/deep/b\\xff.json"]
    assert loaded.rejects["reason"].to_list() == ["No such file or directory"]
    assert [name.rsplit("/", 1)[1] for name in loaded.skipped] == [".hidden.json", "fifo.json", "link"]
    reader, writer = os.pipe()
    os.write(writer, few[0])
    os.close(writer)
    with open(reader, "rb") as pipe:
        assert len(js.load(pipe).jobs) == 1


SHAPES = {
    "ndjson": b"\n".join,
    "ndjson_crlf_and_blanks": lambda few: b"\r\n\r\n".join(few) + b"\r\n",
    "array": lambda few: b"[" + b",".join(few) + b"]",
    "array_in_lines": lambda few: b"[\n" + b" ,\n".join(few) + b"\n]\n",
    "envelope": lambda few: b'{"success":true,"message":"},{","data":[' + b",".join(few) + b'],"total":7}',
    "pretty": lambda few: json.dumps({"success": True, "data": [json.loads(line) for line in few]}, indent=2).encode(),
    "envelopes": lambda few: b"\n".join(
        b'{"success":true,"data":[' + b",".join(few[n:][:2]) + b"]}" for n in (0, 2, 4)
    ),
    "cut_array": lambda few: (b"[" + b",".join(few))[:-100],
    "broken_first_line": lambda few: few[0][:-9] + b"\n" + b"\n".join(few),
    "broken_in_the_middle": lambda few: b"[" + b",".join([*few[:3], few[3][:-9], *few[4:]]) + b"]",
    "nested": lambda few: b"[" + b",".join(nested(line) for line in few) + b"]",
    "no_json": lambda few: b"x,{y},{" * 99,
}


def nested(line: bytes) -> bytes:
    record = json.loads(line)
    record["data"]["metadata"] = {"list": [{"a": 1}, {"b": "},{"}]}
    return json.dumps(record, separators=(",", ":")).encode()


@pytest.mark.parametrize("size", [50, 300, 1_000])
@pytest.mark.parametrize("shape", SHAPES)
def test_long_texts_are_read_in_pieces_and_mean_the_same(few, monkeypatch, shape, size):
    text = SHAPES[shape](few)
    whole = js.load(text)
    for name in ("framing.BLOCK", "judging.BLOCK", "sources._CHUNK"):
        monkeypatch.setattr(f"jobstats.ingest.{name}", size)
    monkeypatch.setattr("jobstats.ingest.judging._SMALL", size)
    monkeypatch.setattr("jobstats.ingest.judging._MOST_ENTRIES", 3)
    pieces = js.load(text)
    assert_frame_equal(pieces.jobs, whole.jobs)
    if shape in ("cut_array", "broken_in_the_middle", "no_json"):
        assert len(pieces.rejects) == len(whole.rejects) == 1
    else:
        assert_frame_equal(pieces.rejects, whole.rejects)


def minified(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def pretty(value: object) -> str:
    return json.dumps(value, indent=2)


TWENTY = [record(id=str(n)) for n in range(20)]
ARRAY, ENVELOPE = minified(TWENTY), minified({"success": True, "message": "m", "data": TWENTY})
NDJSON = "\n".join(map(minified, TWENTY))


@pytest.mark.parametrize(
    ("text", "n_jobs", "places"),
    [
        ("\n".join([ENVELOPE[: len(ENVELOPE) // 2], ENVELOPE, ENVELOPE]), 49, [(1, 9)]),
        ("\n".join([ENVELOPE, ENVELOPE[: len(ENVELOPE) // 2], ENVELOPE]), 49, [(2, 9)]),
        ("\n".join([ARRAY[: len(ARRAY) // 2], NDJSON]), 30, [(1, 10)]),
        ("\n".join([ENVELOPE[: ENVELOPE.index("[") + 1], ENVELOPE]), 20, [(1, 1)]),
        ("\n".join([minified(TWENTY[0])[:300], ARRAY, ARRAY]), 40, [(1, None)]),
        ("\n".join(["# log", ARRAY, ENVELOPE]), 40, [(1, None)]),
        ("\n".join([pretty(TWENTY), pretty(TWENTY)]), 40, []),
        ("\n".join([pretty({"success": True, "data": TWENTY}), NDJSON]), 40, []),
        ("\n".join(map(pretty, TWENTY)), 20, []),
        ("\n".join(map(pretty, TWENTY))[:-30], 19, [(419, None)]),
        (ENVELOPE + ENVELOPE + ARRAY, 60, []),
        (NDJSON + "\n" + ENVELOPE + ENVELOPE, 60, []),
        (ARRAY + " and more", 20, [(1, 20)]),
        ("[\n" + "\n,".join(map(minified, TWENTY)) + "\n]", 20, []),
    ],
)
def test_nothing_is_lost_behind_what_is_damaged_or_done(text, n_jobs, places):
    loaded = js.load(text.encode())
    assert len(loaded.jobs) == n_jobs
    assert loaded.rejects.select("line", "index").rows() == places


@pytest.mark.parametrize("join", ["\n", ""])
@pytest.mark.parametrize("form", [minified, pretty])
def test_documents_behind_a_long_one_are_read(form, join, monkeypatch):
    for name in ("framing.BLOCK", "judging.BLOCK"):
        monkeypatch.setattr(f"jobstats.ingest.{name}", 3_000)
    monkeypatch.setattr("jobstats.ingest.sources._CHUNK", 500)
    documents = [{"success": True, "data": TWENTY}, TWENTY, TWENTY]
    loaded = js.load(join.join(map(form, documents)).encode())
    assert loaded.jobs["job_id"].to_list() == [job["id"] for job in TWENTY] * 3
    assert loaded.rejects.is_empty()


def test_a_damaged_part_of_a_long_array_ends_where_it_can(few, monkeypatch):
    monkeypatch.setattr("jobstats.ingest.framing.BLOCK", 2_000)
    monkeypatch.setattr("jobstats.ingest.framing._MOST_DAMAGED", 4_000)
    monkeypatch.setattr("jobstats.ingest.sources._CHUNK", 500)
    many = few * 10
    loaded = js.load(b"[" + b",".join([*many[:20], many[20][:-9], *many[21:]]) + b"]")
    assert len(loaded.jobs) == len(many) - 1
    assert loaded.rejects["index"].to_list() == [20]


def test_a_time_without_a_zone_is_utc_here_too(few):
    for seen in (datetime(2026, 11, 23, 15), datetime(2026, 11, 23, 15, tzinfo=UTC)):
        assert js.load(few[0], observed_at=seen).jobs["observed_at"][0] == datetime(2026, 11, 23, 15, tzinfo=UTC)
    for wrong in ("2026-11-23", datetime.min.replace(tzinfo=timezone(timedelta(hours=9)))):
        with pytest.raises(js.ArgumentError):
            js.load(few[0], observed_at=wrong)


def test_a_file_that_vanishes_is_a_reject(few, tmp_path, monkeypatch):
    paths = [tmp_path / "a.ndjson", tmp_path / "b.ndjson"]
    for path in paths:
        path.write_bytes(few[0])
    real = open

    def gone(path, *rest):
        if str(path) == str(paths[0]):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return real(path, *rest)

    monkeypatch.setattr("builtins.open", gone)
    loaded = js.load(tmp_path)
    assert (len(loaded.jobs), loaded.rejects["reason"].to_list()) == (1, ["No such file or directory"])


def test_foreign_files_in_a_folder_are_reported_and_skipped(few, tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/a.jsonl").write_bytes(few[0])
    loaded = js.load(tmp_path)
    assert (len(loaded.jobs), loaded.n_files, loaded.skipped) == (1, 1, (str(tmp_path / "notes.txt"),))


@pytest.mark.parametrize(
    "text", [b"", b" \n\r\n", b"[]", b'{"success":true,"data":[]}', b'{"error":{"code":"X","message":"y"}}']
)
def test_nothing_in_nothing_out(text):
    loaded = js.load(text)
    assert loaded.n_records == 0
    assert loaded.jobs.schema == SCHEMA


def test_what_is_no_source_is_an_error(tmp_path):
    for source, message in [
        (tmp_path / "nope.json", "no such file or folder"),
        (f"{tmp_path}/*.json", "no file matches"),
        (tmp_path, "no exports in this folder"),
        (5, "cannot load from int"),
    ]:
        with pytest.raises(js.SourceError, match=message):
            js.load(source)


def test_objects_that_are_no_records_are_rejects():
    _, rejects = js.load([1, None, {"a": float("nan")}, object(), record(progress=10**400)])
    assert rejects["index"].to_list() == [0, 1, 2, 3, 4]
    _, rejects = js.load([record(data={"metadata": {"x": 1}}) | {"note": float("inf")}])
    assert len(rejects) == 1


def test_the_time_of_observation_has_a_source(few, tmp_path):
    def seen(name: str, **options):
        (tmp_path / name).write_bytes(few[0])
        return js.load(tmp_path / name, **options).jobs.select("observed_at", "observed_at_source").row(0)

    noon = datetime(2026, 11, 23, 12, tzinfo=UTC)
    assert seen("2026-11-23T135450.552Z_org.json") == (datetime(2026, 11, 23, 13, 54, 50, 552_000, UTC), "file_name")
    assert seen("2026-11-23T135450.552Z_org.json", observed_at=noon) == (noon, "caller")
    assert seen("2026-11-23T995450Z.json")[1] == "file_mtime"
    assert seen("plain.json")[1] == "file_mtime"
    assert js.load(few[0]).jobs.select("observed_at", "observed_at_source").row(0) == (None, None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "name", "data", "success", "state", "x"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()), max_size=6),
    st.sampled_from([b"\n", b"", b","]),
)
def test_no_bytes_break_the_loader(pieces, between):
    loaded = js.load(between.join(pieces))
    assert len(loaded.jobs) == 0
    assert loaded.rejects.select(pl.col("source", "reason", "raw", "raw_bytes").null_count().sum()).row(0) == (
        0,
        0,
        0,
        0,
    )


FIELDS = [
    "id",
    "name",
    "data",
    "progress",
    "delay",
    "timestamp",
    "attemptsMade",
    "processedOn",
    "finishedOn",
    "failedReason",
    "state",
]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_record_is_accepted_with_its_values_or_rejected_by_name(data):
    field, value = data.draw(st.sampled_from(FIELDS)), data.draw(JSON | st.just(...))
    changed = {key: kept for key, kept in (record() | {field: value}).items() if kept is not ...}
    loaded = js.load([changed])
    assert loaded.n_records == 1
    if len(loaded.rejects):
        reject = loaded.rejects.row(0, named=True)
        assert reject["field"].startswith(field) or reject["reason"].startswith("not JSON")
    elif field not in ("data", "progress"):
        column = {
            "id": "job_id",
            "attemptsMade": "attempts_made",
            "delay": "delay_ms",
            "failedReason": "failed_reason",
        }.get(field, field)
        if column in loaded.jobs.columns:
            assert loaded.jobs[column][0] == (None if value is ... else value)
