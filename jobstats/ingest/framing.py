"""Bytes → would-be records: NDJSON, JSON arrays, single records and API envelopes, told apart by their content.

A text whose first line is a complete JSON value is read line by line; each line is a record, an array of records
or an envelope, so a minified array is simply a file of one line. Any other text is one document over many lines, or
damaged: then whatever can still be told apart by brackets and commas is a record, accepted or refused.
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
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},]', re.DOTALL)
_MOST_CUTS = 100
"""So often is a damaged array searched for the next record; what is damaged more often is read no further."""
_LONGEST_LOOK = 1_000_000
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
    return _unusual(text.strip(_BLANK), line, quick)


def _unusual(text: bytes, line: int | None, quick: Quick) -> Iterator[Found]:
    """What a JSON text holds that is not one usual record.

    Raises:
        Refusal: It is not JSON.
    """
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
                found = _unusual(text, number, quick)
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


def _saved(source: str, reason: str) -> Iterator[Found]:
    """The elements of a damaged array. One that swallowed its neighbours ends where the next record starts."""
    position, index, n_found, n_cut = _array_start(source), 0, 0, 0
    while position is not None:
        start, position = position, None
        for span in _spans(source, start):
            text = _as_bytes(source[span])
            try:
                found: Found = Item(decode(text), partial(bytes, text), None, index)
            except Refusal as refusal:
                n_found += 1
                following = _next_record(source, span) if n_cut < _MOST_CUTS else None
                if following is not None:
                    n_cut += 1
                    text = _as_bytes(source[span.start : following].rstrip(" \t\r\n,"))
                    position = following
                found = _damage(text, None, index, refusal.reason)
            yield found
            index += 1
            if position is not None:
                break
    if not n_found:
        yield _damage(b"", None, index, reason)


def _next_record(source: str, span: slice) -> int | None:
    """Where, inside a damaged element, an object starts that looks like a record."""
    for comma in _OBJECT.finditer(source, span.start + 1, span.stop):
        start = comma.start(1)
        ahead = source[start : start + _LONGEST_LOOK]
        element = next(_spans(ahead, 0), slice(0, 0))
        try:
            value = decode(_as_bytes(ahead[element]))
        except Refusal:
            continue
        if isinstance(value, dict) and not {"name", "state"}.isdisjoint(value):
            return start
    return None


def _spans(source: str, position: int | None) -> Iterator[slice]:
    """Where each element of an array lies, told by commas and brackets outside strings, so also where it is damaged."""
    if position is None:
        return
    start, depth = position, 0
    for token in _TOKEN.finditer(source, position):
        mark = token.group()
        if mark in "[{":
            depth += 1
        elif mark in "]}":
            depth -= 1
        if depth < 0 or (mark == "," and depth == 0):
            yield from _trimmed(source, start, token.start())
            start = token.end()
        if depth < 0:
            return
    yield from _trimmed(source, start, len(source))


def _trimmed(source: str, start: int, end: int) -> Iterator[slice]:
    start = min(_skip(source, start), end)
    while end > start and source[end - 1] in " \t\r\n":
        end -= 1
    if end > start:
        yield slice(start, end)


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
