"""Jobs tables larger than memory: records wait on disk until what all of them say together is known."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from jobstats.facts import Evidence, add_own, facts, interval_evidence, partitions
from jobstats.ingest.rejects import SCHEMA as REJECTS_SCHEMA
from jobstats.table import SCHEMA
from jobstats.timing import add_times, conclude, finish, overtaken, starts

MOST_IN_MEMORY = 200_000
"""Records held at a time, in each step; a tenth as many rejects, which hold the text as it was."""
_PARTS = 24
_SOUGHT = 20_000
_FIRST, _LAST = -(2**63), 2**63 - 1
_SAMPLED = 100


class Spool:
    """Records and rejects in, batch by batch; the jobs table and the rejects out, piece by piece in the same order.

    What does not fit in memory passes through files below ``place`` three times: by schedule, so that its runs can
    be concluded together; by due time, so that runs can be found that were overtaken; and as records, in their order.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self._files = ExitStack()
        self._folder: Path | None = None
        self._held: list[pl.DataFrame] = []
        self._n_held = 0
        self._ends: list[int] = []
        self._sizes: Counter[int] = Counter()
        self._evidence = Evidence()
        self._rejects = [pl.DataFrame(schema=REJECTS_SCHEMA)]
        self._n_rejects_held = 0
        self.n_rejects = 0

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *exception: object) -> None:
        self._files.close()

    def __len__(self) -> int:
        """Records added."""
        return self._n_held + (self._ends[-1] if self._ends else 0)

    def add(self, records: pl.DataFrame, rejects: pl.DataFrame) -> None:
        """What one batch holds."""
        self._held.append(records)
        self._n_held += len(records)
        if self._n_held >= MOST_IN_MEMORY:
            self._put_away()
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
        if self._n_held:
            self._put_away()
        self._conclude()
        late = self._overtaken()
        for number in range(len(self._ends)):
            concluded = self._taken("concluded", number).sort("_row")
            yield finish(add_own(self._taken("records", number)), concluded, late)

    def _put_away(self) -> None:
        records, number, first = pl.concat(self._held), len(self._ends), len(self) - self._n_held
        self._held, self._n_held = [], 0
        self._ends.append(first + len(records))
        self._put(records, "records", number)
        told = facts(add_own(records), first)
        self._evidence += interval_evidence(told)
        for part, rows in partitions(told, _PARTS).items():
            self._put(rows, "facts", part)
            self._sizes[part] += len(rows)

    def _put_rejects_away(self) -> None:
        self._put(pl.concat(self._rejects), "rejects", 0)
        self._rejects, self._n_rejects_held = [pl.DataFrame(schema=REJECTS_SCHEMA)], 0

    def _conclude(self) -> None:
        ends = pl.Series(self._ends)
        for parts in self._groups():
            told = pl.concat([self._taken("facts", part) for part in parts])
            concluded = conclude(told, self._evidence)
            self._put(starts(concluded).sort("due"), "starts", 0)
            piece = ends.search_sorted(concluded["_row"], side="right").alias("_piece")
            for (number,), rows in concluded.with_columns(piece).partition_by("_piece", as_dict=True).items():
                self._put(rows.drop("_piece", "org_id"), "concluded", number)

    def _groups(self) -> Iterator[list[int]]:
        """Parts that fit in memory together."""
        group: list[int] = []
        for part in sorted(self._sizes):
            if group and sum(self._sizes[other] for other in (*group, part)) > MOST_IN_MEMORY:
                yield group
                group = []
            group.append(part)
        yield group

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

    def _put(self, frame: pl.DataFrame, kind: str, number: int) -> None:
        if self._folder is None:
            self._place.mkdir(parents=True, exist_ok=True)
            self._folder = Path(self._files.enter_context(TemporaryDirectory(dir=self._place, prefix=".jobstats-")))
        folder = self._folder / f"{kind}-{number}"
        folder.mkdir(exist_ok=True)
        path = folder / f"{len(self._paths(kind, number)):06}.parquet"
        # Starts are read by ranges of due time, which their statistics tell; all else is read whole.
        is_sought = kind == "starts"
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
