"""The jobs table as one Parquet file anyone can query with any Parquet tool, and the rejects beside it."""

import errno
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from polars.io.plugins import register_io_source

from jobstats.errors import ArgumentError, SourceError, TableError
from jobstats.ingest.loading import Loaded, Tally, records, refuse_empty
from jobstats.ingest.rejects import SCHEMA as REJECTS_SCHEMA
from jobstats.ingest.rejects import by_reason
from jobstats.ingest.sources import Progress
from jobstats.spool import Spool, writing
from jobstats.table import FORMAT_VERSION, HISTORY_COLUMNS, SCHEMA, check_columns

_ROWS_PER_GROUP = 122_880
"""As many as DuckDB writes, and reads at a time: small enough to skip, large enough to compress."""


def write(loaded: Loaded | pl.DataFrame, to: str | os.PathLike[str]) -> Path:
    """Write jobs and rejects as Parquet and return the path of the jobs.

    Args:
        loaded: What :func:`jobstats.load` returned, or a jobs table.
        to: A ``.parquet`` file, with the rejects beside it as ``<name>.rejects.parquet``. What is there is replaced,
            each file at once. Folders are stores, see :func:`jobstats.store`.

    Raises:
        ArgumentError: ``loaded`` is something else, or ``to`` is not named ``.parquet``.
        SourceError: The place cannot be written.
    """
    loaded = Loaded.of(loaded)
    jobs_path, rejects_path = _targets(to)
    with writing(to):
        replace_file(rejects_path, partial(write_parquet, [loaded.rejects], loaded.rejects.schema))
        replace_file(jobs_path, partial(write_parquet, [loaded.jobs], loaded.jobs.schema))
    return jobs_path


@dataclass(frozen=True, kw_only=True)
class Read:
    """What was read, and what became of it."""

    n_accepted: int
    n_rejected: int
    reasons: pl.DataFrame
    """Why records were rejected: a row a reason, the most frequent first."""
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


