"""Where records come from: paths, folders, globs, bytes, streams and objects, compressed or not.

Everything becomes a :class:`Document`: a name, a time of observation and a stream of bytes.
"""

import contextlib
import glob
import gzip
import io
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import IO, Any, NamedTuple

import pyarrow as pa
from pydantic import BaseModel
from pydantic_core import to_json

from jobstats.contract import Refusal
from jobstats.errors import ArgumentError, SourceError
from jobstats.moments import epoch_ms

SUFFIXES = (".json", ".ndjson", ".jsonl")
"""What a folder is searched for, also with ``.gz`` or ``.zst`` behind it. A file named by the caller may be called
anything."""

_COMPRESSED = (".gz", ".zst")
_TIME_IN_NAME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d)[:\-]?(\d\d)[:\-]?(\d\d(?:\.\d{1,6})?)Z")
_CHUNK = 1 << 16

Progress = Callable[[int, int], None]
"""Called with the bytes read and the bytes known so far."""


class Seen(NamedTuple):
    """Where and when records were observed."""

    source: str
    observed_ms: int | None = None
    observed_from: str | None = None


class Document(NamedTuple):
    """Something to read records from. ``open`` may raise OSError: a listed file can be gone when it is its turn."""

    seen: Seen
    size: int | None
    """Bytes as they are stored; None for a stream."""
    open: Callable[[], IO[bytes]]


class Objects(NamedTuple):
    """Records that are Python objects already."""

    seen: Seen
    values: list[Any]


class Skipped(NamedTuple):
    """A file in a folder that does not look like an export."""

    path: str


def find(source: Any, observed_at: datetime | None) -> Iterator[Document | Objects | Skipped]:
    """Every document behind ``source``, files in the order of their names.

    Raises:
        SourceError: A path does not exist, a glob matches nothing, a folder holds no export, or the object is of a
            kind that holds no records.
    """
    if isinstance(source, str | os.PathLike):
        yield from _paths(os.fspath(source), observed_at)
    elif isinstance(source, bytes | bytearray | memoryview):
        content = bytes(source)
        yield Document(_seen("bytes", observed_at), len(content), lambda: io.BytesIO(content))
    elif hasattr(source, "read"):
        yield _stream(source, observed_at)
    elif isinstance(source, dict | BaseModel):
        yield Objects(_seen("objects", observed_at), [source])
    elif isinstance(source, Iterable):
        yield from _many(list(source), observed_at)
    else:
        raise SourceError(
            f"cannot load from {type(source).__name__}: "
            "pass a path, paths, a folder, a glob, bytes, an open file or records"
        )


def files(path: str) -> list[str]:
    """The files behind a path as :func:`find` would come by them, whether or not they look like exports."""
    if os.path.isdir(path):
        return sorted(_below(path))
    if os.path.lexists(path):
        return [path]
    return sorted(match for match in glob.glob(path, recursive=True) if not os.path.isdir(match))


