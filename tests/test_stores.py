"""A store loses nothing, whatever stops who writes it, and holds nothing twice."""

import itertools
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

import jobstats as js
from jobstats.table import RECORD_COLUMNS

from .factories import T0, iteration, record

KILLS = int(os.environ.get("KILLS", "200"))
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def files(store: js.Store) -> list[str]:
    return sorted(str(path.relative_to(store.path)) for path in store.path.rglob("*.parquet"))


def day(number: int, n: int = 30) -> pl.DataFrame:
    """What was seen on one of a few days: thirty runs, at two times."""
    at = NOON + timedelta(days=number)
    records = [record(id=f"{number}-{i}", progress=i) for i in range(n)]
    return pl.concat(js.load(records, observed_at=at + timedelta(hours=hours)).jobs for hours in (0, 6))


@pytest.fixture
def crawls(tmp_path) -> js.Store:
    return js.store(tmp_path / "crawls")


def test_appending_again_changes_nothing(crawls, root, tmp_path, polls):
    first = crawls.append(root / "data/polls")
    assert (first.n_accepted, first.n_new, first.n_files, first.n_rejected) == (2302, 2302, 72, 0)
    before = files(crawls)
    for path in sorted((root / "data/polls").iterdir()):
        (tmp_path / "copy" / "below").mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / "below" / path.name).write_bytes(path.read_bytes())
    for again in (root / "data/polls", tmp_path / "copy", polls, polls.jobs, crawls.scan()):
        assert crawls.append(again).n_new == 0
    assert files(crawls) == before
    assert not list(crawls.path.glob(".staging*"))
    assert_frame_equal(
        js.history(crawls.scan()).collect().sort("created_at", "org_id", "job_id"), js.history(polls.jobs)
    )


def test_a_part_that_is_new_is_added(crawls, root, tmp_path):
    polls = sorted((root / "data/polls").glob("*.gz"))
    assert crawls.append(polls[:40]).n_new == len(js.load(polls[:40]).jobs)
    added = crawls.append(polls[20:])
    assert added.n_new == len(js.load(polls[40:]).jobs)
    assert len(crawls.scan().collect()) == 2302


def test_the_jobs_of_a_store_are_those_of_loading_everything(crawls, root, polls):
    for path in sorted((root / "data/polls").glob("*.gz"))[::-1]:
        crawls.append(path)
    jobs, rejects = js.read(crawls.path)
    key = ["org_id", "observed_at", "job_id", "state", "progress_json"]
    assert_frame_equal(jobs.sort(key), polls.jobs.sort(key))
    assert rejects.is_empty()
    assert_frame_equal(js.queue_latency(crawls.scan()).collect(), js.queue_latency(polls.jobs))
    assert len(files(crawls)) == 72
    done = crawls.compact()
    assert (done.n_parts_before, done.n_parts, done.n_duplicates) == (72, 1, 0)
    assert_frame_equal(crawls.scan().collect().sort(key), polls.jobs.sort(key))


def test_any_tool_reads_the_files(crawls, root, polls):
    crawls.append(root / "data/polls")
    pattern = str(crawls.path / "observations/*/*.parquet")
    expected = sorted(polls.jobs["created_at"].dt.epoch("ms").to_list())
    assert pl.read_parquet(pattern)["created_at"].dt.epoch("ms").sort().to_list() == expected
    table = pyarrow.dataset.dataset(crawls.path / "observations", partitioning="hive").to_table()
    assert sorted(table["created_at"].cast("int64").to_pylist()) == expected
    query = f"select epoch_ms(created_at) as ms, observed_on from read_parquet('{pattern}') order by 1"
    rows = duckdb.sql(query).fetchall()
    assert [row[0] for row in rows] == expected
    assert {str(row[1]) for row in rows} == {"2026-11-23"}
    schema = pq.read_schema(next(crawls.path.glob("observations/*/*.parquet")))
    assert [schema.field(column.name).metadata[b"description"].decode() for column in RECORD_COLUMNS] == [
        column.description for column in RECORD_COLUMNS
    ]
    assert js.sql(crawls.path, "select count(*) from observations").item() == 2302
    assert js.sql(crawls.path, "select count(*) from history where outcome = 'ended_unseen'").item() == 340
    assert js.sql(crawls.path, "select count(*) from jobs where is_latest").item() == 503


