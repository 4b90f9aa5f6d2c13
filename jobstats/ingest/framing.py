"""Bytes → would-be records: NDJSON, JSON arrays, single records and API envelopes, told apart by their content.

A text whose first line is a complete JSON value is read line by line; each line is a record, an array of records
or an envelope, so a minified array is simply a file of one line. Any other text is one document over many lines, or
damaged: then whatever can still be told apart is, and each stretch between counts as one record, refused.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from typing import Any, NamedTuple

from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder

from jobstats.contract import Refusal, decode

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")
_OBJECT = re.compile(r",\s*(\{)")
_BLANK = b" \t\r\n"


class Item(NamedTuple):
    """What counts as one record: a decoded value, or a problem that kept it from being decoded.

    ``line`` is the 1-based line of the file, ``index`` the 0-based place in an array. ``text`` gives the exact
    source on demand, because only rejects need it.
    """

    value: Any
    text: Callable[[], bytes]
    line: int | None
    index: int | None  # type: ignore[assignment]  # hides tuple.index, which nobody asks of a record
    problem: str | None = None


class Empty(NamedTuple):
    """An envelope without records: an error body, a 404, or an organisation without jobs."""


class Row(NamedTuple):
    """A line that the caller's quick way has read already."""

    values: tuple[Any, ...]


class _Envelope(Struct, forbid_unknown_fields=True):
    success: bool
    message: str | None = None
    data: list[Raw] | None = None


_ARRAY = Decoder(list[Raw]).decode
_ENVELOPE = Decoder(_Envelope).decode

Found = Item | Empty | Row
Quick = Callable[[bytes], tuple[Any, ...] | None]


def split(pieces: Iterable[bytes], quick: Quick) -> Iterator[Found]:
    """Every would-be record of a text that comes in pieces, in order.

    A line is offered to ``quick`` first; only what it leaves is decoded here.
    """
    lines = _numbered_lines(pieces)
    first = next((line for line in lines if line[1].strip(_BLANK)), None)
    if first is None:
        return
    number, text = first
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        yield _damage(text, number, None, "UTF-16 or UTF-32 text; save it as UTF-8")
        return
    try:
        found = _read(text, number, quick)
    except Refusal:
        yield from _document([first, *lines], quick)
    else:
        yield from found
        yield from _line_by_line(lines, quick)


def _read(text: bytes, line: int | None, quick: Quick) -> Iterator[Found]:
    """What one JSON text holds, each part decoded as late as can be.

    Raises:
        Refusal: It is not JSON.
    """
    if (values := quick(text)) is not None:
        return iter((Row(values),))
    text = text.strip(_BLANK)
    try:
        if text.startswith(b"["):
            return _of_array(_ARRAY(text), line, quick)
        if text.startswith(b'{"success"') and (elements := _ENVELOPE(text).data):
            return _of_array(elements, line, quick)
    except DecodeError:
        pass  # another shape, or no JSON: the contract says which
    return contained(decode(text), partial(bytes, text), line)


def _of_array(elements: list[Raw], line: int | None, quick: Quick) -> Iterator[Found]:
    for index, element in enumerate(elements):
        text = bytes(element)
        if (values := quick(text)) is not None:
            yield Row(values)
            continue
        try:
            value = decode(text)
        except Refusal as refusal:
            yield _damage(text, line, index, refusal.reason)
            continue
        if is_envelope(value):
            yield from contained(value, partial(bytes, text), line)
        else:
            yield Item(value, partial(bytes, text), line, index)


def contained(value: Any, text: Callable[[], bytes], line: int | None) -> Iterator[Found]:
    """The records in one decoded JSON value: itself, the elements of an array, or the contents of an envelope."""
    if is_envelope(value):
        data = value.get("data")
        if data is None or data == []:
            yield Empty()
        elif isinstance(data, list):
            yield from _elements_of(data, text, line)
        elif isinstance(data, dict):
            yield Item(data, text, line, None)
        else:
            yield Item(None, text, line, None, "data: expected an array, an object or null in an envelope")
    elif isinstance(value, list):
        yield from _elements_of(value, text, line)
    else:
        yield Item(value, text, line, None)


def is_envelope(value: Any) -> bool:
    """Whether a value wraps records rather than being one: an answer of the API, or an error body."""
    if not isinstance(value, dict) or not {"name", "state", "timestamp"}.isdisjoint(value):
        return False
    return "success" in value or isinstance(value.get("error"), dict) or isinstance(value.get("data"), list)


def _elements_of(values: list[Any], text: Callable[[], bytes], line: int | None) -> Iterator[Item]:
    @cache
    def sources() -> list[bytes]:
        source = _as_text(text())
        return [_as_bytes(source[span]) for span in _spans(source, _array_start(source))]

    def source_of(index: int) -> bytes:
        # An envelope with two "data" is decoded by its last and cut by its first: then the whole must do.
        return sources()[index] if len(sources()) == len(values) else text()

    for index, value in enumerate(values):
        yield Item(value, partial(source_of, index), line, index)


