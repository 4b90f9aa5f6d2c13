"""Tables larger than memory: records wait on disk until what all of them say together is known."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import polars as pl

from jobstats import ends
from jobstats.errors import ArgumentError, SourceError
from jobstats.facts import EVIDENCE, Evidence, add_own, facts, interval_evidence, partitions
from jobstats.ingest.rejects import SCHEMA as REJECTS_SCHEMA
from jobstats.table import HISTORY_SCHEMA, RECORD_SCHEMA, SCHEMA
from jobstats.timing import add_times, conclude, finish, overtaken, starts

MOST_IN_MEMORY = 200_000
"""Records held at a time, in each step; a tenth as many rejects, which hold the text as it was."""
_PARTS = 24
_SOUGHT = 20_000
_FIRST, _LAST = -(2**63), 2**63 - 1
_SAMPLED = 100
_SAME = ("created_at", "observed_at", "processed_at")
"""What tells that records read again are those that were read before."""

_NO_ROWS = add_own(pl.DataFrame(schema=RECORD_SCHEMA))

Again = Callable[[], Iterator[pl.DataFrame]]


class Spool:
    """Records and rejects in, batch by batch; the jobs table and the rejects out, piece by piece in the same order.

    What does not fit in memory passes through files below ``place`` three times: by schedule, so that its runs can
    be concluded together; by due time, so that runs can be found that were overtaken; and as records, in their order.
    """

    def __init__(self, place: Path, again: Again | None = None) -> None:
        """An empty spool.

        Args:
            place: Where its folder is made, once it is needed.
            again: Gives the records that were added once more, in the same order, so that no copy need be kept.
        """
        self._place, self._again = place, again
        self._files = ExitStack()
        self._folder: Path | None = None
        self._held: list[pl.DataFrame] = []
        self._n_held = 0
        self._ends: list[int] = []
        self._marks: list[int] = []
        self._sizes: Counter[int] = Counter()
        self._rejects = [pl.DataFrame(schema=REJECTS_SCHEMA)]
        self._n_rejects_held = 0
        self.n_rejects = 0
        self._failed = ends.failed(_NO_ROWS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._files.close()

    def __len__(self) -> int:
        """Records added."""
        return self._n_held + (self._ends[-1] if self._ends else 0)

    def add(self, records: pl.DataFrame, rejects: pl.DataFrame | None = None) -> None:
        """What one batch holds."""
        self._held.append(records)
        self._n_held += len(records)
        if self._n_held >= MOST_IN_MEMORY:
            self._put_away()
        if rejects is not None:
            self._rejects.append(rejects)
            self.n_rejects += len(rejects)
            self._n_rejects_held += len(rejects)
        if self._n_rejects_held >= MOST_IN_MEMORY // 10:
            self._put_rejects_away()

    def rejects(self) -> Iterator[pl.DataFrame]:
        """The rejects; all of them must have been added."""
        yield from map(pl.read_parquet, self._paths("rejects", 0))
        yield pl.concat(self._rejects)

    def jobs(self) -> Iterator[pl.DataFrame]:
        """The jobs table; all records must have been added."""
        if not self._ends:
            yield add_times(pl.concat(self._held)) if self._held else pl.DataFrame(schema=SCHEMA)
            return
        evidence = self._evidence()
        for told in self._by_schedule():
            concluded = conclude(told, evidence)
            self._put(starts(concluded).sort("due"), "starts", 0)
            self._put_by_piece(concluded.drop("org_id"), "_row")
        late = self._overtaken()
        for number, _, records in self._records():
            yield finish(add_own(records), self._taken("concluded", number).sort("_row"), late)

    def _put_away(self) -> None:
        records, number, first = pl.concat(self._held), len(self._ends), len(self) - self._n_held
        self._held, self._n_held = [], 0
        self._ends.append(first + len(records))
        if self._again is None:
            self._put(records, "records", number)
        else:
            self._marks.append(_mark(records))
        self._note(add_own(records), first)

    def _note(self, rows: pl.DataFrame, first: int) -> None:
        self._put_facts(facts(rows, first))

    def _put_facts(self, told: pl.DataFrame) -> None:
        for part, rows in partitions(told, _PARTS).items():
            self._put(rows, "facts", part)
            self._sizes[part] += len(rows)

    def _put_rejects_away(self) -> None:
        self._put(pl.concat(self._rejects), "rejects", 0)
        self._rejects, self._n_rejects_held = [pl.DataFrame(schema=REJECTS_SCHEMA)], 0

    def _evidence(self) -> Evidence:
        """Of all facts; the last records that are held are put away before."""
        if self._n_held:
            self._put_away()
        told = (pl.read_parquet(self._paths("facts", part), columns=list(EVIDENCE)) for part in self._sizes)
        return sum(map(interval_evidence, told), Evidence())

    def _by_schedule(self) -> Iterator[pl.DataFrame]:
        """All facts, those of a schedule together, as many at a time as fit in memory."""
        group: list[int] = []
        for part in sorted(self._sizes):
            if group and sum(self._sizes[other] for other in (*group, part)) > MOST_IN_MEMORY:
                yield pl.concat([self._taken("facts", part) for part in group])
                group = []
            group.append(part)
        yield pl.concat([self._taken("facts", part) for part in group])

    def _put_by_piece(self, concluded: pl.DataFrame, row: str) -> None:
        """Conclusions beside the records they are of."""
        piece = pl.Series(self._ends).search_sorted(concluded[row], side="right").alias("_piece")
        for (number,), rows in concluded.with_columns(piece).partition_by("_piece", as_dict=True).items():
            self._put(rows.drop("_piece"), "concluded", number)

    def _overtaken(self) -> pl.Series:
        events = [pl.scan_parquet(path) for path in self._paths("starts", 0)]
        due = pl.concat(frame.select(pl.col("due").gather_every(_SAMPLED)).collect() for frame in events)["due"].sort()
        bounds = [_FIRST, *due.gather_every(max(MOST_IN_MEMORY // _SAMPLED, 1)).unique(maintain_order=True), _LAST]
        late, carry = [pl.Series([], dtype=pl.Int64)], None
        for since, until in reversed(list(pairwise(bounds))):
            within = pl.col("due").is_between(since, until, closed="left")
            slice_ = pl.concat([frame.filter(within) for frame in events]).collect()
            found, carry = overtaken(slice_, carry)
            late.append(found)
        return pl.concat(late)

    def _records(self) -> Iterator[tuple[int, int, pl.DataFrame]]:
        """All records once more: number and first row of each piece, and the piece."""
        sizes = [end - first for first, end in pairwise([0, *self._ends])]
        pieces = (
            (self._taken("records", number) for number in range(len(sizes)))
            if self._again is None
            else _cut(self._again(), sizes)
        )
        for number, piece in enumerate(pieces):
            if self._again is not None and _mark(piece) != self._marks[number]:
                raise ArgumentError("the frame gives other rows each time it is collected; collect it before")
            yield number, self._ends[number] - sizes[number], piece

    def _put(self, frame: pl.DataFrame, kind: str, number: int) -> None:
        if self._folder is None:
            self._place.mkdir(parents=True, exist_ok=True)
            self._folder = Path(self._files.enter_context(TemporaryDirectory(dir=self._place, prefix=".jobstats-")))
        folder = self._folder / f"{kind}-{number}"
        folder.mkdir(exist_ok=True)
        path = folder / f"{len(self._paths(kind, number)):06}.parquet"
        # Starts are read by ranges of due time, which their statistics tell; all else is read whole.
        is_sought = kind == "starts"
        with writing(self._place):
            frame.write_parquet(
                path, compression="lz4", statistics=is_sought, row_group_size=_SOUGHT if is_sought else None
            )

    def _paths(self, kind: str, number: int) -> list[Path]:
        return sorted((self._folder / f"{kind}-{number}").glob("*")) if self._folder else []

    def _taken(self, kind: str, number: int) -> pl.DataFrame:
        """What was put there, in the order it was; it is not needed again."""
        paths = self._paths(kind, number)
        taken = pl.read_parquet(paths)
        for path in paths:
            path.unlink()
        return taken


class SeriesSpool(Spool):
    """Observations in, batch by batch; a row a run out, piece by piece."""

    def runs(self) -> Iterator[pl.DataFrame]:
        """The history, in the order of the newest records of runs; all observations must have been added."""
        if not self._ends:
            yield ends.fold(pl.concat(self._held)) if self._held else pl.DataFrame(schema=HISTORY_SCHEMA)
            return
        evidence, n_groups = self._evidence(), 0
        wanted = [pl.Series([], dtype=pl.Int64)]
        for n_groups, told in enumerate(self._by_schedule(), 1):
            concluded = conclude(told, evidence)
            known = ends.runs(told, concluded)
            wanted.append(known["_progress_row"].cast(pl.Int64).drop_nulls())
            self._put(starts(concluded).sort("due"), "starts", 0)
            self._put(known, "known", n_groups)
        late = self._overtaken()
        begun = ends.first_starts(pl.scan_parquet(self._paths("starts", 0)))
        lists = self._polls()
        for number in range(1, n_groups + 1):
            self._put_by_piece(ends.ends(self._taken("known", number), lists, begun, late), "_run")
        progress = self._progress(pl.concat(wanted))
        for number, first, records in self._records():
            if self._paths("concluded", number):
                known = self._taken("concluded", number).sort("_run")
                rows = records[known["_run"] - first]
                yield ends.finish_runs(add_own(rows), known, late, progress)

    def _note(self, rows: pl.DataFrame, first: int) -> None:
        self._put_facts(ends.noted(rows, first))
        self._failed = ends.earliest(pl.concat([self._failed, ends.failed(rows)]))
        part = (pl.col("_at").hash() % _PARTS).alias("_part")
        seen = ends.listed(rows).with_columns(part).partition_by("_part", as_dict=True, include_key=False)
        for (number,), some in seen.items():
            self._put(some, "listed", number)

    def _polls(self) -> pl.DataFrame:
        lists = [ends.complete(self._taken("listed", part)) for part in range(_PARTS) if self._paths("listed", part)]
        return ends.polls(pl.concat(lists or [ends.complete(ends.listed(_NO_ROWS))]), self._failed)

    def _progress(self, wanted: pl.Series) -> pl.DataFrame:
        if wanted.is_empty():
            return ends.progress(_NO_ROWS, wanted)
        return pl.concat([ends.progress(records, wanted, first) for _, first, records in self._records()])


def batches(frame: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    """The rows of a lazy frame in its order, as many at a time as are held."""
    return iter(frame.collect_batches(chunk_size=MOST_IN_MEMORY, maintain_order=True))


def _mark(records: pl.DataFrame) -> int:
    """A number that other records, or the same in another order, do not have."""
    numbered = records.select(*_SAME, pl.int_range(pl.len())).hash_rows()
    return int(numbered.sum() or 0)


def _cut(frames: Iterator[pl.DataFrame], sizes: list[int]) -> Iterator[pl.DataFrame]:
    """The same rows in pieces of these sizes."""
    held = pl.DataFrame(schema=RECORD_SCHEMA)
    for size in sizes:
        while len(held) < size and (frame := next(frames, None)) is not None:
            held = pl.concat([held, frame])
        yield held.head(size)
        held = held.slice(size)


@contextmanager
def writing(place: str | os.PathLike[str]) -> Iterator[None]:
    """Whatever keeps the place from being written is a SourceError that names it."""
    try:
        yield
    except OSError as error:
        raise SourceError(f"{place}: cannot be written: {error.strerror or error}") from error
    except pl.exceptions.ComputeError as error:
        if not str(error).startswith("parquet"):
            raise
        told = re.search(r"underlying IO error: (.*) \(os error", str(error))  # Polars' way to say that a disk is full
        raise SourceError(f"{place}: cannot be written: {told[1] if told else error}") from error
