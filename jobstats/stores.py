"""A store: observations of many exports in a folder of Parquet files that anyone can query with any Parquet tool.

::

    crawls/
      observations/observed_on=2026-11-23/<hash>.parquet    what records said, and when they were seen
      rejects/<hash>.parquet                                what was refused, and why

Parts are named by what they hold, written aside and renamed into place, and never changed: a reader sees a part as a
whole or not at all, whatever stops the writer. What was exported is kept, not what was concluded from it: times are
recovered from all observations when they are asked for, so that an export that comes later completes earlier ones.

An observation is what a record says, when it was seen, and in which file. Where the file lies does not count, nor
whether it is compressed, so the same export from another place adds nothing. Its name does: which records a file
holds together tells whether it is a whole list.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl
from filelock import FileLock, Timeout

from jobstats.errors import ArgumentError, SourceError, TableError
from jobstats.histories import exported, timed
from jobstats.ingest.loading import Loaded, Tally, records, refuse_empty
from jobstats.ingest.rejects import SCHEMA as REJECTS_SCHEMA
from jobstats.ingest.sources import Progress
from jobstats.moments import Moment, window
from jobstats.parquet import (
    Read,
    check,
    check_writable,
    read_rejects,
    rejects_of,
    scan_file,
    whole,
)
from jobstats.parts import ID, UNDATED, Staging, groups, identified, merge, naming, parts_in, put, scanned, seen_at
from jobstats.spool import batches, writing
from jobstats.table import RECORD_SCHEMA

_OBSERVATIONS, _REJECTS, _DAY = "observations", "rejects", "observed_on="
_OLD_JOBS, _OLD_REJECTS = "jobs.parquet", "rejects.parquet"
_OTHER_KINDS = (".csv", ".json", ".ndjson", ".jsonl", ".gz", ".zst", ".html", ".xlsx", ".db", ".arrow")
_IS_DAY = re.compile(rf"{_DAY}(\d{{4}}-\d\d-\d\d|{UNDATED})")
_MOST_KNOWN = 1_000_000
_LOCK, _STAGING, _OWNER = ".lock", ".staging-", "owner.lock"


@dataclass(frozen=True, kw_only=True)
class Appended(Read):
    """What :meth:`Store.append` read, and what of it was new."""

    n_new: int
    """Observations that the store did not hold."""
    n_new_rejects: int


@dataclass(frozen=True)
class Compacted:
    """How many parts there were before and after :meth:`Store.compact`, and the observations that were there twice."""

    n_parts_before: int
    n_parts: int
    n_duplicates: int


class Store:
    """Observations of many exports in a folder; see :func:`store`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not isinstance(path, str | os.PathLike) or not os.fspath(path):
            raise ArgumentError(f"a store is at a path; found {path!r}")
        self.path = Path(path)
        if self.path.suffix == ".parquet":
            raise ArgumentError(f"{self.path}: a store is a folder; one jobs table is read with jobstats.scan")
        if self.path.suffix in _OTHER_KINDS and not self.path.is_dir():
            raise ArgumentError(
                f"{self.path}: jobs are written as Parquet; name a .parquet file, or a folder for a store"
            )
        if self.path.exists() and not self.path.is_dir():
            raise SourceError(f"{self.path}: a store is a folder, this is a file")

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    def append(self, source: Any, *, observed_at: datetime | None = None, progress: Progress | None = None) -> Appended:
        """Add the observations of an export that the store does not hold yet, and its rejects.

        Observations are compared with those of the same times alone, so the cost is that of the export, not of the
        store. What stops it leaves the store as it was, or with some of the days added; appending again completes it.
        Several may append at once.

        Args:
            source: As for :func:`jobstats.load`; or what that returned, or a jobs table, such as another store's.
            observed_at: When the records were seen, as for :func:`jobstats.load`. Without it, and without a time in
                the name of the file, a file that is copied counts as seen anew.
            progress: Called with the bytes read and the bytes known so far, of all files together.

        Raises:
            SourceError: A source does not exist, holds no record that can be accepted (then nothing is added), or the
                store cannot be written.
            TableError: A part of the days in question is damaged, or of a newer version of jobstats.
        """
        tally = Tally()
        stream = _batches(source, tally, observed_at, progress)
        first = next(stream, None)  # what cannot be read at all says so before anything is made here
        with writing(self.path), self._staging() as staging:
            for accepted, refused in chain([first] if first else [], stream):
                staging.add(accepted, refused)
            refuse_empty(staging.n_accepted, next(staging.rejects()), source)
            reasons = staging.reasons()
            with self._locked():
                n_new = sum(self._add_day(day, pieces, times) for day, pieces, times in staging.days())
                n_new_rejects = sum(map(self._add_rejects, staging.rejects()))
        return Appended(
            n_accepted=staging.n_accepted,
            n_new=n_new,
            n_rejected=staging.n_rejected,
            n_new_rejects=n_new_rejects,
            reasons=reasons,
            **tally.counts(),
        )

    def scan(self, *, since: Moment = None, until: Moment = None) -> pl.LazyFrame:
        """The jobs table of all observations, lazily, as :func:`jobstats.load` would give it for all exports together.

        Args:
            since: Only what was seen at or after this; a datetime, ISO text, or an age such as ``"7d"``, counted back
                from the newest observation. Days outside are not read, and nothing is concluded from them.
            until: Only what was seen before this.

        Returns:
            The columns of the jobs table. A query that asks for exported columns alone reads these from the files;
            times are worked out from all observations in the window when they are asked for.

        Raises:
            ArgumentError: A time that cannot be read.
            SourceError: There is no store.
            TableError: A part is damaged, or of a newer version of jobstats.
        """
        parts = self._within(since, until)
        return timed(_in_window(*parts), partial(naming, parts[0]))

    def parts(self) -> list[Path]:
        """The Parquet files that hold the observations.

        Raises:
            SourceError: There is no store.
            TableError: A part is damaged, or of a newer version of jobstats.
        """
        self.require()
        return [*self._old(), *(part for day in self._days() for part in parts_in(day))]

    def check(self) -> None:
        """Read every part.

        Raises:
            SourceError: There is no store.
            TableError: A part is damaged; it is named.
        """
        for part in self.parts():
            whole(part, RECORD_SCHEMA)

    def rejects(self) -> pl.DataFrame:
        """The rejects of all exports.

        Raises:
            SourceError: There is no store.
            TableError: A part is damaged.
        """
        self.require()
        old = read_rejects(self.path / _OLD_REJECTS)
        return pl.concat(
            [old, *(whole(part, REJECTS_SCHEMA) for part in parts_in(self.path / _REJECTS, REJECTS_SCHEMA))]
        )

    def compact(self) -> Compacted:
        """Merge the small parts of each day, and those of the rejects, and drop what two of them hold alike.

        Each append leaves at least one part a day, and each part costs a query a look. Readers that are at work while
        parts are merged may find one gone and have to ask again.

        Raises:
            SourceError: There is no store, or it cannot be written.
            TableError: A part is damaged, or of a newer version of jobstats.
        """
        self.require()
        n_before = n_after = n_duplicates = 0
        with writing(self.path), self._locked():
            for folder in [*self._days(), self.path / _REJECTS]:
                schema = REJECTS_SCHEMA if folder.name == _REJECTS else RECORD_SCHEMA
                parts = parts_in(folder, schema)
                n_before += len(parts)
                # Merged, or half written, by one that was stopped then.
                for left in {*folder.glob("*.parquet"), *folder.glob(".*")} - set(parts):
                    left.unlink()
                n_after += len(parts)
                for group in groups(parts):
                    n_duplicates += merge(group, schema)
                    n_after -= len(group) - 1
        return Compacted(n_before, n_after, n_duplicates)

    def require(self) -> None:
        """Raise a SourceError unless there is a store."""
        if not is_store(self.path):
            raise SourceError(f"{self.path}: no store is there; make one with jobstats load … --to {self.path}")

    # ---- parts ------------------------------------------------------------------------------------------------------

    def _days(self) -> list[Path]:
        """The folders that hold parts."""
        days = (self.path / _OBSERVATIONS).glob(f"{_DAY}*")
        return sorted(day for day in days if _IS_DAY.fullmatch(day.name) and any(day.glob("*.parquet")))

    def _within(self, since: Moment, until: Moment) -> tuple[list[Path], datetime | None, datetime | None]:
        """The parts that may hold what was seen in a window, and the window."""
        self.require()
        first, last = window(since, until, self._newest)
        parts = (part for day in self._days() if _overlaps(day, first, last) for part in parts_in(day))
        return [*self._old(), *parts], first, last

    def _old(self) -> list[Path]:
        """The one file that a folder held in format 1."""
        old = self.path / _OLD_JOBS
        if not old.exists():
            return []
        check(old, RECORD_SCHEMA)
        return [old]

    def _newest(self) -> datetime | None:
        dated = [day for day in self._days() if day.name != _DAY + UNDATED]
        parts = [*self._old(), *(parts_in(dated[-1]) if dated else [])]
        if not parts:
            return None
        with naming(parts):
            newest: datetime | None = scanned(parts, RECORD_SCHEMA).select(pl.col("observed_at").max()).collect().item()
        return newest

    def _add_day(self, day: str, pieces: Iterator[pl.DataFrame], times: pl.Series) -> int:
        """Add the observations of one day that are not there, and say how many these are."""
        folder, n_new = self.path / _OBSERVATIONS / (_DAY + day), 0
        for left in folder.glob(".*"):  # by a writer that was killed: nobody else is writing now
            left.unlink()
        known = [identified(batch).select(ID) for batch in seen_at(times, [*self._old(), *parts_in(folder)])]
        for piece in pieces:
            found = identified(piece).unique(ID, keep="first", maintain_order=True)
            held = [some.join(found, on=ID, how="semi") for some in known]  # looks up the many in the few
            new = found.join(pl.concat(held), on=ID, how="anti", maintain_order="left") if held else found
            if len(new):
                put(folder, new, RECORD_SCHEMA)
                small = known.pop() if known and len(known[-1]) < _MOST_KNOWN else new.select(ID).clear()
                known.append(pl.concat([small, new.select(ID)]))
            n_new += len(new)
        return n_new

    def _add_rejects(self, found: pl.DataFrame) -> int:
        """Add the rejects that are not there, and say how many these are."""
        folder = self.path / _REJECTS
        sources = found["source"].unique().implode()
        old = self.path / _OLD_REJECTS
        parts = [*([old] if old.exists() else []), *parts_in(folder, REJECTS_SCHEMA)]
        if parts and len(found):
            same = pl.col("source").is_in(sources, nulls_equal=True)
            with naming(parts, REJECTS_SCHEMA):
                there = scanned(parts, REJECTS_SCHEMA).filter(same).collect()
            found = found.join(there, on=found.columns, how="anti", nulls_equal=True, maintain_order="left")
        if len(found):
            put(folder, found, REJECTS_SCHEMA)
        return len(found)

    # ---- who writes -------------------------------------------------------------------------------------------------

    def _locked(self) -> FileLock:
        """One process at a time. The system lets go of the lock when a process ends, however it does."""
        return FileLock(self.path / _LOCK)

    @contextmanager
    def _staging(self) -> Iterator[Staging]:
        """A place for what is read, which no other process takes for one that was left behind."""
        check_writable(self.path)
        is_new = not self.path.exists()
        self.path.mkdir(parents=True, exist_ok=True)
        with self._locked():
            for left in self.path.glob(_STAGING + "*"):
                with suppress(Timeout, OSError), FileLock(left / _OWNER, timeout=0):  # or it goes just now
                    shutil.rmtree(left, ignore_errors=True)
            folder = Path(tempfile.mkdtemp(dir=self.path, prefix=_STAGING))
            owner = FileLock(folder / _OWNER)
            owner.acquire()
        try:
            yield Staging(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            owner.release()
            if is_new and {entry.name for entry in self.path.iterdir()} <= {_LOCK}:
                shutil.rmtree(self.path, ignore_errors=True)


def store(path: str | os.PathLike[str]) -> Store:
    """Observations of many exports in a folder of Parquet files, which grows night after night.

    A store is for one queue. What is concluded of a run rests on what else was seen, and lists of another queue would
    say of its runs that they are gone.

    Args:
        path: The folder; it is made by the first :meth:`Store.append`.

    Returns:
        A :class:`Store`: ``append(source)`` adds an export, ``scan()`` is the jobs table of all of them, lazily,
        ``rejects()`` what was refused, and ``compact()`` merges small files. A row a run is
        ``jobstats.history(store.scan())``.

    Raises:
        ArgumentError: The path is named like a file.
        SourceError: The path is a file.

    >>> import tempfile
    >>> crawls = store(tempfile.mkdtemp())
    >>> crawls.append("data/polls").n_new, crawls.append("data/polls").n_new
    (2302, 0)
    >>> crawls.scan().select("connector").collect().height
    2302
    """
    return Store(path)


def scan(path: str | os.PathLike[str]) -> pl.LazyFrame:
    """The jobs table in a store or a Parquet file, lazily: only what a query needs is read.

    Raises:
        SourceError: Nothing is there.
        TableError: It is not a jobs table, or one of a newer version of jobstats.
    """
    return Store(path).scan() if _is_folder(path) else scan_file(path)


def read(path: str | os.PathLike[str]) -> Loaded:
    """The jobs table and the rejects in a store or a Parquet file, in memory.

    Raises:
        SourceError: Nothing is there.
        TableError: It is not a jobs table, or one of a newer version of jobstats.
    """
    jobs = scan(path).collect()
    return Loaded(jobs, rejects(path), n_files=1)


def rejects(path: str | os.PathLike[str]) -> pl.DataFrame:
    """The rejects in a store, or beside a Parquet file.

    Raises:
        SourceError: There is no store.
        TableError: A file of them is damaged.
    """
    return Store(path).rejects() if _is_folder(path) else read_rejects(rejects_of(path))


def _is_folder(path: str | os.PathLike[str]) -> bool:
    if not isinstance(path, str | os.PathLike):
        raise ArgumentError(f"expected the path of a store or a .parquet file; found {type(path).__name__}")
    return Path(path).is_dir()


def is_written(path: str | os.PathLike[str]) -> bool:
    """Whether a path is something :func:`read` reads, or would, rather than an export."""
    return Path(path).suffix == ".parquet" or is_store(path)


def is_store(path: str | os.PathLike[str]) -> bool:
    """Whether a folder holds what :meth:`Store.append` writes, or what format 1 did."""
    return any((Path(path) / name).exists() for name in (_OBSERVATIONS, _OLD_JOBS))


def _batches(
    source: Any, tally: Tally, observed_at: datetime | None, progress: Progress | None
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Records and rejects of a source, or of what was loaded already."""
    if isinstance(source, Loaded | pl.DataFrame | pl.LazyFrame):
        rejects = pl.DataFrame(schema=REJECTS_SCHEMA)
        if isinstance(source, Loaded):
            tally.n_files, tally.n_bytes = source.n_files, source.n_bytes
            tally.n_without_records, tally.skipped = source.n_without_records, list(source.skipped)
            source, rejects = source
        for batch in batches(exported(source.lazy())):
            if not batch["observed_at"].drop_nulls().dt.year().is_between(1, 9999).all():
                raise TableError("observed_at: a time outside the calendar")
            yield batch, rejects
            rejects = rejects.clear()
        if len(rejects):
            yield pl.DataFrame(schema=RECORD_SCHEMA), rejects
        return
    for judged in records(source, tally, observed_at=observed_at, progress=progress):
        yield judged.records, judged.rejects


def _overlaps(day: Path, since: datetime | None, until: datetime | None) -> bool:
    """Whether something seen on that day may lie in the window."""
    name = day.name.removeprefix(_DAY)
    if since is None and until is None:
        return True
    if name == UNDATED:
        return False
    return (since is None or since.date().isoformat() <= name) and (until is None or name <= until.date().isoformat())


def _in_window(parts: list[Path], since: datetime | None, until: datetime | None) -> pl.LazyFrame:
    found = scanned(parts, RECORD_SCHEMA) if parts else pl.LazyFrame(schema=RECORD_SCHEMA)
    if since is not None:
        found = found.filter(pl.col("observed_at") >= since)
    return found if until is None else found.filter(pl.col("observed_at") < until)
