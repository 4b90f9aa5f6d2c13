"""The command line: arguments and exit codes. Each command is a thin line over one function of the library.

Exit codes: 0 done, 1 crash, 2 usage, 3 a gate the caller asked for was not passed (the output is written), 4 no usable
input. The result goes to stdout, everything else to stderr.
"""

import io
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter

from jobstats.errors import ArgumentError, JobstatsError

if TYPE_CHECKING:
    import polars as pl

    from jobstats.ingest.loading import Loaded
    from jobstats.parquet import Converted
    from jobstats.store import Appended

CRASH, USAGE, GATE, NO_INPUT, INTERRUPTED, TERMINATED = 1, 2, 3, 4, 130, 143
_PROGRESS_BYTES = 20_000_000
_REASONS_SHOWN = 20
_STDIN = "<stdin>"

app = App(
    name="jobstats",
    help="The truth about your job queues, from exported JobStatus records.",
    version=lambda: version("jobstats"),
    version_flags=["--version"],
)


@app.command
def load(
    *source: str,
    to: str,
    observed_at: datetime | None = None,
    strict: Annotated[bool, Parameter(negative=())] = False,
    max_reject_rate: float | None = None,
) -> int:
    """Load exports: add them to a store, or write them as one Parquet file.

    Parameters
    ----------
    source
        Files, folders or globs of JobStatus records: NDJSON, JSON, API envelopes, plain or .gz or .zst; - for stdin.
    to
        A folder, which is a store of one queue: what it does not hold yet is added. Or a .parquet file, which is
        replaced, with the rejects beside it as <name>.rejects.parquet.
    observed_at
        When the records were exported, in UTC unless it says otherwise; for stdin, and where neither the name nor the
        time of the file says so.
    strict
        Exit 3 if any record was rejected; the rest is written all the same.
    max_reject_rate
        Exit 3 if more than this share of the records was rejected, such as 0.001.
    """
    from jobstats.parquet import convert
    from jobstats.store import store

    limit = 0.0 if strict else max_reject_rate
    if limit is not None and not 0 <= limit <= 1:
        raise ArgumentError(f"--max-reject-rate must lie between 0 and 1, found {limit}")

    begun = time.perf_counter()
    _require(source)
    is_file = Path(to).suffix == ".parquet"
    with _progress() as progress:
        add = partial(convert, to=to) if is_file else store(to).append
        added = add(_opened(source), observed_at=observed_at, progress=progress)
    _say(_counted(added, time.perf_counter() - begun))
    print(to)
    rate = added.n_rejected / added.n_records
    if limit is None or rate <= limit:
        return 0
    shares = (f"{share * 100:.2f} %" for share in (rate, limit))
    return _fail("{} of the records were rejected, more than the {} allowed".format(*shares), GATE)


@app.command
def report(
    *source: str, out: str, since: str | None = None, until: str | None = None, rules: str | None = None
) -> None:
    """Write report.html into a folder and print its path; a summary goes to stderr.

    Parameters
    ----------
    source
        Exports as for load, or what load wrote.
    out
        The folder of the report.
    since
        Only runs due (for rates: started; for reasons: ended) at or after this: a date, a time, or an age such as 7d or
        30m, counted from the newest observation.
    until
        Only runs before this.
    rules
        Rules of failure reasons of your own on top of the shipped ones: a TOML file.
    """
    from jobstats.report.model import build
    from jobstats.report.page import publish
    from jobstats.report.summary import summary

    jobs, rejects = _read(source)
    built = build(jobs, rejects, since=since, until=until, rules=rules)
    path = publish(built, out)
    _say(summary(built))
    print(path)


@app.command
def history(source: str, *, to: str) -> None:
    """Write one row a run, with the best that all observations of a store say about it, as a Parquet file.

    Parameters
    ----------
    source
        A store, or exports as for load.
    to
        A .parquet file, which is replaced.
    """
    from jobstats.history import history as runs_of
    from jobstats.parquet import sink

    jobs, _ = _read((source,))
    _say(f"{sink(runs_of(jobs), to):,} runs")
    print(to)


