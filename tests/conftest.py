import gzip
import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import settings

import jobstats as js
from jobstats.cli import main

ROOT = Path(__file__).parents[1]
# How long an example takes says more of the machine than of the code.
settings.register_profile("jobstats", deadline=None)
settings.load_profile("jobstats")


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture
def run(capsys, monkeypatch, root):
    """The command line, from the root of the project: its exit code, output and messages."""
    monkeypatch.chdir(root)

    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


@pytest.fixture(scope="session")
def dump() -> js.Loaded:
    """Every job of a real queue at one moment."""
    return js.load(ROOT / "data/dump")


@pytest.fixture(scope="session")
def polls() -> js.Loaded:
    """What today's API showed of a real queue, polled for six minutes."""
    return js.load(ROOT / "data/polls")


@pytest.fixture(scope="session")
def lines() -> list[bytes]:
    """Real records as exported, one JSON text each."""
    with gzip.open(next((ROOT / "data/dump").glob("*.gz"))) as file:
        return file.read().splitlines()


@pytest.fixture(scope="session")
def truth_of_dump() -> pl.DataFrame:
    """The independent log of the queue behind the dump, a row a run."""
    return _truth("dump")


@pytest.fixture(scope="session")
def truth_of_polls() -> pl.DataFrame:
    """The independent log of the queue behind the polls, a row a run."""
    return _truth("polls")


def _truth(name: str) -> pl.DataFrame:
    with gzip.open(ROOT / f"tests/data/truth_{name}.ndjson.gz", "rt") as file:
        rows = pl.DataFrame([json.loads(line) for line in file], infer_schema_length=None)
    return rows.rename({"id": "job_id"}).with_columns(
        created_at=pl.col("timestamp").cast(pl.Datetime("ms")).dt.replace_time_zone("UTC")
    )
