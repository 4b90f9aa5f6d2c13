"""Bytes → would-be records: NDJSON, JSON arrays, single records and API envelopes, told apart by their content.

A text whose first line is a complete JSON value is read line by line; each line is a record, an array of records
or an envelope, so a minified array is simply a file of one line. Any other text is one document over many lines, or
damaged: then whatever can still be told apart by brackets and commas is a record, accepted or refused. Nothing here
holds more than a part of a long text: lines come in blocks, the elements of a long array in windows.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from itertools import chain
from typing import Any, NamedTuple

from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder

from jobstats.contract import Refusal, decode

BLOCK = 1 << 24
"""Bytes that are read and judged together; also how much of a document is looked at to tell what it is."""
_MOST_DAMAGED = 1 << 28
"""So far is the end of a damaged part of a long array looked for before what is in it is saved."""
_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")
_OBJECT = re.compile(r",\s*(\{)")
_BETWEEN = re.compile(rb"\}\s*,(?=\s*\{)")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},]', re.DOTALL)
_MOST_CUTS = 100
"""So often is a damaged array searched for the next record; what is damaged more often is read no further."""
_LONGEST_LOOK = 1_000_000
_MOST_TRIED = 20
_BLANK = b" \t\r\n"


class Lines(NamedTuple):
    """Whole lines, each of which may be a record, an array, an envelope, blank or damaged."""

    block: bytes
    first: int
    """The 1-based number of the first line in the file."""


class Text(NamedTuple):
    """What should be one record, not read yet; ``line`` and ``index`` as in :class:`Item`."""

    text: bytes
    line: int | None
    index: int | None  # type: ignore[assignment]  # hides tuple.index, which nobody asks of a record


class Item(NamedTuple):
    """What counts as one record: a decoded value, or a problem that kept it from being decoded.

    ``line`` is the 1-based line of the file, ``index`` the 0-based place in an array. ``source`` gives the exact
    text on demand, because only rejects need it.
    """

    value: Any
    source: Callable[[], bytes]
    line: int | None
    index: int | None  # type: ignore[assignment]
    problem: str | None = None


class Empty(NamedTuple):
    """An envelope without records: an error body, a 404, or an organisation without jobs."""


class _Envelope(Struct, forbid_unknown_fields=True):
    success: bool
    message: str | None = None
    data: list[Raw] | None = None


_ARRAY = Decoder(list[Raw]).decode
_ENVELOPE = Decoder(_Envelope).decode
_ANY = Decoder(Raw).decode

Found = Text | Item | Empty


def split(pieces: Iterable[bytes]) -> Iterator[Lines | Found]:
    """What a text that comes in pieces is made of, in order."""
    pieces = _without_bom(pieces)
    text, number, is_all = _beginning(pieces)
    first, newline, _ = text.partition(b"\n")
    if not text:
        return
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        yield _damage(text + b"".join(pieces), number, None, "UTF-16 or UTF-32 text; save it as UTF-8")
    elif (newline or is_all) and _is_json(first):
        yield from _blocks(chain([text], pieces), number)
    else:
        yield from _document(text, pieces, number)


def opened(text: bytes, line: int | None, index: int | None) -> Iterator[Found]:
    """What a line, or an element of an array, holds when it is not a usual record."""
    text = text.strip(_BLANK)
    if not text:
        return
    try:
        if index is None:
            yield from _parts(text, line)
        elif is_envelope(value := decode(text)):
            yield from contained(value, partial(bytes, text), line)
        else:
            yield Item(value, partial(bytes, text), line, index)
    except Refusal as refusal:
        yield _damage(text, line, index, refusal.reason)


def _parts(text: bytes, line: int | None) -> Iterator[Found]:
    """The records in a JSON text.

    Raises:
        Refusal: It is not JSON.
    """
    try:
        if text.startswith(b"["):
            return _numbered(_ARRAY(text), line, 0)
        if text.startswith(b'{"success"') and (elements := _ENVELOPE(text).data):
            return _numbered(elements, line, 0)
    except DecodeError:
        pass  # another shape, or no JSON: the contract says which
    return contained(decode(text), partial(bytes, text), line)


def _numbered(elements: Iterable[Raw], line: int | None, start: int) -> Iterator[Found]:
    return (Text(bytes(element), line, index) for index, element in enumerate(elements, start))


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


def _without_bom(pieces: Iterable[bytes]) -> Iterator[bytes]:
    iterator = iter(pieces)
    if (first := next(iterator, None)) is not None:
        yield first.removeprefix(codecs.BOM_UTF8)
    yield from iterator


def _beginning(pieces: Iterator[bytes]) -> tuple[bytes, int, bool]:
    """A text to the end of its first line that is not blank, or further; that line's number; whether that is all."""
    text, number = bytearray(), 1
    for piece in pieces:
        text += piece
        n_blank = len(text) - len(text.lstrip(_BLANK))
        number += text.count(b"\n", 0, n_blank)
        del text[:n_blank]
        if len(text) >= BLOCK or b"\n" in text:
            return bytes(text), number, False
    return bytes(text), number, True


