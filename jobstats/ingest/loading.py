"""``load``: any export as the jobs table and the rejects, with nothing lost between them."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from jobstats.contract import Refusal, decode
from jobstats.errors import ArgumentError, SourceError
from jobstats.ingest import rejects
from jobstats.ingest.flatten import frame
from jobstats.ingest.found import Found, Item, Lines, Text
from jobstats.ingest.framing import contained, split
from jobstats.ingest.sources import Document, Objects, Progress, Seen, Skipped, as_json, chunks, find
from jobstats.table import RECORD_SCHEMA, check_columns
from jobstats.timing import add_times

if TYPE_CHECKING:
    from jobstats.ingest.judging import Judged

_AT_ONCE = 2
"""Batches judged at a time."""


@dataclass(frozen=True, repr=False)
class Loaded:
    """What :func:`load` found. Unpacks to the two frames: ``jobs, rejects = load(…)``."""

    jobs: pl.DataFrame
    rejects: pl.DataFrame
    n_files: int = 0
    n_bytes: int = 0
    """Bytes of these files, compressed as they are; of a stream, as they come out of it."""
    n_without_records: int = 0
    """Envelopes that answer without records: error bodies, 404s, organisations without jobs."""
    skipped: tuple[str, ...] = ()
    """Files of a folder that are not named like exports."""

    @property
    def n_records(self) -> int:
        """Records in: accepted and rejected."""
        return len(self.jobs) + len(self.rejects)

    @classmethod
    def of(cls, loaded: "Loaded | pl.DataFrame | pl.LazyFrame | tuple[pl.DataFrame, pl.DataFrame]") -> "Loaded":
        """What was loaded, also from a jobs table alone or with its rejects: a selection of what was loaded, say.

        Raises:
            ArgumentError: It is something else.
            TableError: A frame is not a jobs table.
        """
        if isinstance(loaded, cls):
            return loaded
        if isinstance(loaded, pl.DataFrame | pl.LazyFrame):
            loaded = (loaded.lazy().collect(), rejects.frame([]))
        if not isinstance(loaded, tuple) or len(loaded) != 2 or not isinstance(loaded[0], pl.DataFrame):
            raise ArgumentError(f"expected what load returned, or a Polars jobs table; found {type(loaded).__name__}")
        check_columns(loaded[0].columns, "jobs")
        return cls(*loaded)

    def __repr__(self) -> str:
        return f"Loaded({len(self.jobs):,} jobs, {len(self.rejects):,} rejects, {self.n_files:,} files)"

    def __iter__(self) -> Iterator[pl.DataFrame]:
        return iter((self.jobs, self.rejects))


@dataclass
class Tally:
    """What was read besides records."""

    n_files: int = 0
    n_bytes: int = 0
    n_without_records: int = 0
    skipped: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, Any]:
        """As a result holds them."""
        return asdict(self) | {"skipped": tuple(self.skipped)}


def load(source: Any, *, observed_at: datetime | None = None, progress: Progress | None = None) -> Loaded:
    """Exported JobStatus records as one flat, typed jobs table, and every record that could not be one.

    Args:
        source: A path, several paths, a folder (searched for ``.json``, ``.ndjson``, ``.jsonl``, also ``.gz`` and
            ``.zst``), a glob, bytes, an open file, a record, or a list of records as dicts or Pydantic objects. A text
            may be NDJSON, a JSON array, one record or API envelopes, and may be compressed with gzip or zstd.
        observed_at: When the records were seen. Otherwise an ISO time in the file's name says so
            (``2026-11-23T135450.552Z_….json``), else the file's modification time; ``observed_at_source`` keeps which.
        progress: Called with the bytes read and the bytes known so far, of all files together.

    Returns:
        ``jobs`` (see :func:`jobstats.table.describe` for its columns), one row a record in the order read, and
        ``rejects``: ``source``, ``line`` (1-based), ``index`` (0-based, in an array), ``field``, ``reason``, ``raw``
        (the first 2,000 characters) and ``raw_bytes``. Accepted and rejected are all records there were.

    Raises:
        SourceError: A path does not exist, a glob matches nothing, a folder holds no exports.

    >>> record = {"id": "1", "name": "crawl-drive-7", "timestamp": 1795443252238, "attemptsMade": 1,
    ...     "processedOn": 1795443252738, "finishedOn": 1795443253000, "state": "completed",
    ...     "data": {"connector": "Drive", "connectorId": "7", "orgId": "o", "userId": "u",
    ...         "timestamp": "2026-11-23T14:10:06.921Z",
    ...         "scheduleConfig": {"scheduleType": "daily", "hour": 3, "minute": 0}}}
    >>> jobs, rejects = load([record, record | {"attemptsMade": "1"}])
    >>> jobs.select("connector", "schedule_cron", "queue_latency_ms").row(0)
    ('Drive', '0 3 * * *', 500)
    >>> rejects.select("index", "field", "reason").row(0)
    (1, 'attemptsMade', 'attemptsMade: expected an integer, found "1"')
    """
    tally = Tally()
    frames, refused = [frame([], RECORD_SCHEMA)], [rejects.frame([])]
    for judged in records(source, tally, observed_at=observed_at, progress=progress):
        frames.append(judged.records)
        refused.append(judged.rejects)
    jobs = add_times(pl.concat(frames))
    return Loaded(jobs, pl.concat(refused), **tally.counts())


def records(
    source: Any, tally: Tally, *, observed_at: datetime | None = None, progress: Progress | None = None
) -> Iterator["Judged"]:
    """The records and rejects of a source, batch by batch in the order read, without the times.

    What else was read is counted in ``tally``. Raises as :func:`load` does.
    """
    from jobstats.ingest.judging import batches, judge  # brings DuckDB, which only loading needs

    waiting: deque[Future[Judged]] = deque()
    # Reading and judging run beside each other, and so do two batches: DuckDB and Polars let go of the interpreter.
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for batch in batches(_found(list(find(source, observed_at)), tally, progress)):
            waiting.append(pool.submit(judge, batch))
            if len(waiting) > _AT_ONCE:
                yield _counted(waiting.popleft().result(), tally)
        while waiting:
            yield _counted(waiting.popleft().result(), tally)


def refuse_empty(n_accepted: int, rejected: pl.DataFrame, source: Any) -> None:
    """Raise a SourceError that says why there is nothing to go on with, if nothing was accepted."""
    if n_accepted:
        return
    if len(rejected):
        first = rejected.row(0, named=True)
        where = rejects.place(first)
        raise SourceError(f"{where}: {first['reason']} ({len(rejected):,} rejected, none accepted)")
    names = source if isinstance(source, list | tuple) else [source]
    named = [getattr(name, "name", name) for name in names]
    where = ", ".join(str(name) for name in named if isinstance(name, str | os.PathLike))
    raise SourceError(f"{where or 'source'}: holds no job records")


def _counted(judged: "Judged", tally: Tally) -> "Judged":
    tally.n_without_records += judged.n_empty
    return judged


def _found(
    documents: list[Document | Objects | Skipped], tally: Tally, progress: Progress | None
) -> Iterator[tuple[Seen, Lines | Found]]:
    n_known = sum(document.size or 0 for document in documents if isinstance(document, Document))
    for document in documents:
        if isinstance(document, Skipped):
            tally.skipped.append(document.path)
        elif isinstance(document, Objects):
            for found in _objects(document.values):
                yield document.seen, found
        else:
            tally.n_files += 1
            damage: list[str] = []
            for part in split(
                _undamaged(document, damage, tally, lambda: progress and progress(tally.n_bytes, n_known))
            ):
                yield document.seen, part
            for reason in damage:
                yield document.seen, Item(None, bytes, None, None, reason)


def _undamaged(document: Document, damage: list[str], tally: Tally, tell: Callable[[], object]) -> Iterator[bytes]:
    """The bytes of a document as far as they can be read; what stopped the reading is noted, not raised."""
    before = tally.n_bytes
    try:
        for chunk, n_read in chunks(document):
            tally.n_bytes = before + n_read
            tell()
            yield chunk
    except OSError as error:
        damage.append(error.strerror or str(error))
    tally.n_bytes = before + (document.size or tally.n_bytes - before)


def _objects(values: list[Any]) -> Iterator[Found]:
    for index, value in enumerate(values):
        try:
            text = as_json(value)
            if not isinstance(value, list | tuple):
                yield Text(text, None, index)
                continue
            within = decode(text)
        except Refusal as refusal:
            shown = repr(value).encode("utf-8", "backslashreplace")
            yield Item(None, shown.__bytes__, None, index, refusal.reason)
            continue
        yield from contained(within, text.__bytes__, None)
