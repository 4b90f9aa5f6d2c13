"""Bytes → would-be records: NDJSON, JSON arrays, single records and API envelopes, told apart by their content.

A text whose first line is a complete JSON value is read line by line; each line is a record, an array of records
or an envelope, so a minified array is simply a file of one line. Any other text is one document over many lines, or
damaged: then whatever can still be told apart by brackets and commas is a record, accepted or refused. Nothing here
holds more than a part of a long text: lines come in blocks, the elements of a long array in windows.
"""

import codecs
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from itertools import chain, pairwise
from typing import Any

from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder

from jobstats.contract import Refusal, decode
from jobstats.ingest.found import Empty, Found, Item, Lines, Text, damage
from jobstats.ingest.salvage import array_start, as_bytes, as_text, saved, spans, values

BLOCK = 1 << 24
"""Bytes that are read and judged together; also how much of a document is looked at to tell what it is."""
_MOST_DAMAGED = 1 << 28
"""So far is the end of a damaged part of a long array looked for before what is in it is saved."""
_BETWEEN = re.compile(rb"\}\s*,(?=\s*\{)")
_LOOKED_BACK = 1_000_000
_MOST_TRIED = 20
_BLANK = b" \t\r\n"
_OPEN = (b"[", b"{")
_GOES_ON = (b",", b"[", b"{", b":")


class _Envelope(Struct, forbid_unknown_fields=True):
    success: bool
    message: str | None = None
    data: list[Raw] | None = None


_ARRAY = Decoder(list[Raw]).decode
_ENVELOPE = Decoder(_Envelope).decode
_ANY = Decoder(Raw).decode


def split(pieces: Iterable[bytes]) -> Iterator[Lines | Found]:
    """What a text that comes in pieces is made of, in order."""
    return _parted(_without_bom(pieces), 1)


def _parted(pieces: Iterator[bytes], number: int) -> Iterator[Lines | Found]:
    text, number, is_all = _beginning(pieces, number)
    first, newline, _ = text.partition(b"\n")
    if not text:
        return
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        yield damage(text + b"".join(pieces), number, None, "UTF-16 or UTF-32 text; save it as UTF-8")
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
        if index is None:
            for part in _broken(text, line, refusal.reason):
                yield from part.texts() if isinstance(part, Lines) else [part]
        else:
            yield damage(text, line, index, refusal.reason)


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
        source = as_text(text())
        return [as_bytes(source[span]) for span in spans(source, array_start(source))]

    def source_of(index: int) -> bytes:
        # An envelope with two "data" is decoded by its last and cut by its first: then the whole must do.
        return sources()[index] if len(sources()) == len(values) else text()

    for index, value in enumerate(values):
        yield Item(value, partial(source_of, index), line, index)


def _without_bom(pieces: Iterable[bytes]) -> Iterator[bytes]:
    iterator, first = iter(pieces), b""
    while len(first) < len(codecs.BOM_UTF8) and (piece := next(iterator, b"")):
        first += piece
    if first:
        yield first.removeprefix(codecs.BOM_UTF8)
    yield from iterator


def _beginning(pieces: Iterator[bytes], number: int) -> tuple[bytes, int, bool]:
    """A text to the end of its first line that is not blank, or further; that line's number; whether that is all."""
    text = bytearray()
    for piece in pieces:
        filled = piece if text else piece.lstrip(_BLANK)
        number += piece.count(b"\n", 0, len(piece) - len(filled))
        text += filled
        if len(text) >= BLOCK or b"\n" in filled:
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
    text, source = bytes(head), as_text(head)
    lines = text[: text.rfind(b"\n") + 1]
    if _holds_lines(lines):
        yield from _blocks(chain([text], pieces), number)
    elif (start := array_start(source)) is not None:
        opening = len(as_bytes(source[:start]))
        pieces = chain([text[opening:]], pieces)
        if lines:
            yield from _windows(text[:opening], pieces, number)
        else:
            behind: list[bytes] = []
            yield from _windows(text[:opening], _to_end_of_line(pieces, behind), number)
            yield from _blocks(chain(behind, pieces), number + 1)
    elif _opens_objects(lines):
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
    """One JSON value; failing that, lines with a broken one among them; failing that, what is left of the value."""
    text = text.strip(_BLANK)
    try:
        yield from _parts(text, number)
    except Refusal as refusal:
        source = as_text(text)
        is_of_lines = next(values(source), None) is None and _holds_lines(text)
        if is_of_lines or (array_start(source) is None and _opens_objects(text)):
            yield Lines(text, number)
        else:
            yield from _broken(text, number, refusal.reason)


def _broken(text: bytes, line: int | None, reason: str) -> Iterator[Lines | Found]:
    """Several JSON values one after the other, and what is left of one that is damaged."""
    source = as_text(text)
    several = [span for span in values(source) if span.stop - span.start < len(source)]
    for span in several:
        yield from opened(as_bytes(source[span]), line and line + source.count("\n", 0, span.start), None)
    rest = as_bytes(source[several[-1].stop :]).lstrip(_BLANK) if several else b""
    if rest:
        yield from _whole(rest, (line or 1) + text.count(b"\n", 0, len(text) - len(rest)))
    elif several:
        return
    elif array_start(source) is not None:
        yield from saved(source, reason, line)
    else:
        yield damage(text, line, None, reason)


def _holds_lines(text: bytes) -> bool:
    """Whether some line is a JSON array or object by itself, and no part of what the line before it began."""
    return any(
        line.startswith(_OPEN) and not before.endswith(_GOES_ON) and _is_json(line)
        for before, line in pairwise(_filled(text))
    )


def _opens_objects(text: bytes) -> bool:
    return b"\n" in text and all(line.startswith(b"{") for line in _filled(text))


def _filled(text: bytes) -> Iterator[bytes]:
    return (line for part in text.split(b"\n") if (line := part.strip(_BLANK)))


def _windows(opening: bytes, pieces: Iterator[bytes], number: int) -> Iterator[Lines | Found]:
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
        elif next(values(as_text(opening + window)), None):
            break  # the array has ended, and something else stands behind it
        elif limit < _MOST_DAMAGED or not end:
            limit, end = limit * 2, 0
        else:
            rest = as_text(opening + window[: end - 1])
            found, limit = (_moved(item, n) for item in saved(rest, None, number)), BLOCK
        for item in found:
            yield item
            n += 1
        del window[:end]
    source = as_text(opening + window)
    last = next(values(source), slice(0, len(source)))
    for item in opened(as_bytes(source[last]), number, None):
        if not (n and isinstance(item, Empty)):
            yield _moved(item, n)
    behind = as_bytes(source[last.stop :])
    yield from _parted(chain([behind], pieces), number + source.count("\n", 0, last.stop))


def _whole_elements(window: bytes) -> tuple[list[Raw], int]:
    """The elements up to the last comma between two of them, and where that ends.

    A comma inside an element does not pass: what stands before it is no JSON.
    """
    commas = [match.end() for match in _BETWEEN.finditer(window, max(0, len(window) - _LOOKED_BACK))]
    for end in reversed(commas[-_MOST_TRIED:]):
        try:
            return _ARRAY(b"[" + window[: end - 1] + b"]"), end
        except DecodeError:
            continue
    return [], commas[-1] if commas else 0


def _moved(found: Found, by: int) -> Found:
    if isinstance(found, Empty) or found.index is None:
        return found
    return found._replace(index=found.index + by)
