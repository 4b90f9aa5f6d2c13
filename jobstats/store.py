"""The jobs table as Parquet: one file anyone can query with any Parquet tool, and the rejects beside it."""

import errno
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
from polars.io.plugins import register_io_source

from jobstats.errors import ArgumentError, SourceError, TableError
from jobstats.ingest.loading import Loaded, Tally, records, refuse_empty
from jobstats.ingest.rejects import SCHEMA as REJECTS_SCHEMA
from jobstats.ingest.sources import Progress
from jobstats.spool import Spool
from jobstats.table import FORMAT_VERSION, SCHEMA, check_columns, described

_JOBS, _REJECTS = "jobs.parquet", "rejects.parquet"
_OTHER_KINDS = (".csv", ".json", ".ndjson", ".jsonl", ".gz", ".zst", ".html", ".xlsx", ".db", ".arrow")
_ROWS_PER_GROUP = 122_880
"""As many as DuckDB writes, and reads at a time: small enough to skip, large enough to compress."""


def write(loaded: Loaded | pl.DataFrame, to: str | os.PathLike[str]) -> Path:
    """Write jobs and rejects as Parquet and return the path of the jobs.

    Args:
        loaded: What :func:`jobstats.load` returned, or a jobs table.
        to: A ``.parquet`` file, with the rejects beside it as ``<name>.rejects.parquet``; or a folder, made when
            missing, for ``jobs.parquet`` and ``rejects.parquet``. What is there is replaced, each file at once.

    Raises:
        ArgumentError: ``loaded`` is something else, or the name is that of another kind of file.
        SourceError: The place cannot be written.
    """
    loaded = Loaded.of(loaded)
    jobs_path, rejects_path = _targets(to)
    with writing(to):
        replace_file(rejects_path, partial(_write_parquet, [loaded.rejects], loaded.rejects.schema))
        replace_file(jobs_path, partial(_write_parquet, [loaded.jobs], loaded.jobs.schema))
    return jobs_path


@dataclass(frozen=True)
class Converted:
    """What :func:`convert` wrote, and where."""

    jobs: Path
    rejects: Path
    n_accepted: int
    n_rejected: int
    n_files: int
    n_bytes: int
    """Bytes of these files, compressed as they are; of a stream, as they come out of it."""
    n_without_records: int
    """Envelopes that answer without records."""
    skipped: tuple[str, ...]
    """Files of a folder that are not named like exports."""

    @property
    def n_records(self) -> int:
        """Records in: accepted and rejected."""
        return self.n_accepted + self.n_rejected


def convert(
    source: Any,
    to: str | os.PathLike[str],
    *,
    observed_at: datetime | None = None,
    progress: Progress | None = None,
) -> Converted:
    """Load exports of any size and write them as :func:`write` does, without holding more than a part in memory.

    Args:
        source: As for :func:`jobstats.load`. A stream, such as ``sys.stdin.buffer``, is read as it comes.
        to: A ``.parquet`` file, with the rejects beside it as ``<name>.rejects.parquet``; or a folder, made when
            missing, for ``jobs.parquet`` and ``rejects.parquet``. What is there is replaced when all is read. Beside
            it there must be room for the records while they are sorted out.
        observed_at: When the records were seen, as for :func:`jobstats.load`; of a stream nothing else says it.
        progress: Called with the bytes read and the bytes known so far, of all files together, as they are stored.

    Returns:
        The paths of jobs and rejects, and how many records, files and bytes there were.

    Raises:
        ArgumentError: ``to`` is the name of another kind of file.
        SourceError: A source does not exist, holds no record that can be accepted (then nothing is written), or the
            place cannot be written.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> convert("data/dump", folder).n_accepted
    2219
    >>> scan(folder).select("connector").collect().height
    2219
    """
    jobs_path, rejects_path = _targets(to)
    tally = Tally()
    with writing(to), Spool(jobs_path.parent) as spool:
        _check_writable(jobs_path.parent)
        for judged in records(source, tally, observed_at=observed_at, progress=progress):
            spool.add(judged.records, judged.rejects)
        refuse_empty(len(spool), next(spool.rejects()), source)
        replace_file(rejects_path, partial(_write_parquet, spool.rejects(), REJECTS_SCHEMA))
        replace_file(jobs_path, partial(_write_parquet, spool.jobs(), SCHEMA))
    counts = (tally.n_files, tally.n_bytes, tally.n_without_records, tuple(tally.skipped))
    return Converted(jobs_path, rejects_path, len(spool), spool.n_rejects, *counts)


