"""From sources to a published report, unattended: what a scheduler calls night after night."""

import hashlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import polars as pl

from jobstats.errors import ArgumentError, SourceError
from jobstats.ingest.sources import files
from jobstats.moments import Moment
from jobstats.parquet import rejects_of
from jobstats.report import formats as written
from jobstats.report import publishing
from jobstats.report.building import Built, Told, build, read_report
from jobstats.report.cells import moment
from jobstats.report.model import Period, Report
from jobstats.report.words import period_words
from jobstats.stores import is_store
from jobstats.wording import safe

Read = Callable[[], tuple[pl.LazyFrame, pl.DataFrame]]
PREVIOUS, NONE = "previous", "none"


class Wanted(NamedTuple):
    """What is asked of a report, as a command line says it."""

    sources: tuple[str, ...]
    out: str
    since: Moment = None
    until: Moment = None
    slo: str | None = None
    rules: str | None = None
    compare: str = PREVIOUS
    formats: tuple[str, ...] = ("html",)
    live: bool = False
    keep: int | None = None
    force: bool = False
    title: str = "Job queue report"


def run(wanted: Wanted, read: Read, told: Callable[[str], object]) -> publishing.Published:
    """Make and publish a report, unless it stands there already.

    Args:
        wanted: What is asked for.
        read: Reads observations and rejects; called only where a report is made.
        told: Takes what there is to say on the way.

    Raises:
        ArgumentError: An option that means nothing.
        BusyError: Another process is publishing into the same folder.
        SourceError: Nothing to report on, or a folder that cannot be written.
    """
    written.check(wanted.formats)
    for source in wanted.sources:
        if (
            Path(source).is_dir()
            and not is_store(source)
            and Path(wanted.out).resolve().is_relative_to(Path(source).resolve())
        ):
            raise ArgumentError(
                f"{wanted.out} lies in {source}, whose exports are read again next time; choose another folder"
            )
    if not wanted.out:
        raise ArgumentError("--out names no folder")
    if wanted.keep is not None and wanted.keep < 1:
        raise ArgumentError(f"keep is a number of reports above 0, found {wanted.keep}")
    named = None if wanted.compare in (PREVIOUS, NONE) else read_report(wanted.compare)
    with publishing.locked(wanted.out) as out:
        key = _key(wanted)
        found = publishing.standing(out, key) if key and not wanted.force else None
        if found:
            # Whoever was stopped between making it and showing it has left this to us.
            publishing.show(out, found.folder, wanted.keep, told)
            told(f"up to date: {found.folder}")
            return publishing.Published(found.report, found.folder, is_new=False)
        jobs, rejects = read()
        key = key or publishing.key_of([_held(jobs), *_asked(wanted)])

        def previous(period: Period) -> Report | None:
            if wanted.compare != PREVIOUS:
                return named
            return publishing.before(publishing.editions(out), safe(wanted.title, 120), period)

        built = _built(wanted, jobs, rejects, previous, key)
        folder = publishing.publish(built, out, wanted.formats, live=wanted.live, keep=wanted.keep, told=told)
        return publishing.Published(built.report, folder, is_new=True)


def _built(
    wanted: Wanted, jobs: pl.LazyFrame, rejects: pl.DataFrame, previous: Callable[[Period], Report | None], key: str
) -> Built:
    given = {"since": wanted.since, "until": wanted.until, "slo": wanted.slo, "rules": wanted.rules}
    names = tuple(safe(Path(source).name, 80) for source in wanted.sources)
    built = build(
        jobs,
        rejects,
        since=wanted.since,
        until=wanted.until,
        objectives=wanted.slo or (),
        rules=wanted.rules,
        previous=previous,
        told=Told(wanted.title, key, names, publishing.options_of(given)),
    )
    if built.frames["latency"].is_empty() and built.frames["rates"].is_empty():
        period, words = built.report.period, period_words(built.report.period)
        is_in_days = isinstance(wanted.since, str) and wanted.since.endswith(("d", "w"))
        left_out = " (an age in days is whole days, without the one that is not over)" if is_in_days else ""
        raise SourceError(
            f"no run was due, started or ended in the period ({words[0].lower() + words[1:]}); the data were last "
            f"observed at {moment(period.observed)} UTC and hold {built.report.population}; ask for another period "
            f"with --since{left_out}"
        )
    return built


# ---- what makes a report what it is ----------------------------------------------------------------------------------


def _key(wanted: Wanted) -> str | None:
    """None where the input cannot be looked at twice."""
    paths = [path for source in wanted.sources for path in _files(source)]
    return publishing.key_of([publishing.fingerprint(paths), *_asked(wanted)]) if paths else None


def _files(source: str) -> list[str]:
    """What is read for a source: of a store its Parquet files, whatever else lies in its folder."""
    found = [path for path in files(source) if not is_store(source) or path.endswith(".parquet")]
    beside = rejects_of(source)
    return [*found, str(beside)] if source.endswith(".parquet") and beside.exists() else found


def _asked(wanted: Wanted) -> list[str]:
    """Everything but the input, with what the named files hold."""
    named = [wanted.slo, wanted.rules, None if wanted.compare in (PREVIOUS, NONE) else wanted.compare]
    texts = [] if not any(named) else [hashlib.sha256(_content(path)).hexdigest() for path in named if path]
    simple = [repr(wanted._replace(sources=(), out="", keep=None, force=False)), version("jobstats")]
    return [*simple, *texts]


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ArgumentError(f"{path}: cannot read: {error.strerror or error}") from error


def _held(jobs: pl.LazyFrame) -> str:
    rows = jobs.collect().hash_rows().sort()
    return hashlib.sha256(rows.to_arrow().buffers()[1]).hexdigest()
