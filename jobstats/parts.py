"""The files of a store: each written aside and renamed into place, never changed, and merged with others in time."""

import hashlib
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from jobstats.errors import SourceError, TableError
from jobstats.ingest.rejects import SCHEMA as REJECTS_SCHEMA
from jobstats.ingest.rejects import by_reason
from jobstats.parquet import check, replace_file, whole, write_parquet
from jobstats.spool import batches
from jobstats.table import OBSERVATION, RECORD_SCHEMA

UNDATED = "__HIVE_DEFAULT_PARTITION__"
"""The day of what was seen at no known time, as Hive and its readers call it."""
ID = ["_id_1", "_id_2"]
"""What :func:`identified` adds."""
_REPLACES = "jobstats_replaces"
_MOST_HELD = 100_000
"""Observations in memory while they are added, and in the part that comes of them."""
_MOST_MERGED = 500_000
"""Rows in a part that several were merged into."""
_MOST_LOOKS = 100
_ORDER = ("org_id", "connector", "connector_id", "created_at", "job_id", "observed_at", *ID)
"""Observations of a run beside each other: they are alike, which makes the files small."""


def identified(rows: pl.DataFrame) -> pl.DataFrame:
    """With two hashes that records have in common if they are the same observation."""
    said = pl.struct(OBSERVATION)
    return rows.with_columns(said.hash(seed).alias(name) for seed, name in enumerate(ID, 1))


def parts_in(folder: Path, schema: pl.Schema = RECORD_SCHEMA) -> list[Path]:
    """The parts in a folder, without those that were merged into another and not removed yet."""
    kind = "a table of rejects" if schema == REJECTS_SCHEMA else "a jobs table"
    for _ in range(_MOST_LOOKS):
        with suppress(FileNotFoundError):  # merged into another since it was listed: look again
            parts = sorted(folder.glob("*.parquet"))
            replaced = {part: check(part, schema, kind).get(_REPLACES, "") for part in parts}
            gone = {name for names in replaced.values() for name in names.split()}
            return [part for part in parts if part.name not in gone]
    raise SourceError(f"{folder}: its files come and go; one may be a link to nowhere")


def scanned(parts: list[Path], schema: pl.Schema) -> pl.LazyFrame:
    """These columns of all parts, lazily."""
    # Files of format 1 have columns that were concluded from these.
    found = pl.scan_parquet(parts, glob=False, hive_partitioning=False, extra_columns="ignore", schema=schema)
    return found.select(schema.names())


def seen_at(times: pl.Series, parts: list[Path]) -> Iterator[pl.DataFrame]:
    """Observations at these times, some at a time; statistics pass over what was seen at others."""
    at, (first, last) = pl.col("observed_at"), (times.min(), times.max())
    within = at.is_null() if first is None else at.is_between(first, last) & at.is_in(times.implode())
    if parts:
        with naming(parts):
            yield from batches(scanned(parts, RECORD_SCHEMA).filter(within))


@contextmanager
def naming(parts: list[Path], schema: pl.Schema = RECORD_SCHEMA) -> Iterator[None]:
    """What goes wrong in one of many files is said of that file."""
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        for part in parts:
            if not part.exists():
                raise TableError(f"{part}: gone, merged into another while it was to be read; scan again") from error
            whole(part, schema)
        raise


def put(folder: Path, rows: pl.DataFrame, schema: pl.Schema, replaces: str = "") -> None:
    """Write a part, named by what it holds and what it replaces: what is the same has the same name."""
    if schema == RECORD_SCHEMA:
        rows = rows.sort(_ORDER)
    digest = hashlib.sha256(replaces.encode())
    digest.update(rows.hash_rows().sort().to_arrow().buffers()[1])
    metadata = {_REPLACES: replaces} if replaces else {}
    path = folder / f"{digest.hexdigest()[:32]}.parquet"
    replace_file(path, partial(write_parquet, [rows.select(schema.names())], schema, metadata=metadata))


