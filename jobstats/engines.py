"""Other engines on the jobs table: SQL with DuckDB."""

import os
from typing import Any

import duckdb
import polars as pl

from jobstats.errors import ArgumentError
from jobstats.store import scan


def relation(jobs: Any) -> duckdb.DuckDBPyRelation:
    """A jobs table as a DuckDB relation named ``jobs``, from a frame or the path of a Parquet file or folder."""
    return _connect(jobs).table("jobs")


def sql(jobs: Any, query: str) -> pl.DataFrame:
    """The answer to a SQL query on the table ``jobs``, in DuckDB's dialect.

    Args:
        jobs: A Polars frame, or the path of a Parquet file or folder.
        query: SQL that names the table ``jobs``.

    Raises:
        ArgumentError: DuckDB refuses the query; its message says why.
        SourceError: Nothing is at the path.

    >>> import jobstats as js
    >>> jobs, rejects = js.load("data/dump")
    >>> js.sql(jobs, "select state, count(*) as n from jobs where is_latest group by state order by n desc").row(0)
    ('completed', 1788)
    """
    try:
        result = _connect(jobs).sql(query)
    except duckdb.Error as error:
        raise ArgumentError(f"SQL: {error}") from None
    if result is None:
        raise ArgumentError("SQL: the statement returns no rows; ask with select")
    try:
        return result.pl()
    except duckdb.Error as error:
        raise ArgumentError(f"SQL: {error}") from None


def _connect(jobs: Any) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    frame = scan(jobs) if isinstance(jobs, str | os.PathLike) else jobs
    arrow = frame.lazy().collect().to_arrow()
    connection.register("jobs", arrow)
    return connection
