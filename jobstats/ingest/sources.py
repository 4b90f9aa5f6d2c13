"""Where records come from: paths, folders, globs, bytes, streams and objects, compressed or not.

Everything becomes a :class:`Document`: a name, a time of observation and a stream of bytes.
"""

import glob
import gzip
import io
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa
from pydantic import BaseModel
from pydantic_core import to_json

from jobstats.contract import Refusal
from jobstats.errors import SourceError
from jobstats.ingest.flatten import Seen, epoch_ms

SUFFIXES = (".json", ".ndjson", ".jsonl")
"""What a folder is searched for, also with ``.gz`` or ``.zst`` behind it. A file named by the caller may be called
anything."""

_COMPRESSED = (".gz", ".zst")
_TIME_IN_NAME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d)[:\-]?(\d\d)[:\-]?(\d\d(?:\.\d{1,6})?)Z")
_CHUNK = 1 << 16

Progress = Callable[[int, int], None]
"""Called with the bytes read and the bytes known so far."""


class Document(NamedTuple):
    """Something to read records from. ``open`` may raise OSError: a listed file can be gone when it is its turn."""

    seen: Seen
    size: int
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


def _many(items: list[Any], observed_at: datetime | None) -> Iterator[Document | Objects | Skipped]:
    """A list of sources, or a list of records; a list is records unless its items are places to read from."""
    if items and all(isinstance(item, str | os.PathLike | bytes) or hasattr(item, "read") for item in items):
        for item in items:
            yield from find(item, observed_at)
    else:
        yield Objects(_seen("objects", observed_at), items)


def _paths(path: str, observed_at: datetime | None) -> Iterator[Document | Skipped]:
    if os.path.isdir(path):
        yield from _folder(path, observed_at)
    elif os.path.exists(path):
        yield _file(path, observed_at)
    elif glob.has_magic(path):
        matches = sorted(match for match in glob.glob(path, recursive=True) if os.path.isfile(match))
        if not matches:
            raise SourceError(f"{path}: no file matches this pattern")
        yield from (_file(match, observed_at) for match in matches)
    else:
        raise SourceError(f"{path}: no such file or folder")


def _folder(folder: str, observed_at: datetime | None) -> Iterator[Document | Skipped]:
    paths = sorted(str(path) for path in Path(folder).rglob("*") if path.is_file())
    chosen = [path for path in paths if _looks_exported(path)]
    if not chosen:
        wanted = ", ".join(SUFFIXES)
        found = f"{len(paths)} other files" if paths else "nothing"
        raise SourceError(f"{folder}: no exports in this folder; expected {wanted} (also .gz, .zst), found {found}")
    exported = set(chosen)
    for path in paths:
        yield _file(path, observed_at) if path in exported else Skipped(path)


def _looks_exported(path: str) -> bool:
    name = os.path.basename(path).lower()
    for suffix in _COMPRESSED:
        name = name.removesuffix(suffix)
    return name.endswith(SUFFIXES) and not name.startswith(".")


def _file(path: str, observed_at: datetime | None) -> Document:
    try:
        status = os.stat(path)
        modified, size = status.st_mtime, status.st_size
    except OSError:  # gone since it was listed: opening it will say so
        modified, size = None, 0
    return Document(_seen(path, observed_at, os.path.basename(path), modified), size, lambda: open(path, "rb"))


def _stream(stream: IO[Any], observed_at: datetime | None) -> Document:
    name = getattr(stream, "name", None)
    name = name if isinstance(name, str) else "stream"
    content = stream.read()
    if isinstance(content, str):
        # A text file was decoded by its opener; what could not be decoded strictly is refused again as UTF-8.
        content = content.encode("utf-8", "surrogateescape")
    return Document(_seen(name, observed_at, os.path.basename(name)), len(content), lambda: io.BytesIO(content))


def _seen(source: str, observed_at: datetime | None, name: str = "", modified: float | None = None) -> Seen:
    """The time of observation: what the caller says, else a time in the file's name, else the file's own."""
    if observed_at is not None:
        return Seen(source, epoch_ms(observed_at.astimezone(UTC)), "caller")
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
            return value.model_dump_json(by_alias=True).encode()
        return to_json(value)
    except (ValueError, TypeError, RecursionError) as error:
        raise Refusal("", f"not JSON: {error}") from None


def chunks(document: Document, progress: Progress | None = None) -> Iterator[bytes]:
    """The decompressed bytes, piece by piece. What could be read before a damage is yielded before the error.

    Raises:
        OSError: The file cannot be opened or read, or what is compressed is damaged; the message says which.
        SourceError: It is a Parquet file: no export, but perhaps a jobs table.
    """
    with document.open() as raw:
        magic = raw.read(4)
        if magic == b"PAR1":
            raise SourceError(f"{document.seen.source}: Parquet, not an export; read a jobs table with jobstats.read")
        raw.seek(0)
        read = _reader(raw, magic)
        while chunk := _read(read, magic):
            if progress:
                progress(raw.tell(), document.size)
            yield chunk


def _reader(raw: IO[bytes], magic: bytes) -> Callable[[int], bytes]:
    if magic[:2] == b"\x1f\x8b":
        # The whole of a member is checked at its end only; read1 hands out what came before.
        return gzip.GzipFile(fileobj=raw).read1
    if magic == b"\x28\xb5\x2f\xfd":
        return pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd").read
    return raw.read


def _read(read: Callable[[int], bytes], magic: bytes) -> bytes:
    kind = {b"\x1f\x8b": "gzip", b"\x28\xb5": "zstd"}.get(magic[:2], "file")
    try:
        return read(_CHUNK)
    except (EOFError, zlib.error, OSError) as error:
        raise OSError(f"{kind} damaged: {error}") from None