def test_days_and_windows(crawls, tmp_path):
    for number in range(5):
        crawls.append(day(number))
    crawls.append(js.load([record(id="undated")]))
    names = {path.parent.name for path in crawls.path.glob("observations/*/*")}
    assert names == {f"observed_on=2026-11-{n}" for n in range(20, 25)} | {"observed_on=__HIVE_DEFAULT_PARTITION__"}
    assert len(crawls.scan().collect()) == 301
    assert crawls.scan(since="2026-11-22", until="2026-11-23T13:00").select("job_id").collect().height == 90
    assert crawls.scan(since="1d").collect().height == 90  # newest: the 24th, 18:00
    assert crawls.scan(until="2026-11-20T12:00:00.001").collect().height == 30
    # What lies outside is not even opened.
    for path in crawls.path.glob("observations/observed_on=2026-11-2[01]/*"):
        path.write_bytes(b"damaged")
    assert crawls.scan(since="2026-11-22").collect().height == 180
    with pytest.raises(js.TableError, match=r"observed_on=2026-11-20/.*: not a Parquet file"):
        crawls.scan()
    with pytest.raises(js.ArgumentError, match="must lie before"):
        crawls.scan(since="2026-11-22", until="2026-11-21")


def test_windows_beside_odd_days_and_at_the_ends_of_the_calendar(crawls):
    crawls.append([record()], observed_at=datetime(2026, 11, 23, tzinfo=UTC))
    crawls.append([record()], observed_at=datetime(2026, 10, 1, tzinfo=UTC))
    crawls.append([record()], observed_at=datetime(500, 3, 1, tzinfo=UTC))
    (crawls.path / "observations/observed_on=2026-11-24").mkdir()  # what a writer leaves that is killed at once
    (crawls.path / "observations/observed_on=zzz").mkdir()
    assert [len(crawls.scan(since=since).collect()) for since in ("1d", "0999-01-01", "0400-01-01")] == [1, 2, 3]
    frame = crawls.scan().collect().with_columns(observed_at=pl.lit(3 * 10**14).cast(pl.Datetime("ms", "UTC")))
    with pytest.raises(js.TableError, match="observed_at: a time outside the calendar"):
        crawls.append(frame)


def test_first_rows_and_no_columns(crawls, polls):
    crawls.append(polls)
    table, failed = crawls.scan().collect(), pl.col("state") == "failed"
    for lazy in (crawls.scan(), js.history(crawls.scan())):
        eager = lazy.collect()
        assert lazy.head(50).filter(failed).collect().height == eager.head(50).filter(failed).height
        assert lazy.filter(failed).head(50).collect().equals(eager.filter(failed).head(50))
        assert lazy.with_row_index().filter(pl.col("index") < 20).select(pl.len()).collect().item() == 20
        assert lazy.slice(5, 7).collect().equals(eager.slice(5, 7))
    assert (
        crawls.scan().head(50).filter(failed).select("state").collect().height == table.head(50).filter(failed).height
    )


@pytest.mark.parametrize("wrong", [None, 5, b"x", ""])
def test_what_is_no_path_is_refused(wrong):
    with pytest.raises(js.ArgumentError, match="a store is at a path; found"):
        js.store(wrong)
    with pytest.raises((js.ArgumentError, js.SourceError)):
        js.scan(wrong)


def test_a_copy_from_elsewhere_changes_no_run(tmp_path):
    at = datetime(2026, 11, 23, 15, tzinfo=UTC)
    one, other = (js.load([record(progress=n)], observed_at=at).jobs for n in (1, 2))
    told = set()
    for number in range(20):
        copy = one.with_columns(source=pl.lit(f"export-{number}.json"))
        for order in itertools.permutations([one, copy, other]):
            runs = js.history(pl.concat(order))
            told.add((runs["progress_pct"][0], len(runs)))
    assert len(told) == 1


def test_what_is_known_better_later_counts_whatever_came_first(tmp_path):
    """The same records as one list, as answers about single connectors, and with the time of a file that was copied."""
    due = T0 + 60_000
    waiting = {"state": "delayed", "delay": 59_750, "attemptsMade": 0, "processedOn": ..., "finishedOn": ...}
    active = iteration(0, state="active", attemptsMade=0, finishedOn=...)
    after, other = iteration(1, **waiting), iteration(9, **waiting, data={"connectorId": "c2"})
    assert after["id"].endswith(str(due))

    def seen(records: list[dict], seconds: int, source: str) -> pl.DataFrame:
        at = datetime.fromtimestamp(T0 / 1000, UTC) + timedelta(seconds=seconds, milliseconds=1)
        return js.load(records, observed_at=at).jobs.with_columns(source=pl.lit(source))

    first, whole = seen([active, after, other], 1, "a.json"), seen([after, other], 3, "list.json")
    singles = pl.concat([seen([after], 3, "b.json"), seen([other], 3, "c.json")])
    copied = whole.with_columns(observed_at_source=pl.lit("file_mtime"))
    for number, order in enumerate(itertools.permutations([first, whole, singles, copied])):
        crawls = js.store(tmp_path / str(number))
        for part in order:
            crawls.append(part)
        crawls.compact()
        for runs in (js.history(crawls.scan()).collect(), js.history(pl.concat(order))):
            assert runs.filter(pl.col("outcome") == "ended_unseen")["job_id"].to_list() == [active["id"]]


