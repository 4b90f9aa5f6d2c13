"""Other engines on the jobs table: SQL with DuckDB."""

import glob
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from jobstats.errors import ArgumentError
from jobstats.histories import history, is_history
from jobstats.ingest.loading import Loaded
from jobstats.parquet import read_rejects, rejects_of, scan_file
from jobstats.stores import Store
from jobstats.table import RECORD_SCHEMA

_OBSERVATIONS = "observations"
_ASKING = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN, duckdb.StatementType.MULTI)  # the last is pivot


def relation(jobs: Any) -> duckdb.DuckDBPyRelation:
    """A jobs table as a DuckDB relation, for the analyses.

    Args:
        jobs: A Polars frame, what :func:`jobstats.load` returned, a ``.parquet`` file or a store.

    Raises:
        SourceError: Nothing is at the path.
    """
    return _connect(jobs, "jobs").table("jobs")


def sql(jobs: Any, query: str) -> pl.DataFrame:
    """The answer to a SQL query on the tables below. DuckDB's dialect.

    ``jobs``: a row an observation. ``history``: a row a run, see :func:`jobstats.history`. ``rejects``: what was
    refused. Of a store also ``observations``: what the records said, straight from the files.

    Args:
        jobs: A Polars frame, what :func:`jobstats.load` returned, a ``.parquet`` file or a store.
        query: SQL that selects rows.

    Raises:
        ArgumentError: DuckDB refuses the query; its message says why.
        SourceError: Nothing is at the path.

    >>> import jobstats as js
    >>> loaded = js.load("data/dump")
    >>> js.sql(loaded, "select outcome, count(*) as n from history group by outcome order by n desc").row(0)
    ('completed', 1788)
    """
    try:
        connection = _connect(jobs, query)
        statements = connection.extract_statements(query)
        if len(statements) != 1 or statements[0].type not in _ASKING:
            raise ArgumentError("SQL: expected one statement that asks, such as select; nothing is changed or written")
        return connection.sql(query).pl()
    except duckdb.CatalogException as error:
        names = ", ".join(_tables(jobs))
        raise ArgumentError(
            f"SQL: {error}" + (f"; tables: {names}" if "Table with name" in str(error) else "")
        ) from None
    except duckdb.Error as error:
        is_wrong = isinstance(error, duckdb.ParserException | duckdb.BinderException)
        if not is_wrong and isinstance(jobs, str | os.PathLike) and Path(jobs).is_dir():
            Store(jobs).check()
        raise ArgumentError(f"SQL: {error}") from None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise ArgumentError(
            f"SQL: the answer holds a type or value that no table can; cast it to text: {error}"
        ) from None


def _connect(jobs: Any, query: str) -> duckdb.DuckDBPyConnection:
    """A connection with the tables that a query may name; those it does not are not worked out."""
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    for name, table in _tables(jobs).items():
        if re.search(rf"\b({name}|show|information_schema)\b", query, re.IGNORECASE):
            found = table()
            if isinstance(found, list):
                files = connection.read_parquet([glob.escape(str(path)) for path in found], union_by_name=True)
                (files.select(*RECORD_SCHEMA.names()) if name == _OBSERVATIONS else files).create_view(name)
            else:
                connection.register(name, found.lazy().collect().to_arrow())
    return connection


def _tables(jobs: Any) -> dict[str, Callable[[], pl.DataFrame | pl.LazyFrame | list[Path]]]:
    """Tables by name, each worked out when it is asked for: a frame, or the files that hold it."""
    if not isinstance(jobs, str | os.PathLike):
        loaded = Loaded.of(jobs)
        return {
            "jobs": lambda: loaded.jobs,
            "rejects": lambda: loaded.rejects,
            "history": lambda: _runs(loaded.jobs.lazy()),
        }
    if Path(jobs).is_dir():
        store = Store(jobs)
        store.require()
        return {
            "jobs": store.scan,
            "rejects": store.rejects,
            "history": lambda: history(store.scan()),
            _OBSERVATIONS: lambda: store.parts() or store.scan().select(RECORD_SCHEMA.names()),
        }
    table, rejects = scan_file(jobs), rejects_of(jobs)
    return {
        "jobs": lambda: [Path(jobs)],
        "history": lambda: _runs(table),
        "rejects": lambda: [rejects] if rejects.exists() else read_rejects(rejects),
    }


def _runs(jobs: pl.LazyFrame) -> pl.LazyFrame:
    """A history as it is, or that of a jobs table."""
    return jobs if is_history(jobs) else history(jobs)