def merge(parts: list[Path], schema: pl.Schema) -> int:
    """Put one part in the place of several; how many rows they held twice."""
    found = pl.concat([whole(part, schema) for part in parts])
    key = schema.names()
    if schema == RECORD_SCHEMA:
        found, key = identified(found), ID
    merged = found.unique(key, keep="first", maintain_order=True)
    # Who reads in between sees the merged part as well, and passes over those it replaces.
    put(parts[0].parent, merged, schema, " ".join(part.name for part in parts))
    for part in parts:
        part.unlink()
    return len(found) - len(merged)


def groups(parts: list[Path]) -> Iterator[list[Path]]:
    """Parts to be merged: small ones, as many as make a large one."""
    group: list[Path] = []
    n_rows = 0
    for part in parts:
        n = pq.read_metadata(part).num_rows
        if n > _MOST_MERGED // 2:
            continue
        if n_rows + n > _MOST_MERGED:
            if len(group) > 1:
                yield group
            group, n_rows = [], 0
        group.append(part)
        n_rows += n
    if len(group) > 1:
        yield group


class Staging:
    """What was read and not added yet: in memory, and what does not fit in files by day of observation."""

    def __init__(self, folder: Path) -> None:
        """Nothing, and where its files go."""
        self._folder = folder
        self._held: list[pl.DataFrame] = []
        self._refused = [pl.DataFrame(schema=REJECTS_SCHEMA)]
        self._refused_files: list[Path] = []
        self._days: dict[str, list[tuple[int, Path | pl.DataFrame]]] = defaultdict(list)
        self.n_accepted = self.n_rejected = 0

    def add(self, accepted: pl.DataFrame, refused: pl.DataFrame) -> None:
        """What one batch holds."""
        self._held.append(accepted)
        self.n_accepted += len(accepted)
        if sum(map(len, self._held)) >= _MOST_HELD:
            for day, rows in self._by_day():
                self._days[day].append((len(rows), self._put(rows)))
        self._refused.append(refused)
        self.n_rejected += len(refused)
        if sum(map(len, self._refused)) >= _MOST_HELD // 10:
            self._refused_files.append(self._put(pl.concat(self._refused)))
            self._refused = self._refused[:1]

    def days(self) -> Iterator[tuple[str, Iterator[pl.DataFrame], pl.Series]]:
        """Days of observation: the observations, as many at a time as fit in memory, and when they were seen."""
        for day, rows in self._by_day():
            self._days[day].append((len(rows), rows))
        for day, pieces in sorted(self._days.items()):
            times = pl.concat([_taken(piece, ["observed_at"])["observed_at"].unique() for _, piece in pieces])
            yield day, self._pieces(pieces), times.unique()

    def rejects(self) -> Iterator[pl.DataFrame]:
        """What was refused."""
        yield from map(pl.read_parquet, self._refused_files)
        yield pl.concat(self._refused)

    def reasons(self) -> pl.DataFrame:
        """Why records were rejected."""
        return by_reason(pl.concat([pl.concat(self._refused).lazy(), *map(pl.scan_parquet, self._refused_files)]))

    def _by_day(self) -> Iterator[tuple[str, pl.DataFrame]]:
        if self._held:
            day = pl.col("observed_at").dt.strftime("%Y-%m-%d").fill_null(UNDATED).alias("_day")
            parts = pl.concat(self._held).with_columns(day).partition_by("_day", as_dict=True, include_key=False)
            self._held = []
            yield from ((name, rows) for (name,), rows in parts.items())

    def _put(self, rows: pl.DataFrame) -> Path:
        handle, path = tempfile.mkstemp(dir=self._folder, suffix=".parquet")
        os.close(handle)
        rows.write_parquet(path, compression="lz4", statistics=False)
        return Path(path)

    @staticmethod
    def _pieces(pieces: list[tuple[int, Path | pl.DataFrame]]) -> Iterator[pl.DataFrame]:
        held: list[pl.DataFrame] = []
        n_held = 0
        for n, piece in pieces:
            if held and n_held + n > _MOST_HELD:
                yield pl.concat(held)
                held, n_held = [], 0
            held.append(_taken(piece))
            n_held += n
        yield pl.concat(held)


def _taken(piece: Path | pl.DataFrame, columns: list[str] | None = None) -> pl.DataFrame:
    if isinstance(piece, Path):
        return pl.read_parquet(piece, columns=columns)
    return piece if columns is None else piece.select(columns)
