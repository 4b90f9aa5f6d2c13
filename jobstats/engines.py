"""Other engines on the jobs table: SQL with DuckDB."""

import glob
import os
from typing import Any

import duckdb
import polars as pl

from jobstats.errors import ArgumentError
from jobstats.ingest.loading import Loaded
from jobstats.store import places, scan

_ASKING = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN, duckdb.StatementType.MULTI)  # the last is pivot


def relation(jobs: Any) -> duckdb.DuckDBPyRelation:
    """A jobs table as a DuckDB relation, for the analyses: from a frame, or the path :func:`jobstats.write` wrote to.

    Raises:
        SourceError: Nothing is at the path.
    """
    return _connect(jobs).table("jobs")


def sql(jobs: Any, query: str) -> pl.DataFrame:
    """The answer to a SQL query on the table ``jobs``, and on ``rejects``. DuckDB's dialect.

    Args:
        jobs: A Polars frame, what :func:`jobstats.load` returned, or the path :func:`jobstats.write` wrote to.
        query: SQL that selects rows.

    Raises:
        ArgumentError: DuckDB refuses the query; its message says why.
        SourceError: Nothing is at the path.

    >>> import jobstats as js
    >>> loaded = js.load("data/dump")
    >>> js.sql(loaded, "select state, count(*) as n from jobs where is_latest group by state order by n desc").row(0)
    ('completed', 1788)
    """
    try:
        connection = _connect(jobs)
        statements = connection.extract_statements(query)
        if len(statements) != 1 or statements[0].type not in _ASKING:
            raise ArgumentError("SQL: expected one statement that asks, such as select; nothing is changed or written")
        return connection.sql(query).pl()
    except duckdb.Error as error:
        raise ArgumentError(f"SQL: {error}") from None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise ArgumentError(
            f"SQL: the answer holds a type or value that no table can; cast it to text: {error}"
        ) from None


def _connect(jobs: Any) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    if isinstance(jobs, str | os.PathLike):
        scan(jobs)  # refuses what is not a jobs table, by name
        for name, path in zip(("jobs", "rejects"), places(jobs), strict=True):
            if path.exists():
                connection.read_parquet(glob.escape(str(path))).create_view(name)
        return connection
    loaded = Loaded.of(jobs)
    connection.register("jobs", loaded.jobs.to_arrow())
    connection.register("rejects", loaded.rejects.to_arrow())
    return connection