def test_what_was_seen_at_no_known_time_is_kept_once(crawls):
    for _ in range(2):
        crawls.append([record(id="a"), record(id="b")])
    assert crawls.scan().collect()["observed_at"].to_list() == [None, None]


def test_rejects_are_kept_once(crawls, tmp_path):
    (tmp_path / "x.ndjson").write_text(json.dumps(record()) + "\n{}\nbad\n")
    assert crawls.append(tmp_path / "x.ndjson").n_new_rejects == 2
    (tmp_path / "y.ndjson").write_text(json.dumps(record(id="2")) + "\n{}\n")
    added = crawls.append([tmp_path / "x.ndjson", tmp_path / "y.ndjson"])
    assert (added.n_new, added.n_rejected, added.n_new_rejects) == (1, 3, 1)
    assert added.reasons["n"].to_list() == [2, 1]
    assert sorted(crawls.rejects()["line"].to_list()) == [2, 2, 3]
    assert js.sql(crawls.path, "select count(*) from rejects").item() == 3
    (tmp_path / "z.ndjson").write_text(json.dumps(record(id="3")) + "\n[]x\n")
    crawls.append(tmp_path / "z.ndjson")
    assert len(list(crawls.path.glob("rejects/*"))) == 3
    before = crawls.rejects()
    crawls.compact()
    assert len(list(crawls.path.glob("rejects/*"))) == 1
    assert_frame_equal(crawls.rejects(), before, check_row_order=False)
    pl.DataFrame({"x": [1]}).write_parquet(crawls.path / "rejects/x.parquet")
    for ask in (crawls.rejects, lambda: crawls.append(tmp_path / "z.ndjson"), crawls.compact):
        with pytest.raises(js.TableError, match=r"x\.parquet: not a table of rejects, it lacks source"):
            ask()


def test_a_bare_export_is_refused_and_leaves_nothing(crawls, tmp_path):
    (tmp_path / "empty.json").write_text('{"success": true, "data": []}')
    for source, message in ((tmp_path / "empty.json", "holds no job records"), (tmp_path / "no.json", "no such file")):
        with pytest.raises(js.SourceError, match=message):
            crawls.append(source)
    with pytest.raises(js.SourceError, match=r"name: required, but missing.*1 rejected, none accepted"):
        crawls.append(js.load([{"a": 1}]))
    assert not crawls.path.exists()
    with pytest.raises(js.SourceError, match="no store is there; make one with jobstats load"):
        crawls.scan()
    with pytest.raises(js.ArgumentError, match="a store is a folder"):
        js.store(tmp_path / "x.parquet")
    (tmp_path / "file").write_text("")
    with pytest.raises(js.SourceError, match="this is a file"):
        js.store(tmp_path / "file")


# ---- what does not belong there -------------------------------------------------------------------------------------