@dataclass(frozen=True, kw_only=True)
class Converted(Read):
    """What :func:`convert` wrote, and where."""

    jobs: Path
    rejects: Path


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
        to: A ``.parquet`` file, with the rejects beside it as ``<name>.rejects.parquet``. What is there is replaced
            when all is read. Beside it there must be room for the records while they are sorted out.
        observed_at: When the records were seen, as for :func:`jobstats.load`; of a stream nothing else says it.
        progress: Called with the bytes read and the bytes known so far, of all files together, as they are stored.

    Returns:
        The paths of jobs and rejects, and how many records, files and bytes there were.

    Raises:
        ArgumentError: ``to`` is not named ``.parquet``.
        SourceError: A source does not exist, holds no record that can be accepted (then nothing is written), or the
            place cannot be written.

    >>> import tempfile
    >>> to = tempfile.mkdtemp() + "/jobs.parquet"
    >>> convert("data/dump", to).n_accepted
    2219
    >>> scan_file(to).select("connector").collect().height
    2219
    """
    jobs_path, rejects_path = _targets(to)
    tally = Tally()
    with writing(to), Spool(jobs_path.parent) as spool:
        check_writable(jobs_path.parent)
        for judged in records(source, tally, observed_at=observed_at, progress=progress):
            spool.add(judged.records, judged.rejects)
        refuse_empty(len(spool), next(spool.rejects()), source)
        replace_file(rejects_path, partial(write_parquet, spool.rejects(), REJECTS_SCHEMA))
        replace_file(jobs_path, partial(write_parquet, spool.jobs(), SCHEMA))
    reasons = by_reason(pl.scan_parquet(rejects_path, glob=False))
    return Converted(
        jobs=jobs_path,
        rejects=rejects_path,
        n_accepted=len(spool),
        n_rejected=spool.n_rejects,
        reasons=reasons,
        **tally.counts(),
    )


def sink(jobs: pl.LazyFrame, to: str | os.PathLike[str]) -> int:
    """Write a lazy jobs table or history, which may be larger than memory, and say how many rows it has.

    Raises:
        ArgumentError: ``to`` is not named ``.parquet``.
        SourceError: The place cannot be written.
    """
    path, _ = _targets(to)
    schema = jobs.collect_schema()
    with writing(to):
        check_writable(path.parent)
        replace_file(path, partial(write_parquet, jobs.collect_batches(maintain_order=True), schema))
    return pq.read_metadata(path).num_rows


def scan_file(path: str | os.PathLike[str]) -> pl.LazyFrame:
    """The jobs table in one Parquet file, lazily.

    Raises:
        SourceError: Nothing is there.
        TableError: It is not a jobs table, or one of a newer version of jobstats.
    """
    path = Path(path)
    if not path.exists():
        raise SourceError(f"{path}: no such file; write it with jobstats load … --to {path}")
    check(path, SCHEMA)
    return pl.scan_parquet(path, glob=False)


def check(path: Path, schema: pl.Schema, kind: str = "a jobs table") -> dict[str, str]:
    """The metadata of a Parquet file that has at least these columns.

    Raises:
        FileNotFoundError: It is not there.
        TableError: It is no Parquet file, lacks a column, has one of another type, or is of a newer format.
    """
    try:
        file = pq.read_schema(path)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise TableError(f"{path}: not a Parquet file: {error}") from error
    metadata = {
        key.decode(errors="replace"): value.decode(errors="replace") for key, value in (file.metadata or {}).items()
    }
    version = metadata.get("jobstats_format", "0")
    if version.isdigit() and int(version) > FORMAT_VERSION:
        raise TableError(
            f"{path}: written in format {version}, this jobstats reads up to {FORMAT_VERSION}; upgrade jobstats"
        )
    check_columns(file.names, str(path), schema, kind)
    found = pl.scan_parquet(path, glob=False).collect_schema()
    for name, dtype in schema.items():
        if found[name] != dtype:
            raise TableError(f"{path}: {name} is {found[name]}, expected {dtype}; load the export again")
    return metadata


def read_rejects(path: Path) -> pl.DataFrame:
    """The rejects beside a jobs table; none if there is no such file.

    Raises:
        TableError: It is not a Parquet file, or not one of rejects.
    """
    if not path.exists():
        return pl.DataFrame(schema=REJECTS_SCHEMA)
    check(path, REJECTS_SCHEMA, "a table of rejects")
    return whole(path, REJECTS_SCHEMA)


def whole(path: Path, schema: pl.Schema) -> pl.DataFrame:
    """These columns of a Parquet file.

    Raises:
        TableError: The file is damaged.
    """
    try:
        return pl.read_parquet(path, columns=schema.names(), glob=False)
    except pl.exceptions.PolarsError as error:
        raise TableError(f"{path}: damaged: {error}") from error


def rejects_of(path: str | os.PathLike[str]) -> Path:
    """Where the rejects of a jobs table are."""
    return Path(path).with_suffix(".rejects.parquet")


def replace_file(path: Path, write: Callable[[str], object]) -> None:
    """Write beside the target and rename over it, so that no reader ever sees half a file. Folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    os.close(handle)
    try:
        write(temporary)
        os.chmod(temporary, 0o644)
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _sync(path: str | Path) -> None:
    """A name must not outlive a loss of power when what it names does not."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _targets(to: str | os.PathLike[str]) -> tuple[Path, Path]:
    if Path(to).suffix != ".parquet":
        raise ArgumentError(f"{to}: a jobs table is written to a .parquet file")
    return Path(to), rejects_of(to)


def check_writable(folder: Path) -> None:
    """Better before the source is read than after."""
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def write_parquet(
    pieces: Iterable[pl.DataFrame], schema: pl.Schema, path: str, metadata: Mapping[str, str] | None = None
) -> None:
    """Write frames of this schema into one file that says what its columns mean."""
    # One piece is in memory while the one before it is written.
    register_io_source(lambda *_: iter(pieces), schema=schema).sink_parquet(
        path,
        compression="zstd",
        row_group_size=_ROWS_PER_GROUP,
        arrow_schema=described(schema, metadata),
    )


def described(schema: pl.Schema, metadata: Mapping[str, str] | None = None) -> pa.Schema:
    """An Arrow schema with unit and meaning of each jobs column in its field metadata, and the format version."""
    known = {column.name: column for column in HISTORY_COLUMNS}
    fields = [
        field.with_metadata({"unit": known[field.name].unit, "description": known[field.name].description})
        if field.name in known
        else field
        for field in pl.DataFrame(schema=schema).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    ]
    return pa.schema(fields, metadata={"jobstats_format": str(FORMAT_VERSION), **(metadata or {})})