@app.command
def compact(store: str) -> None:
    """Merge the small files of a store, day by day, so that it is read more quickly.

    Parameters
    ----------
    store
        A folder that load wrote to.
    """
    from jobstats.store import store as opened

    done = opened(store).compact()
    merged = f"{done.n_parts_before:,} files merged into {done.n_parts:,}"
    _say(merged if done.n_parts < done.n_parts_before else f"nothing to merge in {done.n_parts:,} files")
    print(store)


@app.command
def query(source: str, sql: str, *, format: Literal["table", "csv", "json"] | None = None) -> None:  # noqa: A002
    """Ask a question in SQL, in DuckDB's dialect: tables history (a row a run), jobs (a row an observation), rejects.

    Parameters
    ----------
    source
        Exports as for load, or what load wrote.
    sql
        Such as: select connector, count(*) from history group by all
    format
        table on a terminal, csv otherwise, unless you say.
    """
    from jobstats.engines import sql as ask
    from jobstats.store import is_written

    answer = ask(source if is_written(source) else _load((source,)), sql)
    _write(answer, format)


@app.command
def reasons(
    *source: str,
    since: str | None = None,
    until: str | None = None,
    by: tuple[str, ...] = (),
    baseline: str | None = None,
    rules: str | None = None,
    catalog: str | None = None,
    explain: str | None = None,
    suggest: Annotated[bool, Parameter(negative=())] = False,
    format: Literal["table", "csv", "json"] | None = None,  # noqa: A002
) -> None:
    """Say why runs failed: the causes of their last errors, most frequent first.

    Parameters
    ----------
    source
        Exports as for load, or what load wrote.
    since
        Only runs that ended at or after this: a date, a time, or an age such as 7d, counted from the newest export.
    until
        Only runs that ended before this.
    by
        A column to group by, such as connector; may be given again.
    baseline
        Length of the window before --since to compare with, such as 28d: says what is new, rising, falling, vanished.
    rules
        Rules of your own on top of the shipped ones: a TOML file.
    catalog
        A file of the reasons seen so far, which is made or brought up to date: what it knows is not new.
    explain
        A failure text: says which rules act on it, stage by stage, and needs no SOURCE.
    suggest
        Say which templates no rule knows, as rules to complete.
    format
        table on a terminal, csv otherwise, unless you say; json is one object a line. The table leaves columns out.
    """
    from jobstats.analysis.failure_reasons import failure_reasons
    from jobstats.formats import causes, causes_counted
    from jobstats.reasons import explain as explained
    from jobstats.reasons import read_catalog, ruleset, updated, write_catalog
    from jobstats.reasons.suggesting import suggested, texts_of
    from jobstats.wording import plural

    known = ruleset(rules)
    if explain is not None:
        if source:
            raise ArgumentError("--explain says which rules act on one text; pass no SOURCE with it")
        _write(explained(explain, rules=known), format)
        return
    _require(source)
    jobs, _ = _read(source)
    before = None if catalog is None else read_catalog(catalog)
    answer = failure_reasons(
        jobs,
        by=by,
        since=since,
        until=until,
        baseline=baseline,
        rules=known,
        catalog=before if baseline else None,
    ).collect()
    if catalog is not None:
        after = updated(before, texts_of(jobs), rules=known)
        write_catalog(after, catalog)
        where = f"{'the' if before else 'a new'} catalog {catalog}"
        _say(f"{plural(len(after.table), 'template')} in {where}")
    if suggest:
        print(suggested(answer), end="")
        return
    _say(causes_counted(answer))
    is_terminal = sys.stdout and sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if is_terminal else None
    _write(answer, format, people=partial(causes, width=width))


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # A lone - would be taken for an option.
    arguments = sys.argv[1:] if arguments is None else arguments
    arguments = [_STDIN if argument == "-" else argument for argument in arguments]
    if threading.current_thread() is threading.main_thread():
        # A scheduler that stops us lets us clear away what is half written, as Ctrl-C does.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        if sys.stdout:
            sys.stdout.flush()
    except (CycloptsError, ArgumentError) as error:
        return _fail(str(error), USAGE)
    except JobstatsError as error:
        return _fail(str(error), NO_INPUT)
    except OSError as error:
        # Whatever is still unwritten must not fail once more when Python closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return 0  # the reader has gone, as head does: nobody is left to be told
        return _fail(f"cannot write: {error.strerror or error}", CRASH)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    return code or 0