def test_damaged_and_foreign_parts_are_named_and_nothing_is_changed(crawls, tmp_path):
    crawls.append(day(0))
    crawls.append(day(1))
    part = next(crawls.path.glob("observations/observed_on=2026-11-20/*.parquet"))
    (part.parent / "notes.txt").write_text("not ours")
    (crawls.path / "report.html").write_text("not ours either")
    assert len(crawls.scan().collect()) == 120
    whole = part.read_bytes()
    damaged = bytearray(whole)
    for place in range(100, 900):
        damaged[place] ^= 0x55
    other = part.with_name("foreign.parquet")
    pl.DataFrame({"x": [1]}).write_parquet(other)
    foreign = other.read_bytes()
    for path, content, message in (
        (part, b"PAR1", "not a Parquet file"),
        (part, whole[: len(whole) // 2], "not a Parquet file"),
        (part, bytes(damaged), "damaged"),
        (other, foreign, "not a jobs table, it lacks job_id"),
    ):
        other.unlink(missing_ok=True)
        part.write_bytes(whole)
        path.write_bytes(content)
        before = {name: (crawls.path / name).read_bytes() for name in files(crawls)}
        for ask in (
            lambda: crawls.scan().collect(),
            lambda: crawls.append(day(0)),
            lambda: js.history(crawls.scan()).collect(),
            lambda: crawls.scan(since="2026-11-20").collect(),
            lambda: js.sql(crawls.path, "select max(job_id), max(state) from observations"),
        ):
            with pytest.raises(js.TableError, match=re.escape(str(path)) + ": " + message):
                ask()
        assert {name: (crawls.path / name).read_bytes() for name in files(crawls)} == before
        assert crawls.append(day(1)).n_new == 0  # another day is no concern of it
        assert len(crawls.scan(since="2026-11-21").collect()) == 60


def test_compacting_damage_changes_nothing(crawls):
    crawls.append(day(0))
    crawls.append(day(0, 40))
    part = next(crawls.path.glob("observations/*/*.parquet"))
    damaged = bytearray(part.read_bytes())
    for place in range(100, 900):
        damaged[place] ^= 0x55
    part.write_bytes(damaged)
    before = files(crawls)
    with pytest.raises(js.TableError, match="damaged"):
        crawls.compact()
    assert files(crawls) == before


def test_a_newer_format_is_refused_and_an_older_one_is_read(crawls, tmp_path, dump):
    crawls.append(day(0))
    part = next(crawls.path.glob("observations/*/*.parquet"))
    table = pq.read_table(part)
    pq.write_table(table.replace_schema_metadata({"jobstats_format": "3"}), part)
    for ask in (crawls.scan, lambda: crawls.append(day(0)), crawls.compact):
        with pytest.raises(js.TableError, match=r"written in format 3, this jobstats reads up to 2; upgrade jobstats"):
            ask()
    # Format 1 was a folder of one jobs table, with times as they were concluded then, and its rejects.
    old = js.store(tmp_path / "old")
    (tmp_path / "old").mkdir()
    path = js.write(js.Loaded(dump.jobs, js.load([record(), {}]).rejects), tmp_path / "old/jobs.parquet")
    (tmp_path / "old/jobs.rejects.parquet").rename(tmp_path / "old/rejects.parquet")
    pq.write_table(pq.read_table(path).replace_schema_metadata({"jobstats_format": "1"}), path)
    assert len(js.read(tmp_path / "old").rejects) == 1
    assert_frame_equal(old.scan().collect(), dump.jobs)
    old.append(day(0))
    assert old.scan().collect().height == len(dump.jobs) + 60
    assert old.scan(since="2026-11-23").select("job_id").collect().height == len(dump.jobs)
    assert old.append(js.Loaded(dump.jobs, js.load([record(), {}]).rejects)).n_new == 0
    assert len(old.rejects()) == 1


def test_a_place_that_cannot_be_written(crawls, tmp_path, monkeypatch):
    crawls.append(day(0))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(js.SourceError, match="cannot be written: Not a directory"):
        js.store(tmp_path / "file/below").append(day(0))
    with monkeypatch.context() as patched:
        patched.setattr(os, "access", lambda *_: False)
        with pytest.raises(js.SourceError, match="cannot be written: Permission denied"):
            crawls.append(day(1))
    assert len(crawls.scan().collect()) == 60


@pytest.mark.parametrize("room", [0, 1_000, 8_000, 15_000, 20_000])
def test_a_full_disk_is_an_error_and_damages_nothing(crawls, tmp_path, room):
    """A limit on the size of files stops writing in the middle, as a full disk does."""
    crawls.append(day(0))
    before = files(crawls)
    js.write(day(1, 2_000), tmp_path / "more.parquet")
    script = "import sys, polars as pl, jobstats as js; js.store(sys.argv[1]).append(pl.read_parquet(sys.argv[2]))"
    done = subprocess.run(
        [sys.executable, "-c", script, crawls.path, tmp_path / "more.parquet"],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
    )
    assert done.returncode == 1
    assert f"SourceError: {crawls.path}: cannot be written: " in done.stderr
    assert files(crawls) == before
    assert not list(crawls.path.rglob(".*.parquet-*"))
    assert crawls.append(pl.read_parquet(tmp_path / "more.parquet")).n_new == 4_000
    assert len(crawls.scan().collect()) == 4_060


def test_nothing_is_needed_that_is_not_declared(tmp_path, root):
    """NumPy comes with what the tests need, and not with what the project does."""
    script = "import sys; sys.modules['numpy'] = None; import jobstats as js; s = js.store(sys.argv[1]); s.append('data/polls'); s.append('data/dump'); s.compact(); print(len(js.history(s.scan()).collect()), js.retry_rates(s.scan()).collect().height, js.quality(s.scan()).height)"
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "s"], capture_output=True, text=True, check=False, cwd=root
    )
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["2722", "1"]), done.stderr