def _numbered_lines(pieces: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Lines with their 1-based numbers."""
    number, unfinished = 1, [b""]
    for piece in _without_bom(pieces):
        head, *lines = piece.split(b"\n")
        unfinished.append(head)
        for line in lines:
            yield number, b"".join(unfinished)
            number, unfinished = number + 1, [line]
    yield number, b"".join(unfinished)


def _without_bom(pieces: Iterable[bytes]) -> Iterator[bytes]:
    iterator = iter(pieces)
    if (first := next(iterator, None)) is not None:
        yield first.removeprefix(codecs.BOM_UTF8)
    yield from iterator


def _line_by_line(lines: Iterable[tuple[int, bytes]], quick: Quick) -> Iterator[Found]:
    for number, line in lines:
        if (values := quick(line)) is not None:
            yield Row(values)
        elif text := line.strip(_BLANK):
            try:
                found = _read(text, number, quick)
            except Refusal as refusal:
                yield _damage(text, number, None, refusal.reason)
            else:
                yield from found


def _document(lines: list[tuple[int, bytes]], quick: Quick) -> Iterator[Found]:
    """One JSON value over many lines; failing that, what can be saved of it; failing that, broken lines."""
    whole = b"\n".join(line for _, line in lines).strip(_BLANK)
    try:
        found = _read(whole, lines[0][0], quick)
    except Refusal as refusal:
        if _array_start(_as_text(whole)) is not None:
            yield from _saved(_as_text(whole), refusal.reason)
        elif _are_records(lines):
            yield from _line_by_line(lines, quick)
        else:
            yield _damage(whole, lines[0][0], None, refusal.reason)
    else:
        yield from found


def _are_records(lines: list[tuple[int, bytes]]) -> bool:
    """Whether broken text is NDJSON after all: each line opens an object, or one is an object by itself."""
    texts = [text for _, line in lines if (text := line.strip(_BLANK))]
    return all(text.startswith(b"{") for text in texts) or any(map(_is_object, texts))


def _is_object(text: bytes) -> bool:
    try:
        return isinstance(decode(text), dict)
    except Refusal:
        return False


def _saved(source: str, reason: str) -> Iterator[Item]:
    """The elements of a damaged array, and each stretch between them that makes no sense as one refused record."""
    position, index, is_found = _array_start(source), 0, False
    while position is not None:
        end = position
        for span in _spans(source, position):
            text, end = _as_bytes(source[span]), span.stop
            try:
                yield Item(decode(text), partial(bytes, text), None, index)
            except Refusal as refusal:
                is_found = True
                yield _damage(text, None, index, refusal.reason)
            index += 1
        position = _next_record(source, end)
        rest = source[end:position].strip(" \t\r\n,]}" if position is None else " \t\r\n,")
        if rest or (position is None and not is_found):
            is_found = True
            yield _damage(_as_bytes(rest), None, index, reason)
            index += 1


def _next_record(source: str, position: int) -> int | None:
    """Where the next object that looks like a record starts."""
    for start in _OBJECT.finditer(source, position + 1):
        try:
            value, _ = _DECODER.raw_decode(source, start.start(1))
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and not {"name", "state"}.isdisjoint(value):
            return start.start(1)
    return None


def _spans(source: str, position: int | None) -> Iterator[slice]:
    """Where each element of an array lies, from a position until the array ends or makes no sense."""
    while position is not None:
        start = _skip(source, position)
        try:
            _, end = _DECODER.raw_decode(source, start)
        except (ValueError, RecursionError):
            return
        yield slice(start, end)
        following = _skip(source, end)
        position = following + 1 if source[following : following + 1] == "," else None


def _array_start(source: str) -> int | None:
    """The position behind the bracket that opens the records: of the document, or of ``data`` in an envelope."""
    position = _skip(source, 0)
    if source[position : position + 1] == "[":
        return position + 1
    if source[position : position + 1] != "{":
        return None
    position += 1
    try:
        while True:
            key, position = _DECODER.raw_decode(source, _skip(source, position))
            position = _skip(source, _skip(source, position) + 1)
            if key == "data" and source[position : position + 1] == "[":
                return position + 1
            _, position = _DECODER.raw_decode(source, position)
            position = _skip(source, position) + 1
    except (ValueError, RecursionError):
        return None


def _skip(source: str, position: int) -> int:
    match = _SPACE.match(source, position)
    return match.end() if match else position


def _damage(text: bytes, line: int | None, index: int | None, problem: str) -> Item:
    return Item(None, partial(bytes, text), line, index, problem)


def _as_text(source: bytes) -> str:
    return source.decode("utf-8", "surrogateescape")


def _as_bytes(source: str) -> bytes:
    return source.encode("utf-8", "surrogateescape")
