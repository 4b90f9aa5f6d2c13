"""Text that is not the JSON it should be: where its values lie, told by brackets and commas, and what can be saved.

Texts are strings here, for brackets are sought with regular expressions; bytes that are no UTF-8 survive in them.
"""

import json
import re
from collections.abc import Iterator

from jobstats.contract import Refusal, decode
from jobstats.ingest.found import Found, Text, damage

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")
_OBJECT = re.compile(r",\s*(\{)")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},]', re.DOTALL)
_MOST_CUTS = 100
"""So often is a damaged array searched for the next record; what is damaged more often is read no further."""
_LONGEST_LOOK = 1_000_000


def values(source: str) -> Iterator[slice]:
    """Where the first JSON values lie in a text that holds nothing but arrays and objects, one after the other."""
    position = _skip(source, 0)
    while position < len(source):
        try:
            _, end = _DECODER.raw_decode(source, position)
        except (ValueError, RecursionError):
            return
        following = _skip(source, end)
        if source[following : following + 1] not in ("", "[", "{"):
            return
        yield slice(position, end)
        position = following


def saved(source: str, reason: str | None, line: int | None) -> Iterator[Found]:
    """The elements of a damaged array. One that swallowed its neighbours ends where the next record starts.

    ``reason`` says why the array is damaged, should its elements not; None if it simply goes on.
    """
    position, index, n_found, n_cut, end = array_start(source), 0, 0, 0, 0
    while position is not None:
        start, position = position, None
        for span in spans(source, start):
            text = as_bytes(source[span])
            try:
                decode(text)
                found: Found = Text(text, line, index)
            except Refusal as refusal:
                n_found += 1
                following = _next_record(source, span) if n_cut < _MOST_CUTS else None
                if following is not None:
                    n_cut += 1
                    text = as_bytes(source[span.start : following].rstrip(" \t\r\n,"))
                    position = following
                found = damage(text, line, index, refusal.reason)
            yield found
            index, end = index + 1, span.stop
            if position is not None:
                break
    behind = source[end:].strip(" \t\r\n,")
    if behind if reason is None else not (n_found and _closes(behind)):
        yield damage(as_bytes(behind), line, index, reason or "not JSON: text behind the end of the array")


def _closes(text: str) -> bool:
    """Whether that is how an array, or an envelope around one, ends; a text that was cut off ends with nothing."""
    for opening in ("[", '{"data":['):
        try:
            _DECODER.decode(opening + text)
        except ValueError:
            continue
        return True
    return not text


def _next_record(source: str, span: slice) -> int | None:
    """Where, inside a damaged element, an object starts that looks like a record."""
    for comma in _OBJECT.finditer(source, span.start + 1, span.stop):
        start = comma.start(1)
        ahead = source[start : start + _LONGEST_LOOK]
        element = next(spans(ahead, 0), slice(0, 0))
        try:
            value = decode(as_bytes(ahead[element]))
        except Refusal:
            continue
        if isinstance(value, dict) and not {"name", "state"}.isdisjoint(value):
            return start
    return None


def spans(source: str, position: int | None) -> Iterator[slice]:
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


def array_start(source: str) -> int | None:
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


def as_text(source: bytes | bytearray) -> str:
    """Bytes as text, whatever they are."""
    return source.decode("utf-8", "surrogateescape")


def as_bytes(source: str) -> bytes:
    """The bytes that :func:`as_text` was given."""
    return source.encode("utf-8", "surrogateescape")
