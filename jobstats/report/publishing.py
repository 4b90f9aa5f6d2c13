"""Reports night after night: a folder each, made once, published at once, kept for as long as asked.

``out/2026-11-22_1a2b3c4d/`` holds the files of one report: the last day of its period, and a key that stands for its
input, period, options and version. A folder appears whole or not at all. ``out/latest`` points at the newest report and
is swapped by a rename, ``out/index.html`` lists all of them, ``out/.lock`` keeps a second process out.
"""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from jobstats.errors import ArgumentError, BusyError, SourceError
from jobstats.parquet import replace_file
from jobstats.report.building import Built, read_report
from jobstats.report.formats import write
from jobstats.report.index import index
from jobstats.report.model import Period, Report
from jobstats.spool import writing
from jobstats.wording import safe

_FOLDER = re.compile(r"\d{4}-\d{2}-\d{2}_[0-9a-f]{8}")
_DAY = "%Y-%m-%d"
_LOCK, _LATEST, _INDEX, _REPORT, _PAGE = ".lock", "latest", "index.html", "report.json", "report.html"
_NEW, _OLD = ".new-", ".old-"
_FAR = datetime(1, 1, 1, tzinfo=UTC)


class Published(NamedTuple):
    """A report on disk, and whether this call has made it."""

    report: Report
    folder: Path
    is_new: bool


class Edition(NamedTuple):
    """A report that stands in a folder already."""

    folder: Path
    report: Report

    @property
    def age(self) -> tuple[datetime, datetime, str]:
        """What reports are put in order by: the end of their period, then when they saw the queue."""
        span = self.report.period
        return (span.until or span.observed or _FAR, span.observed or _FAR, self.folder.name)


def key_of(parts: Iterable[str]) -> str:
    """A key for whatever makes a report what it is."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)}:{part}".encode(errors="surrogatepass"))
    return digest.hexdigest()[:8]


def fingerprint(paths: Sequence[str | os.PathLike[str]]) -> str:
    """What files hold, and where nothing else tells when they were seen, their modification times.

    The parts of a store are named by what they hold, so their names will do.
    """
    digest = hashlib.sha256()
    for path in sorted(map(Path, paths)):
        digest.update(path.name.encode(errors="surrogatepass"))
        if not re.fullmatch(r"[0-9a-f]{32}\.parquet", path.name):
            digest.update(str(path.stat().st_mtime_ns).encode())
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


@contextmanager
def locked(out: str | os.PathLike[str]) -> Iterator[Path]:
    """The folder of the reports, for this process alone; what a killed one left behind is swept away.

    Raises:
        BusyError: Another process is publishing here.
        SourceError: The folder cannot be written.
    """
    folder = Path(out)
    is_new = not folder.exists()
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / _LOCK)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise BusyError(f"{folder}: another process is publishing a report here") from None
    try:
        link = folder / _LATEST
        if link.exists() and not link.is_symlink():
            raise SourceError(f"{link}: cannot be written: something that is no link is in its place")
        for left in (path for start in (_NEW, _OLD, f".{_INDEX}-") for path in folder.glob(f"{start}*")):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
        yield folder
    finally:
        lock.release()
        if is_new and {path.name for path in folder.iterdir()} <= {_LOCK}:
            shutil.rmtree(folder, ignore_errors=True)


def editions(out: Path, key: str = "*") -> list[Edition]:
    """The reports that stand in a folder, of one key or all, oldest first. What cannot be read is no report."""
    found = []
    for folder in out.glob(f"*_{key}"):
        if _FOLDER.fullmatch(folder.name) and (folder / _REPORT).is_file():
            with suppress(ArgumentError):
                found.append(Edition(folder, read_report(folder / _REPORT)))
    return sorted(found, key=lambda edition: edition.age)


def before(found: Sequence[Edition], title: str, period: Period) -> Report | None:
    """The newest of the reports that are older than one of this period, and can be compared with it.

    Those of another title or another length of time are of something else.
    """
    age = (period.until or period.observed or _FAR, period.observed or _FAR)
    older = [
        edition.report
        for edition in found
        if edition.age[:2] < age and edition.report.title == title and _length(edition.report.period) == _length(period)
    ]
    return older[-1] if older else None


def _length(period: Period) -> timedelta | None:
    end = period.until or period.observed
    return end - period.since if period.since and end else None


def standing(out: Path, key: str) -> Edition | None:
    """The report of this key, if it has been made."""
    return next(iter(editions(out, key)), None)


def publish(
    built: Built, out: Path, formats: Sequence[str], *, live: bool, keep: int | None, told: Callable[[str], object]
) -> Path:
    """Write a report beside the others, then show it: folder, latest, index, and the oldest away beyond ``keep``.

    Raises:
        SourceError: Something cannot be written.
    """
    span = built.report.period
    last = span.until - timedelta(milliseconds=1) if span.until else span.observed or _FAR
    folder = out / f"{last:{_DAY}}_{built.report.provenance.key}"
    with writing(out):
        fresh = Path(tempfile.mkdtemp(dir=out, prefix=_NEW))
        try:
            fresh.chmod(0o755)
            write(built, fresh, formats, live=live)
            if folder.exists():
                _replace(folder, fresh)
            else:
                fresh.rename(folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    show(out, folder, keep, told)
    return folder


def _replace(folder: Path, fresh: Path) -> None:
    """File by file, what others compare with last: a reader finds each of them, old or new, at any time."""
    files = [path for path in sorted(fresh.rglob("*")) if path.is_file()]
    for path in sorted(files, key=lambda path: path.name == _REPORT):
        target = folder / path.relative_to(fresh)
        target.parent.mkdir(exist_ok=True)
        os.replace(path, target)


def show(out: Path, made: Path, keep: int | None, told: Callable[[str], object]) -> None:
    """Point ``latest`` at the newest report, list all in the index, and remove the oldest beyond ``keep``.

    The one that was just asked for stays, however old. Of several of one age that with a page is the latest, of these
    the one just asked for, and else the one that has been it.
    """
    with writing(out):
        link = out / _LATEST
        latest = os.readlink(link) if link.is_symlink() else None

        def rank(one: Edition) -> tuple[Any, ...]:
            return (*one.age[:2], (one.folder / _PAGE).exists(), one.folder == made, one.folder.name == latest)

        found = sorted(editions(out), key=rank)
        old = [] if keep is None else [edition for edition in found[:-keep] if edition.folder != made]
        shown = [edition for edition in found if edition not in old]
        _point(out, shown[-1].folder.name)
        page = index([(_link(edition.folder), edition.report) for edition in reversed(shown)])
        replace_file(out / _INDEX, lambda path: Path(path).write_text(page, encoding="utf-8", newline="\n"))
        for edition in old:
            gone = out / f"{_OLD}{edition.folder.name}"
            edition.folder.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)
            told(f"removed {edition.folder}, as {keep} reports are kept")


def _link(folder: Path) -> str:
    """What of a report a reader opens."""
    names = (_PAGE, "report.md", "report.pdf", _REPORT)
    return f"{folder.name}/{next(name for name in names if (folder / name).exists())}"


def _point(out: Path, name: str) -> None:
    """Point ``latest`` at a folder, without a moment in which it points nowhere."""
    link = out / _LATEST
    if link.is_symlink() and os.readlink(link) == name:
        return
    fresh = out / f"{_NEW}{_LATEST}"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(name, target_is_directory=True)
    os.replace(fresh, link)


def options_of(values: Mapping[str, object]) -> dict[str, str]:
    """The options that were given, as a report prints them."""
    return {name: safe(value, 120) for name, value in values.items() if value not in (None, (), "")}