# ---- who writes at once, and who is stopped -------------------------------------------------------------------------

WORKER = """
import sys, itertools, random
import polars as pl
import jobstats as js
path, folder, seed, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
draw = random.Random(seed)
frames = {number: pl.read_parquet(f"{folder}/{number}.parquet") for number in range(12)}
store = js.store(path)
print("ready", flush=True)
for _ in range(rounds):
    number = draw.randrange(12)
    store.append(frames[number])
    print(number, flush=True)
    if draw.random() < 0.2:
        store.compact()
"""


@pytest.fixture
def exports(tmp_path) -> dict[int, pl.DataFrame]:
    """Twelve exports that overlap, over four days."""
    frames = {n: pl.concat([day(n % 4, 10 + 5 * (n // 4)), day((n + 1) % 4, 5)]) for n in range(12)}
    (tmp_path / "exports").mkdir()
    for number, frame in frames.items():
        frame.write_parquet(tmp_path / f"exports/{number}.parquet")
    return frames


def worker(store: js.Store, seed: int, rounds: int) -> subprocess.Popen:
    command = [sys.executable, "-c", WORKER, store.path, store.path.parent / "exports", str(seed), str(rounds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def said(frames: list[pl.DataFrame]) -> set[tuple]:
    return set(pl.concat(frames).select("job_id", "observed_at", "progress_json").rows())


def test_processes_that_are_killed_lose_nothing(crawls, exports):
    """Two at a time write and merge, and are killed at any moment; what they had said was added is there, once."""
    draw, seeds, acknowledged = random.Random(7), itertools.count(), set()

    def started() -> subprocess.Popen:
        return worker(crawls, next(seeds), 10_000)

    processes = [started(), started()]
    for _ in range(KILLS):
        process = processes.pop(0)
        assert process.stdout.readline() == "ready\n"
        time.sleep(draw.random() * 0.25)
        process.send_signal(signal.SIGKILL)
        words, _ = process.communicate()
        processes.append(started())
        acknowledged |= {int(word) for word in words.split("\n")[:-1]}
        if acknowledged:
            there = readable(crawls)
            assert said([exports[number] for number in acknowledged]) <= set(there), "what was added is there"
            assert len(there) == len(set(there)), "and there once"
    for process in processes:
        process.kill()
        process.communicate()
    for frame in exports.values():
        crawls.append(frame)
    assert sorted(readable(crawls)) == sorted(said(list(exports.values())))
    assert crawls.compact().n_parts == 4
    assert sorted(readable(crawls)) == sorted(said(list(exports.values())))
    assert [path.name for path in crawls.path.iterdir() if path.name.startswith(".")] == [".lock"]
    assert len(files(crawls)) == 4


def readable(store: js.Store) -> list[tuple]:
    """What the store holds; who reads while parts are merged may have to ask again."""
    for _ in range(20):
        try:
            return store.scan().select("job_id", "observed_at", "progress_json").collect().rows()
        except (js.TableError, OSError):
            time.sleep(0.01)
    raise AssertionError("not readable")


def test_several_append_and_merge_at_once(crawls, exports):
    processes = [worker(crawls, seed, 60) for seed in range(3)]
    numbers = set()
    for process in processes:
        words, _ = process.communicate(timeout=120)
        assert process.returncode == 0, words
        numbers |= {int(word) for word in words.split()[1:]}
    there = readable(crawls)
    assert sorted(there) == sorted(said([exports[number] for number in numbers]))


def test_what_a_merger_left_behind_is_passed_over_and_cleared_away(crawls, monkeypatch):
    crawls.append(day(0))
    crawls.append(day(0, 40))

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            crawls.compact()
    assert len(files(crawls)) == 3
    assert len(crawls.scan().collect()) == 80
    half = next(crawls.path.glob("observations/*")) / ".1234.parquet-xyz"
    half.write_bytes(b"half")
    assert crawls.append(day(0, 40)).n_new == 0
    assert not half.exists()
    half.write_bytes(b"half")
    crawls.compact()
    assert not half.exists()
    assert len(files(crawls)) == 1
    assert len(crawls.scan().collect()) == 80