def _write(
    answer: "pl.DataFrame",
    kind: Literal["table", "csv", "json"] | None,
    *,
    people: "Callable[[pl.DataFrame], pl.DataFrame] | None" = None,
) -> None:
    """Print an answer; ``people`` makes it readable for a table."""
    from jobstats.formats import written

    kind = kind or ("table" if sys.stdout and sys.stdout.isatty() else "csv")
    print(written(people(answer) if people and kind == "table" else answer, kind), end="")


def _read(source: tuple[str, ...]) -> "tuple[pl.LazyFrame, pl.DataFrame]":
    """Observations, which stay on disk where they are there already, and rejects."""
    from jobstats.store import is_written, rejects, scan

    written = [path for path in source if is_written(path)]
    if not written:
        loaded = _load(source)
        _refuse_empty(loaded, source)
        return loaded.jobs.lazy(), loaded.rejects
    if len(source) > 1:
        raise ArgumentError(f"{written[0]} is a jobs table, which cannot be mixed with other sources; pass it alone")
    return scan(source[0]), rejects(source[0])


def _load(source: tuple[str, ...]) -> "Loaded":
    from jobstats.ingest.loading import load as load_records

    _require(source)
    with _progress() as progress:
        return load_records(_opened(source), progress=progress)


def _opened(source: tuple[str, ...]) -> list[Any]:
    """Places to read from."""
    return [sys.stdin.buffer if place == _STDIN else place for place in source]


def _require(source: tuple[str, ...]) -> None:
    if not source:
        raise ArgumentError("no SOURCE given; pass a file, a folder or a glob")


def _refuse_empty(loaded: "Loaded", source: tuple[str, ...]) -> None:
    from jobstats.ingest.loading import refuse_empty

    refuse_empty(len(loaded.jobs), loaded.rejects, source)


def _counted(added: "Converted | Appended", seconds: float) -> str:
    from jobstats.ingest.rejects import place
    from jobstats.store import Appended
    from jobstats.wording import plural, safe

    lines = [
        f"{plural(added.n_records, 'record')} from {plural(added.n_files, 'file')}: "
        f"{added.n_accepted:,} accepted, {added.n_rejected:,} rejected, {seconds:.1f} s, "
        f"{added.n_bytes / seconds / 1e6:,.0f} MB/s"
    ]
    if isinstance(added, Appended):
        lines.append(f"  {added.n_new:,} are new, {added.n_accepted - added.n_new:,} the store held already")
    lines += [
        f"  rejected {row['n']:,}: {safe(row['reason'], 300)} (first: {safe(place(row), 200)})"
        for row in added.reasons.head(_REASONS_SHOWN).to_dicts()
    ]
    if added.n_rejected and not isinstance(added, Appended):
        lines.append(f"  all of them in {added.rejects}")
    if added.n_without_records:
        lines.append(f"  {plural(added.n_without_records, 'envelope')} without records: errors, or nothing scheduled")
    if added.skipped:
        lines.append(f"  {plural(len(added.skipped), 'other file')} skipped, such as {safe(added.skipped[0], 200)}")
    return "\n".join(lines)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """A bar on a terminal for files that take a while; nothing otherwise."""
    if not (sys.stderr and sys.stderr.isatty()):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None, visible=False)

        def show(done: int, total: int) -> None:
            step = "writing" if done == total else "reading"
            is_long = max(done, total) >= _PROGRESS_BYTES
            bar.update(task, description=step, completed=done, total=total or None, visible=is_long)

        yield show


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _fail(message: str, code: int) -> int:
    from jobstats.wording import safe

    print(f"jobstats: {safe(' '.join(message.split()), 1_000)}", file=sys.stderr)
    return code
