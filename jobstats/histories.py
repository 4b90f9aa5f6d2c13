"""Many observations, one history: a row a run, with the best that all its observations say."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TypeVar

import polars as pl
from polars.io.plugins import register_io_source

from jobstats.ends import fold
from jobstats.errors import ArgumentError, TableError
from jobstats.spool import SeriesSpool, Spool, batches
from jobstats.table import HISTORY_SCHEMA, RECORD_SCHEMA, SCHEMA

Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)


def history(jobs: Frame) -> Frame:
    """What a series of observations says about each run: a row a run, with the best that any of them knows.

    A run is one job created at one time by an organisation (``org_id``, ``job_id``, ``created_at``). Of all records
    of a run the newest gives what was exported; due time, first start, wait and suspected stalls rest on all its
    records and on the other runs of its schedule, as in :mod:`jobstats.timing`; unseen ends on the lists that leave it
    out, as in :mod:`jobstats.ends`. A history depends on the set of observations alone: not on their order, on
    how they were split into exports, or on how often each was loaded.

    Args:
        jobs: Observations: a jobs table of one or many exports, not filtered by ``is_latest``. Only the columns that
            were exported count; times are recovered anew. A lazy frame may be larger than memory; what does not fit
            waits on disk, and it must give its rows in the same order each time.

    Returns:
        The columns of the jobs table, ``n_observations``, ``first_seen_at``, ``last_seen_at``, ``n_starts`` (different
        starts known of), ``outcome`` (completed, failed, ended_unseen, or null while no end is known),
        ``ended_after_at`` and ``ended_before_at`` (bounds of an end that was not seen), ``is_failure_ruled_out`` and
        ``is_retry_ruled_out`` (of these ends). A frame is sorted by ``created_at``, ``org_id`` and ``job_id``; a lazy
        one has no order.

    Raises:
        ArgumentError: ``jobs`` is no Polars frame, a history already, or gives other rows when collected again.
        TableError: ``jobs`` is not a jobs table.

    >>> import jobstats as js
    >>> jobs, rejects = js.load("data/polls")
    >>> runs = history(jobs)
    >>> len(jobs), len(runs), runs["n_observations"].max()
    (2302, 503, 36)
    >>> runs["outcome"].value_counts(sort=True).row(0)
    ('ended_unseen', 340)
    """
    if isinstance(jobs, pl.DataFrame):
        return fold(exported(jobs.lazy()).collect())
    if not isinstance(jobs, pl.LazyFrame):
        raise ArgumentError(f"history takes a Polars jobs table; found {type(jobs).__name__}")
    observations = exported(jobs)

    def runs() -> Iterator[pl.DataFrame]:
        with SeriesSpool(Path(tempfile.gettempdir()), lambda: batches(observations)) as spool:
            for batch in batches(observations):
                spool.add(batch)
            yield from spool.runs()

    return streamed(runs, HISTORY_SCHEMA)


def is_history(jobs: pl.DataFrame | pl.LazyFrame) -> bool:
    """Whether a jobs table is a history: a row a run."""
    return "n_observations" in jobs.lazy().collect_schema()


def timed(observations: pl.LazyFrame, explained: Callable[[], AbstractContextManager[None]]) -> pl.LazyFrame:
    """The jobs table of observations on disk, which may be larger than memory.

    What a query asks of the exported columns alone is asked of the files; times are worked out when they are asked for.

    Args:
        observations: The exported columns.
        explained: What is around each reading of them, to say what cannot be read.
    """

    def jobs() -> Iterator[pl.DataFrame]:
        with Spool(Path(tempfile.gettempdir()), lambda: batches(observations)) as spool:
            for batch in batches(observations):
                spool.add(batch)
            yield from spool.jobs()

    return streamed(jobs, SCHEMA, observations, explained)


def streamed(
    pieces: Callable[[], Iterator[pl.DataFrame]],
    schema: pl.Schema,
    direct: pl.LazyFrame | None = None,
    explained: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> pl.LazyFrame:
    """A lazy frame of pieces that are made when it is collected.

    Args:
        pieces: Makes them.
        schema: Their columns.
        direct: A frame to ask instead when only columns are wanted that it has.
        explained: What is around the making.
    """

    def source(
        columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        # Polars asks for the first rows before it filters. A query for no column still asks how many rows there are.
        names = schema.names() if columns is None else columns
        asked = {*names, *(predicate.meta.root_names() if predicate is not None else ())}
        left = n_rows
        with explained():
            if direct is not None and asked <= set(direct.collect_schema().names()):
                some = direct if n_rows is None else direct.head(n_rows)
                some = some if predicate is None else some.filter(predicate)
                yield from (_only(names, found) for found in batches(some.select(names or schema.names()[0])))
                return
            for piece in pieces():
                first = piece if left is None else piece.head(left)
                yield _only(names, first if predicate is None else first.filter(predicate))
                if left is not None and (left := left - len(first)) <= 0:
                    return

    return register_io_source(source, schema=schema, is_pure=True)


def _only(names: list[str], rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(names) if names else pl.DataFrame(height=len(rows))


def exported(jobs: pl.LazyFrame) -> pl.LazyFrame:
    """The columns of a jobs table that were exported.

    Raises:
        ArgumentError: It is a history.
        TableError: It is not a jobs table.
    """
    found = jobs.collect_schema()
    if is_history(jobs):
        raise ArgumentError("this is a history already, a row a run; history takes the observations it was made of")
    for name, dtype in RECORD_SCHEMA.items():
        if found.get(name) != dtype:
            what = f"{name} is {found[name]}, expected {dtype}" if name in found else f"it lacks {name}"
            raise TableError(f"not a jobs table: {what}; load the export with jobstats first")
    return jobs.select(RECORD_SCHEMA.names())