def scan(path: str | os.PathLike[str]) -> pl.LazyFrame:
    """The jobs table in a Parquet file or folder, lazily: only what a query needs is read.

    Raises:
        SourceError: Nothing is there.
        TableError: It is not a jobs table, or one of a newer version of jobstats.
    """
    jobs_path, _ = places(path)
    if not jobs_path.exists():
        raise SourceError(f"{jobs_path}: no such file; write it with jobstats load … --to {path}")
    try:
        schema = pq.read_schema(jobs_path)
    except (OSError, ValueError) as error:
        raise TableError(f"{jobs_path}: not a Parquet file: {error}") from error
    version = (schema.metadata or {}).get(b"jobstats_format", b"0").decode()
    if version.isdigit() and int(version) > FORMAT_VERSION:
        raise TableError(
            f"{jobs_path}: written in format {version}, this jobstats reads up to {FORMAT_VERSION}; upgrade jobstats"
        )
    check_columns(schema.names, str(jobs_path))
    jobs = pl.scan_parquet(jobs_path, glob=False)
    found = jobs.collect_schema()
    for name, dtype in SCHEMA.items():
        if found[name] != dtype:
            raise TableError(f"{jobs_path}: {name} is {found[name]}, expected {dtype}; load the export again")
    return jobs


def read(path: str | os.PathLike[str]) -> Loaded:
    """What :func:`write` wrote.

    Raises:
        SourceError: Nothing is there.
        TableError: It is not a jobs table, or one of a newer version of jobstats.
    """
    jobs = scan(path).collect()
    _, rejects_path = places(path)
    if not rejects_path.exists():
        return Loaded(jobs, pl.DataFrame(schema=REJECTS_SCHEMA), n_files=1)
    try:
        return Loaded(jobs, pl.read_parquet(rejects_path, glob=False), n_files=1)
    except pl.exceptions.PolarsError as error:
        raise TableError(f"{rejects_path}: not a Parquet file: {error}") from error


def is_written(path: str | os.PathLike[str]) -> bool:
    """Whether a path is, or would be, something :func:`read` reads rather than an export."""
    place = Path(path)
    return place.suffix == ".parquet" or (place / _JOBS).exists()


def places(path: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Where jobs and rejects are, or would be."""
    to = Path(path)
    if to.name == _JOBS:
        return to, to.with_name(_REJECTS)
    if to.suffix == ".parquet":
        return to, to.with_suffix(".rejects.parquet")
    return to / _JOBS, to / _REJECTS


@contextmanager
def writing(place: str | os.PathLike[str]) -> Iterator[None]:
    """Whatever keeps the place from being written is a SourceError that names it."""
    try:
        yield
    except OSError as error:
        raise SourceError(f"{place}: cannot be written: {error.strerror or error}") from error


def replace_file(path: Path, write: Callable[[str], object]) -> None:
    """Write beside the target and rename over it, so that no reader ever sees half a file. Folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    os.close(handle)
    try:
        write(temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _targets(to: str | os.PathLike[str]) -> tuple[Path, Path]:
    if Path(to).suffix in _OTHER_KINDS:
        raise ArgumentError(f"{to}: jobs are written as Parquet; name a .parquet file or a folder")
    return places(to)


def _check_writable(folder: Path) -> None:
    """Better before the source is read than after."""
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _write_parquet(pieces: Iterable[pl.DataFrame], schema: pl.Schema, path: str) -> None:
    # One piece is in memory while the one before it is written.
    register_io_source(lambda *_: iter(pieces), schema=schema).sink_parquet(
        path,
        compression="zstd",
        row_group_size=_ROWS_PER_GROUP,
        arrow_schema=described(schema),
    )
