"""Would-be records → columns and rejects: the quick way for what is usual, the contract for the rest.

Batches are judged each by itself, so they can be judged beside each other and forgotten when they are written.
"""

from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from typing import Any, NamedTuple

import polars as pl

from jobstats.contract import Refusal, parse
from jobstats.ingest import rejects
from jobstats.ingest.flatten import FLAT_SCHEMA, flatten, frame
from jobstats.ingest.found import Empty, Found, Item, Lines, Text
from jobstats.ingest.framing import BLOCK, opened
from jobstats.ingest.quick import PLACE, columns
from jobstats.ingest.sources import Seen
from jobstats.table import RECORD_SCHEMA

_SMALL = 1 << 18
_MOST_ENTRIES = 20_000
_SEEN_SCHEMA = pl.Schema({name: RECORD_SCHEMA[name] for name in ("source", "observed_at", "observed_at_source")})
"""The fields of ``Seen``."""

Entry = tuple[Seen, Found]


class Block(NamedTuple):
    """Many lines of one file."""

    seen: Seen
    lines: Lines


Batch = Block | list[Entry]
"""What is judged together: lines of one file, or would-be records from anywhere."""


class Judged(NamedTuple):
    """The records of a batch and its rejects, each in the order found, and how many envelopes were empty."""

    records: pl.DataFrame
    rejects: pl.DataFrame
    n_empty: int


def batches(found: Iterable[tuple[Seen, Lines | Found]]) -> Iterator[Batch]:
    """What was found, in batches of a size that is quick to judge and bounded in memory."""
    entries: list[Entry] = []
    size = 0
    for seen, part in found:
        if isinstance(part, Lines) and len(part.block) >= _SMALL:
            if entries:
                yield entries
                entries, size = [], 0
            yield Block(seen, part)
        elif isinstance(part, Lines):
            entries += [(seen, text) for text in part.texts()]
            size += len(part.block)
        else:
            entries.append((seen, part))
            size += len(part.text) if isinstance(part, Text) else 0
        if size >= BLOCK or len(entries) >= _MOST_ENTRIES:
            yield entries
            entries, size = [], 0
    if entries:
        yield entries


def judge(batch: Batch) -> Judged:
    """Accept or refuse every would-be record of a batch."""
    placed = _judged(batch)
    return Judged(
        placed.records.select(RECORD_SCHEMA.names()), rejects.frame([row for _, row in placed.rejected]), placed.n_empty
    )


class _Placed(NamedTuple):
    """As :class:`Judged`, with the place in the batch that each record and each reject comes from."""

    records: pl.DataFrame
    rejected: list[tuple[int, tuple[Any, ...]]]
    n_empty: int


def _judged(batch: Batch) -> _Placed:
    if isinstance(batch, Block):
        try:
            texts = pl.read_lines(batch.lines.block).to_series()
        except pl.exceptions.ComputeError:  # not UTF-8 somewhere
            return _judged([(batch.seen, text) for text in batch.lines.texts()])
        seen, (_, first) = batch
        taken = columns(texts)
        placed = _with_the_rest(taken, texts, lambda at: (seen, Text(texts[at].encode(), first + at, None)))
        columns_of_seen = frame([seen], _SEEN_SCHEMA)[pl.zeros(len(placed.records), pl.UInt32, eager=True)]
    else:
        texts = pl.Series([_text(part) for _, part in batch], dtype=pl.String)
        placed = _with_the_rest(columns(texts), texts, batch.__getitem__)
        codes: dict[Seen, int] = {}
        each = pl.Series([codes.setdefault(seen, len(codes)) for seen, _ in batch], dtype=pl.UInt32)
        columns_of_seen = frame(codes, _SEEN_SCHEMA)[each.gather(placed.records[PLACE])]
    return placed._replace(records=placed.records.hstack(columns_of_seen))


def _with_the_rest(taken: pl.DataFrame, texts: pl.Series, entry: Callable[[int], Entry]) -> _Placed:
    """The records taken the quick way, and what the contract says of the others."""
    rows: list[tuple[Any, ...]] = []
    rejected: list[tuple[int, tuple[Any, ...]]] = []
    inner: list[Entry] = []
    owners: list[int] = []
    n_empty = 0
    for at in _left(len(texts), taken[PLACE]):
        seen, part = entry(at)
        for found in [part] if isinstance(part, Item | Empty) else opened(*part):
            if isinstance(found, Empty):
                n_empty += 1
            elif isinstance(found, Text):
                inner.append((seen, found))
                owners.append(at)
            else:
                try:
                    if found.problem:
                        raise Refusal("", found.problem)
                    rows.append((at, *flatten(found.value, parse(found.value))))
                except Refusal as refusal:
                    why = (refusal.field, refusal.reason)
                    rejected.append((at, rejects.row(seen.source, found.line, found.index, *why, found.source())))
    schema = pl.Schema({PLACE: taken[PLACE].dtype, **FLAT_SCHEMA})
    parts = [taken, frame(rows, schema)]
    if inner:
        # Elements of arrays and envelopes are usual again; what is left of them holds no texts, so this ends here.
        within = _judged(inner)
        owner = pl.Series(PLACE, owners, dtype=schema[PLACE])
        parts.append(within.records.select(schema.names()).with_columns(owner.gather(within.records[PLACE])))
        rejected += [(owners[at], row) for at, row in within.rejected]
        n_empty += within.n_empty
        rejected.sort(key=itemgetter(0))
    records = pl.concat(parts)
    if len(records) > len(taken):
        records = records.sort(PLACE, maintain_order=True)
    return _Placed(records, rejected, n_empty)


def _left(n: int, taken: pl.Series) -> pl.Series:
    """Which of the first n numbers were not taken."""
    everything = pl.int_range(n if len(taken) < n else 0, dtype=pl.UInt32, eager=True)
    return everything.filter(~everything.is_in(taken.implode()))


def _text(part: Found) -> str:
    """What is to be read; nothing if it is no text, no UTF-8, or clearly not one record."""
    if not isinstance(part, Text) or (part.index is None and part.text.startswith((b"[", b'{"success"'))):
        return ""
    try:
        return part.text.decode()
    except UnicodeDecodeError:
        return ""
