"""Jobs tables larger than memory are the same as those that are not."""

import gzip
import json
import random
import subprocess
import sys

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import jobstats as js
from jobstats import spool

from .factories import record


@pytest.mark.parametrize("most", [1, 7, 300])
@pytest.mark.parametrize("source", ["data/dump", "data/polls"])
def test_what_is_spooled_is_what_is_loaded(root, tmp_path, monkeypatch, source, most):
    monkeypatch.setattr(spool, "MOST_IN_MEMORY", most if most > 1 else 1)
    monkeypatch.setattr("jobstats.ingest.judging._MOST_ENTRIES", 40 * most)
    monkeypatch.setattr("jobstats.ingest.judging._SMALL", 1 << 30)
    loaded = js.load(root / source)
    converted = js.convert(root / source, tmp_path / "out.parquet")
    again = js.read(tmp_path / "out.parquet")
    assert_frame_equal(again.jobs, loaded.jobs)
    assert_frame_equal(again.rejects, loaded.rejects)
    assert (converted.n_accepted, converted.n_rejected) == (len(loaded.jobs), 0)
    assert (converted.n_files, converted.n_bytes, converted.skipped) == (loaded.n_files, loaded.n_bytes, loaded.skipped)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet", "out.rejects.parquet"]


def test_rejects_are_spooled_in_their_order(lines, tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "MOST_IN_MEMORY", 30)
    monkeypatch.setattr("jobstats.ingest.judging._MOST_ENTRIES", 20)
    draw = random.Random(1)
    text = b"\n".join(line[: draw.choice([50, None])] for line in lines[:500])
    loaded = js.load(text)
    converted = js.convert(text, tmp_path / "out.parquet")
    assert_frame_equal(pl.read_parquet(converted.rejects), loaded.rejects)
    assert_frame_equal(pl.read_parquet(converted.jobs), loaded.jobs)
    assert len(loaded.rejects) > 100
    assert converted.n_records == 500


def test_runs_overtaken_in_another_slice_are_found(tmp_path, monkeypatch):
    # One run in ten starts a minute late and alone; those due after it have started long before.
    monkeypatch.setattr(spool, "MOST_IN_MEMORY", 120)
    monkeypatch.setattr("jobstats.ingest.judging._MOST_ENTRIES", 50)
    records = []
    for n in range(1_000):
        created = 1_795_443_000_000 + 1_000 * n
        started = created + (60_000 if n % 10 == 5 else 100)
        records.append(
            record(id=str(n), timestamp=created, processedOn=started, finishedOn=started + 50, attemptsMade=1)
        )
    random.Random(2).shuffle(records)
    jobs = js.read(js.convert(records, tmp_path / "out.parquet").jobs).jobs
    assert_frame_equal(jobs, js.load(records).jobs)
    late = jobs.filter(pl.col("queue_latency_quality") == "upper_bound")["job_id"].cast(pl.Int64).sort().to_list()
    assert late == [n for n in range(1_000) if n % 10 == 5]


def test_what_fails_leaves_nothing(lines, tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "MOST_IN_MEMORY", 30)
    monkeypatch.setattr("jobstats.ingest.judging._MOST_ENTRIES", 20)
    (tmp_path / "before.parquet").write_bytes(b"as it was")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(spool, "finish", stop)
    with pytest.raises(KeyboardInterrupt):
        js.convert(b"\n".join(lines[:200]), tmp_path / "before.parquet")
    with pytest.raises(js.SourceError, match="holds no job records"):
        js.convert(b"", tmp_path / "new" / "x.parquet")
    with pytest.raises(js.SourceError, match="1 rejected, none accepted"):
        js.convert(b"{}", tmp_path / "new" / "x.parquet")
    assert (tmp_path / "before.parquet").read_bytes() == b"as it was"
    assert not (tmp_path / "new").exists()
    assert not list(tmp_path.glob(".*"))


def test_a_stream_is_read_as_it_comes(lines, tmp_path):
    text = b"[" + b",".join(lines) + b"]"
    with gzip.open(tmp_path / "jobs.json.gz", "wb") as file:
        file.write(text)
    with gzip.open(tmp_path / "jobs.json.gz") as stream:
        converted = js.convert(stream, tmp_path / "out.parquet")
    assert converted.n_accepted == len(lines)
    assert converted.n_bytes == len(text)
    assert json.loads(lines[-1])["id"] == pl.read_parquet(converted.jobs)["job_id"][-1]


def test_a_full_temporary_disk_is_said_by_name(root, tmp_path):
    script = """
import resource, sys, tempfile
import jobstats as js
from jobstats import spool
spool.MOST_IN_MEMORY = 200
jobs = js.load("data/polls").jobs
resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
try:
    js.history(jobs.lazy()).collect()
except js.SourceError as error:
    print(str(error).startswith(f"{tempfile.gettempdir()}: cannot be written"))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert done.stdout == "True\n", done.stderr