def _many(items: list[Any], observed_at: datetime | None) -> Iterator[Document | Objects | Skipped]:
    """A list of sources, or a list of records; a list is records unless its items are places to read from."""
    if items and all(
        isinstance(item, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(item, "read") for item in items
    ):
        for item in items:
            yield from find(item, observed_at)
    else:
        yield Objects(_seen("objects", observed_at), items)


def _paths(path: str, observed_at: datetime | None) -> Iterator[Document | Skipped]:
    if os.path.isdir(path):
        yield from _folder(path, observed_at)
    elif os.path.lexists(path):
        yield _file(path, observed_at)
    elif glob.has_magic(path):
        matches = sorted(match for match in glob.glob(path, recursive=True) if not os.path.isdir(match))
        if not matches:
            raise SourceError(f"{path}: no file matches this pattern")
        yield from (_file(match, observed_at) for match in matches)
    else:
        raise SourceError(f"{path}: no such file or folder")


def _folder(folder: str, observed_at: datetime | None) -> Iterator[Document | Skipped]:
    paths = sorted(_below(folder))
    chosen = {path for path in paths if _looks_exported(path)}
    if not chosen:
        wanted = ", ".join(SUFFIXES)
        found = f"{len(paths)} other files" if paths else "nothing"
        raise SourceError(f"{folder}: no exports in this folder; expected {wanted} (also .gz, .zst), found {found}")
    for path in paths:
        yield _file(path, observed_at) if path in chosen else Skipped(_shown(path))


def _below(folder: str) -> Iterator[str]:
    """Everything in a folder and its folders but these; linked folders, which may run in circles, as themselves."""
    for place, folders, names in os.walk(folder):
        linked = [name for name in folders if os.path.islink(os.path.join(place, name))]
        yield from (os.path.join(place, name) for name in [*names, *linked])


def _looks_exported(path: str) -> bool:
    """By its name; a link may lead nowhere, which opening it will say, but what is no file is not opened."""
    name = os.path.basename(path).lower()
    for suffix in _COMPRESSED:
        name = name.removesuffix(suffix)
    is_file = os.path.isfile(path) or (os.path.islink(path) and not os.path.exists(path))
    return is_file and name.endswith(SUFFIXES) and not name.startswith(".")


def _file(path: str, observed_at: datetime | None) -> Document:
    try:
        status = os.stat(path)
        modified, size = status.st_mtime, status.st_size
    except OSError:  # gone since it was listed, or a link to nowhere: opening it will say so
        modified, size = None, 0
    seen = _seen(_shown(path), observed_at, os.path.basename(path), modified)
    return Document(seen, size, lambda: open(path, "rb"))


def _shown(path: str) -> str:
    """A path as text that can be stored and printed, whatever bytes the file system holds."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _stream(stream: IO[Any], observed_at: datetime | None) -> Document:
    name = getattr(stream, "name", None)
    name = name if isinstance(name, str) else "stream"
    seen = _seen(name, observed_at, os.path.basename(name))
    return Document(seen, None, lambda: io.BufferedReader(_Readable(stream), _CHUNK))


class _Readable(io.RawIOBase):
    """Any object with ``read`` as a stream of bytes that is read once, and left open."""

    def __init__(self, stream: IO[Any]) -> None:
        super().__init__()
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        # A character is at most four bytes.
        content = self._stream.read(len(buffer) // 4) or b""
        if isinstance(content, str):
            # A text file was decoded by its opener; what could not be decoded strictly is refused again as UTF-8.
            content = content.encode("utf-8", "surrogateescape")
        buffer[: len(content)] = content
        return len(content)


def _seen(source: str, observed_at: datetime | None, name: str = "", modified: float | None = None) -> Seen:
    """The time of observation: what the caller says, else a time in the file's name, else the file's own."""
    if observed_at is not None:
        if not isinstance(observed_at, datetime):
            raise ArgumentError(f"observed_at must be a datetime, found {observed_at!r}")
        return Seen(source, epoch_ms(observed_at), "caller")
    if found := _TIME_IN_NAME.search(name):
        day, hour, minute, second = found.groups()
        try:
            observed = datetime.fromisoformat(f"{day}T{hour}:{minute}:{second}+00:00")
            return Seen(source, epoch_ms(observed), "file_name")
        except ValueError:  # digits of the right number, but no time of day
            pass
    if modified is not None:
        return Seen(source, int(modified * 1000), "file_mtime")
    return Seen(source)


def as_json(value: Any) -> bytes:
    """A Python record as the JSON text an export of it would be; models by their aliases, as the server names them.

    Raises:
        Refusal: The object holds something JSON cannot.
    """
    try:
        if isinstance(value, BaseModel):
            # Not straight to JSON: there NaN becomes null, and null is an answer.
            value = value.model_dump(mode="json", by_alias=True)
        return to_json(value, inf_nan_mode="constants")
    except (ValueError, TypeError, RecursionError) as error:
        raise Refusal("", f"not JSON: {error}") from None


def chunks(document: Document) -> Iterator[tuple[bytes, int]]:
    """The decompressed bytes, piece by piece, each with how many were read as they are stored.

    What could be read before a damage is yielded before the error.

    Raises:
        OSError: The file cannot be opened or read, or what is compressed is damaged; the message says which.
    """
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(document.open())
        kind = _kind(raw)
        if kind == "zstd" and not raw.seekable():
            # To find what stands before a damage, it must be read again.
            copy = stack.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(raw, copy)
            copy.seek(0)
            raw = copy
        done = 0
        try:
            read = _reader(raw, kind)
            while chunk := read(_CHUNK):
                done += len(chunk)
                yield chunk, raw.tell() if raw.seekable() else done
        except (EOFError, zlib.error, OSError) as error:
            if kind == "zstd":
                yield _last_of_zstd(raw, done), document.size or done
            raise OSError(f"{kind} damaged: {error}") from None


def _kind(raw: IO[bytes]) -> str:
    """How a file is compressed, by its first bytes."""
    if isinstance(raw, io.BufferedReader):
        magic = raw.peek(4)[:4]
    else:
        magic = raw.read(4)
        raw.seek(0)
    if magic == b"PAR1":
        raise OSError("Parquet, not an export; a jobs table is read with jobstats.read")
    return "gzip" if magic[:2] == b"\x1f\x8b" else "zstd" if magic == b"\x28\xb5\x2f\xfd" else "file"


def _reader(raw: IO[bytes], kind: str) -> Callable[[int], bytes]:
    if kind == "gzip":
        # The whole of a member is checked at its end only; read1 hands out what came before.
        return gzip.GzipFile(fileobj=raw).read1
    if kind == "zstd":
        return pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd").read
    return raw.read


def _last_of_zstd(raw: IO[bytes], done: int) -> bytes:
    """What lies between the last whole chunk and a damage: Arrow forgets it, so it is read again, byte by byte."""
    raw.seek(0)
    read = _reader(raw, "zstd")
    found = bytearray()
    try:
        while done:
            done -= len(read(min(done, _CHUNK)))
        while byte := read(1):
            found += byte
    except OSError:
        pass
    return bytes(found)
