"""The quick way for records as servers and the SDK write them, which nearly all are: whole columns at a time.

What is unusual about a text (an unknown key, snake_case, a wrong type, a number too large, an escape where none is
expected) is no verdict: the text is left to :mod:`jobstats.contract`, which alone accepts and refuses. What repeats
(schedules, metadata, unusual progress) is handed to the contract once per distinct text.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import polars as pl

from jobstats.contract import MOST_ATTEMPTS, Refusal, decode, parse_instant, parse_schedule
from jobstats.ingest.cut import cut, cut_with_nulls, holds_float
from jobstats.ingest.flatten import FLAT_SCHEMA, frame, json_text, progress_columns, schedule_columns
from jobstats.moments import LAST_MS, epoch_ms

_RECORD = (
    *("id", "name", "data", "progress", "delay", "timestamp", "attemptsMade", "finishedOn", "processedOn"),
    *("failedReason", "state"),
)
_DATA = ("connector", "connectorId", "orgId", "userId", "timestamp", "scheduleConfig", "metadata")
_PROGRESS = ("percentage", "current", "total")
_INTEGERS = {
    "timestamp": (0, LAST_MS),
    "finishedOn": (0, LAST_MS),
    "processedOn": (0, LAST_MS),
    "delay": (-LAST_MS, LAST_MS),
    "attemptsMade": (0, MOST_ATTEMPTS),
}
_PROGRESS_COLUMNS = [name for name in FLAT_SCHEMA if name.startswith("progress_")]
_SCHEDULE_COLUMNS = [name for name in FLAT_SCHEMA if name.startswith("schedule_")]
_DATA_COLUMNS = [
    *("org_id", "user_id", "connector", "connector_id", "requested_at", "metadata_json"),
    *_SCHEDULE_COLUMNS,
]
_INSTANT = r'^"\d{4}-\d\d-\d\dT\d\d:\d\d:[0-5]\d\.\d{3}Z"$'
_NUMBER = r"^-?\d"
_YEAR_1 = -62_135_596_800_000
_LEAST_PLAIN, _MOST_PLAIN = 1e-4, 1e15
"""Between these, DuckDB and Python write a float alike; elsewhere one of them may use an exponent."""
_DEEP = 50
PLACE = "_at"
_MOST_REMEMBERED = 100_000
_MOST_SPACED = 8_000
"""Texts to take the white space out of at a time: that is done text by text, and takes memory."""

Values = tuple[Any, ...]
Cut = Callable[[pl.Series, Sequence[str]], tuple[pl.DataFrame, pl.Series]]


class _Remembered(dict[str | None, Values | None]):
    """Columns by JSON text, so that what repeats is worked out once; None where the contract must see the record."""

    def __init__(self, work_out: Callable[[str | None], Values]) -> None:
        super().__init__()
        self._work_out = work_out

    def __missing__(self, text: str | None) -> Values | None:
        if len(self) >= _MOST_REMEMBERED:
            self.clear()
        try:
            values: Values | None = self._work_out(text)
        except Refusal:
            values = None
        self[text] = values
        return values


def _schedule(text: str | None) -> Values:
    exported = _nested(text)
    return schedule_columns(exported, parse_schedule(exported))


def _metadata(text: str | None) -> Values:
    value = _nested(text)
    if not isinstance(value, dict | None):
        raise Refusal("data.metadata", "left to the contract")
    return (json_text(value, "data.metadata"),)


def _nested(text: str | None) -> Any:
    """JSON inside a record. The contract bounds the nesting of the whole record; far below that, parts can be read."""
    if text is None:
        return None
    if text.count("[") + text.count("{") > _DEEP:
        raise Refusal("", "left to the contract")
    return decode(text.encode())


_schedules = _Remembered(_schedule)
_metadatas = _Remembered(_metadata)
_requests = _Remembered(lambda text: (epoch_ms(parse_instant(_nested(text))),))
_progresses = _Remembered(lambda text: progress_columns(_nested(text)))


def columns(texts: pl.Series) -> pl.DataFrame:
    """Each usual text as a row of :data:`flatten.FLAT_SCHEMA`; :data:`PLACE` says which of the texts it is."""
    # White space between tokens and explicit nulls are usual too, but looked for only where they are.
    is_spaced = len(texts) > 0 and _minified(texts[0]) != texts[0]
    if is_spaced and len(texts) > _MOST_SPACED:
        starts = range(0, len(texts), _MOST_SPACED)
        parts = ((start, columns(texts.slice(start, _MOST_SPACED))) for start in starts)
        return pl.concat(part.with_columns(pl.col(PLACE) + start) for start, part in parts)
    taken = _taken(_all_minified(texts) if is_spaced else texts, cut)
    if len(taken) == len(texts):
        return taken
    left = texts.alias("text").to_frame().with_row_index(PLACE).join(taken.select(PLACE), on=PLACE, how="anti")
    again = _taken(_all_minified(left["text"]), cut_with_nulls)
    return pl.concat([taken, again.with_columns(left[PLACE].gather(again[PLACE]))]).sort(PLACE)


def _all_minified(texts: pl.Series) -> pl.Series:
    return pl.Series([_minified(text) for text in texts], dtype=pl.String)


def _minified(text: str) -> str:
    """A JSON text without white space between its tokens; empty if it is none."""
    try:
        return msgspec.json.format(text, indent=-1)
    except (msgspec.DecodeError, RecursionError):
        return ""


def _taken(texts: pl.Series, cut: Cut) -> pl.DataFrame:
    record, is_whole = cut(texts, _RECORD)
    rows = record.with_columns(_text=texts).with_row_index(PLACE).filter(is_whole)
    rows = rows.join(_data(rows["data"].unique(), cut), on="data", maintain_order="left")
    rows = rows.join(_progress(rows["progress"].unique()), on="progress", maintain_order="left", nulls_equal=True)
    for key in ("data", "progress"):
        # An exponent may have been written as more digits, and these hide as many characters that do not belong there.
        # So such values must stand as they are, where no other key of that name could be meant.
        name = f'"{key}":'
        is_as_written = (pl.col("_text").str.count_matches(name, literal=True) == 1) & pl.col("_text").str.contains(
            pl.concat_str(pl.lit(name), key), literal=True
        )
        if len(others := rows.filter(f"_{key}_floats").filter(~is_as_written)):
            rows = rows.join(others.select(PLACE), on=PLACE, how="anti", maintain_order="left")
    integers = {key: pl.col(key).cast(pl.Int64, strict=False) for key in _INTEGERS}
    rows = rows.filter(
        *(
            pl.col(key).is_null() | value.is_between(*_INTEGERS[key]).fill_null(False)
            for key, value in integers.items()
        ),
        *(_is_plain(key) for key in ("id", "name", "state")),
        pl.col("failedReason").str.starts_with('"').fill_null(True),
        *(pl.col(key).is_not_null() for key in ("name", "timestamp", "attemptsMade", "state")),
    )
    return rows.select(
        *(PLACE, *_DATA_COLUMNS, *_PROGRESS_COLUMNS),
        job_id=_unquoted("id"),
        name=_unquoted("name"),
        state=_unquoted("state"),
        failed_reason=_unescaped(rows["failedReason"]),
        attempts_made=integers["attemptsMade"],
        delay_ms=integers["delay"],
        created_at=integers["timestamp"].cast(FLAT_SCHEMA["created_at"]),
        processed_at=integers["processedOn"].cast(FLAT_SCHEMA["processed_at"]),
        finished_at=integers["finishedOn"].cast(FLAT_SCHEMA["finished_at"]),
        extra_json=pl.lit(None, pl.String),
    ).select(PLACE, *FLAT_SCHEMA)


def _data(texts: pl.Series, cut: Cut) -> pl.DataFrame:
    """The columns that the usual ones of distinct ``data`` make."""
    names = {"org_id": "orgId", "user_id": "userId", "connector": "connector", "connector_id": "connectorId"}
    data, is_whole = cut(texts, _DATA)
    data = data.with_columns(data=texts).filter(
        is_whole,
        *(_is_plain(key) for key in names.values()),
        *(pl.col(key).is_not_null() for key in ("orgId", "userId", "connector", "timestamp", "scheduleConfig")),
    )
    data = data.join(_instants(data["timestamp"].unique()), on="timestamp")
    data = data.join(_worked_out(data["scheduleConfig"], _schedules, _SCHEDULE_COLUMNS), on="scheduleConfig")
    data = data.join(_worked_out(data["metadata"], _metadatas, ["metadata_json"]), on="metadata", nulls_equal=True)
    return data.with_columns(_unquoted(key).alias(name) for name, key in names.items()).select(
        "data", *_DATA_COLUMNS, _data_floats=holds_float("data")
    )


def _instants(texts: pl.Series) -> pl.DataFrame:
    """``requested_at`` of distinct JSON texts: as JavaScript writes them, and what else the contract takes."""
    instant = pl.col("timestamp").str.to_datetime('"%Y-%m-%dT%H:%M:%S%.3fZ"', time_unit="ms", strict=False)
    usual = texts.to_frame().filter(pl.col("timestamp").str.contains(_INSTANT))
    usual = usual.with_columns(requested_at=instant.dt.replace_time_zone("UTC"))
    usual = usual.filter(pl.col("requested_at").dt.epoch("ms") >= _YEAR_1)
    rest = texts.to_frame().join(usual, on="timestamp", how="anti")["timestamp"]
    return pl.concat([usual, _worked_out(rest, _requests, ["requested_at"])])


def _progress(texts: pl.Series) -> pl.DataFrame:
    """The columns of distinct ``progress``: null, a number or an object of numbers; the rest is worked out singly."""
    parts, is_object = cut(texts, _PROGRESS)
    is_number = pl.col("progress").str.contains(_NUMBER)
    parts = parts.with_columns(progress=texts).with_columns(
        percentage=pl.when(is_number).then("progress").otherwise("percentage")
    )
    values = {key: pl.col(key).cast(pl.Float64, strict=False) for key in _PROGRESS}
    is_plain = [
        pl.col(key).is_null() | ((value == 0) | value.abs().is_between(_LEAST_PLAIN, _MOST_PLAIN)).fill_null(False)
        for key, value in values.items()
    ]
    usual = parts.filter(is_object | is_number | pl.col("progress").is_null(), *is_plain).select(
        "progress",
        progress_pct=values["percentage"],
        progress_current=values["current"],
        progress_total=values["total"],
        progress_json="progress",
    )
    rest = texts.to_frame().join(usual, on="progress", how="anti", nulls_equal=True)["progress"]
    return pl.concat([usual, _worked_out(rest, _progresses, _PROGRESS_COLUMNS)]).with_columns(
        _progress_floats=holds_float("progress").fill_null(False)
    )


def _is_plain(key: str) -> pl.Expr:
    """Null, or a JSON string without escapes."""
    text = pl.col(key)
    return (text.str.starts_with('"') & ~text.str.contains("\\", literal=True)).fill_null(True)


def _unquoted(key: str) -> pl.Expr:
    return pl.col(key).str.strip_prefix('"').str.strip_suffix('"')


def _unescaped(texts: pl.Series) -> pl.Series:
    """JSON strings as what they say, those with escapes decoded once per distinct text."""
    plain = texts.str.strip_prefix('"').str.strip_suffix('"')
    escaped = texts.filter(texts.str.contains("\\", literal=True)).unique()
    if not len(escaped):
        return plain
    decoded = pl.Series([decode(text.encode()) for text in escaped], dtype=pl.String)
    return texts.replace_strict(escaped, decoded, default=plain)


def _worked_out(texts: pl.Series, remembered: _Remembered, names: list[str]) -> pl.DataFrame:
    """The columns of each distinct text that can be read alone."""
    rows = [(text, *values) for text in texts.unique() if (values := remembered[text]) is not None]
    return frame(rows, pl.Schema({texts.name: pl.String(), **{name: FLAT_SCHEMA[name] for name in names}}))
