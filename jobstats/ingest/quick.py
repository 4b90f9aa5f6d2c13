"""The quick way for records as today's server writes them, which nearly all are.

A line is decoded straight into typed fields, without a Python object for each key. Whatever is unusual about it (an
unknown key, snake_case, a wrong type, nesting, a schedule never seen before that is wrong) is no verdict: the line is
left to :mod:`jobstats.contract`, which alone accepts and refuses. Nested JSON is kept as text and handed to the
contract once per distinct text, because schedules and progress repeat.
"""

from collections.abc import Callable
from typing import Annotated, Any, Generic, TypeVar

from msgspec import DecodeError, Meta, Raw, Struct
from msgspec.json import Decoder

from jobstats.contract import LAST_MS, MOST_ATTEMPTS, Refusal, decode, parse_instant, parse_schedule
from jobstats.ingest import flatten
from jobstats.ingest.flatten import Seen, json_text, progress_columns, schedule_columns
from jobstats.table import epoch_ms

_EpochMs = Annotated[int, Meta(ge=0, le=LAST_MS)]
_NULL = Raw(b"null")
MOST_REMEMBERED = 100_000
_DEEP = 50

Key = TypeVar("Key")
Value = TypeVar("Value")


class _Data(Struct, forbid_unknown_fields=True, rename="camel", gc=False):
    connector: str
    org_id: str
    user_id: str
    timestamp: str
    schedule_config: Raw
    connector_id: str | None = None
    metadata: Raw = _NULL


class _Record(Struct, forbid_unknown_fields=True, rename="camel", gc=False):
    name: str
    data: _Data
    timestamp: _EpochMs
    attempts_made: Annotated[int, Meta(ge=0, le=MOST_ATTEMPTS)]
    state: str
    id: str | None = None
    progress: Raw = _NULL
    delay: Annotated[int, Meta(ge=-LAST_MS, le=LAST_MS)] | None = None
    finished_on: _EpochMs | None = None
    processed_on: _EpochMs | None = None
    failed_reason: str | None = None


class Remembered(dict[Key, Value], Generic[Key, Value]):
    """A function's values by argument, so that what repeats is worked out once; forgotten when it grows too large."""

    def __init__(self, work_out: Callable[[Key], Value]) -> None:
        super().__init__()
        self._work_out = work_out

    def __missing__(self, key: Key) -> Value:
        if len(self) >= MOST_REMEMBERED:
            self.clear()
        value = self[key] = self._work_out(key)
        return value


def _schedule(text: bytes) -> tuple[Any, ...]:
    exported = _nested(text)
    return schedule_columns(exported, parse_schedule(exported))


def _metadata(text: bytes) -> str | None:
    value = _nested(text)
    if not isinstance(value, dict | None):
        raise Refusal("data.metadata", "left to the contract")
    return json_text(value, "data.metadata")


def _nested(text: bytes) -> Any:
    """JSON inside a record. The contract bounds the nesting of the whole record; far below that, parts can be read."""
    if text.count(b"[") + text.count(b"{") > _DEEP:
        raise Refusal("", "left to the contract")
    return decode(text)


_record = Decoder(_Record).decode
_instants = Remembered[str, int](lambda text: epoch_ms(parse_instant(text)))
_schedules = Remembered[bytes, tuple[Any, ...]](_schedule)
_progress = Remembered[bytes, tuple[Any, ...]](lambda text: progress_columns(_nested(text)))


def row(line: bytes, seen: Seen) -> tuple[Any, ...] | None:
    """The row that :func:`jobstats.ingest.flatten.flatten` makes of a usual line; None says: ask the contract."""
    try:
        job = _record(line)
        data = job.data
        return flatten.row(
            job,
            progress=_progress[bytes(job.progress)],
            schedule=_schedules[bytes(data.schedule_config)],
            requested_ms=_instants[data.timestamp],
            metadata=None if data.metadata is _NULL else _metadata(bytes(data.metadata)),
            extra=None,
            seen=seen,
        )
    except (DecodeError, UnicodeDecodeError, RecursionError, Refusal):
        return None
