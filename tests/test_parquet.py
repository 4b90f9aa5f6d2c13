import os
import subprocess
import sys

import polars as pl
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

import jobstats as js
from jobstats.engines import relation
from jobstats.table import COLUMNS

from .factories import record


@pytest.fixture
def written(tmp_path):
    loaded = js.load([record(), {"name": "bad"}])
    return loaded, js.write(loaded, tmp_path / "store/jobs.parquet")


def test_what_was_written_is_read_again(written, tmp_path, dump):
    loaded, path = written
    again = js.read(path)
    assert_frame_equal(again.jobs, loaded.jobs)
    assert_frame_equal(again.rejects, loaded.rejects)
    assert path == tmp_path / "store/jobs.parquet"
    js.write(dump, tmp_path / "one.parquet")
    assert_frame_equal(js.scan(tmp_path / "one.parquet").collect(), dump.jobs)
    assert (tmp_path / "one.rejects.parquet").exists()


def test_the_path_that_is_printed_leads_to_the_rejects_too(written):
    assert len(js.read(written[1]).rejects) == 1


def test_a_selection_can_be_written_and_asked(dump, tmp_path):
    drive = dump.jobs.filter(pl.col("connector") == "Drive")
    path = js.write(drive, tmp_path / "drive.parquet")
    assert js.sql(drive, "select count(*) from jobs").item() == len(js.read(path).jobs) == len(drive)
    assert js.sql((drive, dump.rejects), "select count(*) from rejects").item() == 0


@pytest.mark.parametrize("wrong", [5, (1, 2), {"jobs": 1}])
def test_what_was_not_loaded_is_refused(wrong, tmp_path):
    for function in (
        lambda: js.write(wrong, tmp_path / "x.parquet"),
        lambda: js.sql(wrong, "select 1"),
        lambda: js.write_report(wrong, tmp_path),
    ):
        with pytest.raises(js.ArgumentError, match="expected what load returned"):
            function()


def test_another_kind_of_file_is_not_written(written, tmp_path):
    for name in ("jobs.csv", "folder"):
        with pytest.raises(js.ArgumentError, match=r"written to a \.parquet file"):
            js.write(written[0], tmp_path / name)


def test_a_jobs_table_is_no_export(written):
    _, rejects = js.load(written[1])
    assert rejects["reason"].to_list() == ["Parquet, not an export; a jobs table is read with jobstats.read"]


@pytest.mark.parametrize("name", ["star*", "a[1]", "q?", "plain"])
def test_names_that_look_like_patterns_are_names(tmp_path, name):
    js.write(js.load([record()]), tmp_path / "star1.parquet")
    js.store(tmp_path / "star1").append([record()])
    js.store(tmp_path / name).append([record(), record(id="2")])
    for path in (js.write(js.load([record(), record(id="2")]), tmp_path / f"{name}.parquet"), tmp_path / name):
        assert len(js.read(path).jobs) == 2
        assert js.sql(path, "select count(*) from jobs").item() == 2


def test_damaged_tables_are_refused_by_name(written, tmp_path, dump):
    rejects = tmp_path / "store/jobs.rejects.parquet"
    rejects.write_bytes(b"PAR1 no more PAR1")
    with pytest.raises(js.TableError, match=r"rejects\.parquet: not a Parquet file"):
        js.read(written[1])
    with pytest.raises(js.ArgumentError, match="SQL: "):
        js.sql(written[1], "select * from rejects")
    dump.jobs.with_columns(pl.col("queue_latency_ms").cast(pl.String)).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(js.TableError, match="queue_latency_ms is String, expected Int64"):
        js.read(tmp_path / "x.parquet")


@pytest.mark.parametrize(
    "query", ["select finished_at - processed_at as d from jobs", "select union_value(a := 1) as u"]
)
def test_answers_no_table_can_hold_are_an_error(written, query):
    with pytest.raises(js.ArgumentError, match="cast it to text"):
        js.sql(written[0], query)


def test_files_can_be_read_by_others_and_leave_nothing_behind(written, tmp_path, monkeypatch):
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "store").iterdir()} == {0o644}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(js.SourceError, match="No space left on device"):
        js.write(written[0], written[1])
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["jobs.parquet", "jobs.rejects.parquet"]


@pytest.mark.parametrize(
    "query", ["copy (select 1) to '{tmp}/x.csv'", "create table t (a int)", "select 1; select 2", "set threads = 1"]
)
def test_sql_asks_and_changes_nothing(written, tmp_path, query):
    with pytest.raises(js.ArgumentError, match="expected one statement that asks"):
        js.sql(written[0], query.replace("{tmp}", str(tmp_path)))
    assert not (tmp_path / "x.csv").exists()


def test_every_parquet_reader_sees_the_same_instants(written):
    loaded, path = written
    created = loaded.jobs["created_at"][0]
    assert pq.read_table(path)["created_at"][0].as_py() == created
    assert pl.read_parquet(path)["created_at"][0] == created
    assert js.sql(path, "select epoch_ms(created_at) from jobs").item() == record()["timestamp"]
    assert relation(path).aggregate("epoch_ms(max(created_at)) as x").pl().item() == record()["timestamp"]


def test_columns_carry_their_meaning(written):
    schema = pq.read_schema(written[1])
    assert schema.metadata[b"jobstats_format"] == b"2"
    for column in COLUMNS:
        assert schema.field(column.name).metadata == {
            b"unit": column.unit.encode(),
            b"description": column.description.encode(),
        }


def test_sql_sees_jobs_history_and_rejects(written):
    for source in written:
        query = "select (select count(*) from jobs) + (select count(*) from history) + (select count(*) from rejects)"
        assert js.sql(source, query).item() == 3


def test_hours_in_sql_are_utc_in_any_zone(written):
    script = "import sys, jobstats as js; print(js.sql(sys.argv[1], \"select strftime(date_trunc('hour', created_at), '%H') h from jobs\").item())"
    environment = os.environ | {"TZ": "America/New_York"}
    answer = subprocess.run(
        [sys.executable, "-c", script, str(written[1])], env=environment, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "14"


@pytest.mark.parametrize("query", ["selec 1", "select * from nowhere", "", "select 1 +"])
def test_a_query_that_is_none_is_refused(written, query):
    with pytest.raises(js.ArgumentError, match="SQL: "):
        js.sql(written[0], query)


def test_what_is_no_store_is_refused(tmp_path):
    with pytest.raises(js.SourceError, match="no such file"):
        js.scan(tmp_path / "nope.parquet")
    (tmp_path / "text.parquet").write_text("text")
    with pytest.raises(js.TableError, match="not a Parquet file"):
        js.scan(tmp_path / "text.parquet")
    pl.DataFrame({"x": [1]}).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(js.TableError, match="not a jobs table, it lacks job_id"):
        js.scan(tmp_path / "other.parquet")


def test_a_newer_format_is_refused(written):
    table = pq.read_table(written[1])
    pq.write_table(table.replace_schema_metadata({"jobstats_format": "3"}), written[1])
    with pytest.raises(js.TableError, match="upgrade jobstats"):
        js.scan(written[1])


def test_a_place_that_cannot_be_written_is_an_error_and_leaves_nothing(written, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(js.SourceError, match="cannot be written"):
        js.write(written[0], tmp_path / "file/below.parquet")
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["jobs.parquet", "jobs.rejects.parquet"]