def _blocks(pieces: Iterable[bytes], number: int) -> Iterator[Lines]:
    """Whole lines, many at a time."""
    unfinished: list[bytes] = []
    size = 0
    for piece in pieces:
        unfinished.append(piece)
        size += len(piece)
        if size >= BLOCK and (end := piece.rfind(b"\n") + 1):
            unfinished[-1] = piece[: end - 1]
            block = b"".join(unfinished)
            yield Lines(block, number)
            number += block.count(b"\n") + 1
            unfinished = [piece[end:]]
            size = len(piece) - end
    if size:
        yield Lines(b"".join(unfinished), number)


def _is_json(text: bytes) -> bool:
    try:
        _ANY(text)
    except DecodeError:
        return False
    return True


def _document(text: bytes, pieces: Iterator[bytes], number: int) -> Iterator[Lines | Found]:
    """One JSON value over many lines, or in one that is long; or broken lines."""
    head = bytearray(text)
    while len(head) < BLOCK and (piece := next(pieces, b"")):
        head += piece
    if len(head) < BLOCK:
        yield from _whole(bytes(head), number)
        return
    text = bytes(head)
    if (start := _array_start(_as_text(text))) is not None:
        opening = len(_as_bytes(_as_text(text)[:start]))
        pieces = chain([text[opening:]], pieces)
        if b"\n" in text:
            yield from _windows(text[:opening], pieces, number)
        else:
            behind: list[bytes] = []
            yield from _windows(text[:opening], _to_end_of_line(pieces, behind), number)
            yield from _blocks(chain(behind, pieces), number + 1)
    elif _are_records(text[: text.rfind(b"\n") + 1]):
        yield from _blocks(chain([text], pieces), number)
    else:
        yield from _whole(text + b"".join(pieces), number)


def _to_end_of_line(pieces: Iterable[bytes], behind: list[bytes]) -> Iterator[bytes]:
    """The rest of a line; what came with its end goes behind."""
    for piece in pieces:
        line, newline, rest = piece.partition(b"\n")
        yield line
        if newline:
            behind.append(rest)
            return


def _whole(text: bytes, number: int) -> Iterator[Lines | Found]:
    """One JSON value; failing that, what can be saved of it; failing that, broken lines."""
    stripped = text.strip(_BLANK)
    try:
        yield from _parts(stripped, number)
    except Refusal as refusal:
        if _array_start(_as_text(stripped)) is not None:
            yield from _saved(_as_text(stripped), refusal.reason)
        elif _are_records(text):
            yield Lines(text, number)
        else:
            yield _damage(stripped, number, None, refusal.reason)


def _windows(opening: bytes, pieces: Iterable[bytes], number: int) -> Iterator[Found]:
    """The elements of a long array, window by window; ``opening`` is what stands before the first of them."""
    window, limit, n = bytearray(), BLOCK, 0
    for piece in pieces:
        window += piece
        if len(window) < limit:
            continue
        elements, end = _whole_elements(bytes(window))
        found: Iterable[Found] = ()
        if elements:
            found, limit = _numbered(elements, number, n), BLOCK
        elif limit < _MOST_DAMAGED or not end:
            limit, end = limit * 2, 0
        else:
            saved = _saved(_as_text(opening + window[: end - 1]), None)
            found, limit = (_moved(item, n) for item in saved), BLOCK
        for item in found:
            yield item
            n += 1
        del window[:end]
    for rest in _whole(opening + bytes(window), number):
        if not isinstance(rest, Lines | Empty):
            yield _moved(rest, n)
        elif not n:
            yield Empty()


def _whole_elements(window: bytes) -> tuple[list[Raw], int]:
    """The elements up to the last comma between two of them, and where that ends.

    A comma inside an element does not pass: what stands before it is no JSON.
    """
    commas = [match.end() for match in _BETWEEN.finditer(window, max(0, len(window) - _LONGEST_LOOK))]
    for end in reversed(commas[-_MOST_TRIED:]):
        try:
            return _ARRAY(b"[" + window[: end - 1] + b"]"), end
        except DecodeError:
            continue
    return [], commas[-1] if commas else 0


def _moved(found: Text | Item | Empty, by: int) -> Found:
    if isinstance(found, Empty) or found.index is None:
        return found
    return found._replace(index=found.index + by)


def _are_records(text: bytes) -> bool:
    """Whether broken text is NDJSON after all: each line opens an object, or one is an object by itself."""
    lines = [line for part in text.split(b"\n") if (line := part.strip(_BLANK))]
    return all(line.startswith(b"{") for line in lines) or any(map(_is_object, lines))


def _is_object(text: bytes) -> bool:
    try:
        return isinstance(decode(text), dict)
    except Refusal:
        return False


def _saved(source: str, reason: str | None) -> Iterator[Found]:
    """The elements of a damaged array. One that swallowed its neighbours ends where the next record starts.

    ``reason`` says why the array is damaged, should its elements not; None if it simply goes on.
    """
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
    if not n_found and reason is not None:
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
