"""The command line: arguments and exit codes. Each command is a thin line over one function of the library.

Exit codes: 0 done, 1 crash, 2 usage, 3 a gate the caller asked for was not passed (the output is written), 4 no usable
input, 75 another process holds the lock. The result goes to stdout, everything else to stderr.
"""

import atexit
import io
import os
import shutil
import signal
import sys
import threading
import time
from datetime import datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

from cyclopts import App, CycloptsError, Parameter

from jobstats import terminal
from jobstats.errors import ArgumentError, BusyError, JobstatsError

if TYPE_CHECKING:
    import polars as pl

    from jobstats.ingest.loading import Loaded

CRASH, USAGE, GATE, NO_INPUT, BUSY, INTERRUPTED, TERMINATED = 1, 2, 3, 4, 75, 130, 143
_STDIN = "<stdin>"
_STOP_AGAIN_SECONDS = 10

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
    from jobstats.stores import store

    limit = 0.0 if strict else max_reject_rate
    if limit is not None and not 0 <= limit <= 1:
        raise ArgumentError(f"--max-reject-rate must lie between 0 and 1, found {limit}")

    begun = time.perf_counter()
    _require(source)
    is_file = Path(to).suffix == ".parquet"
    with terminal.progress() as progress:
        add = partial(convert, to=to) if is_file else store(to).append
        added = add(_opened(source), observed_at=observed_at, progress=progress)
    terminal.say(terminal.counted(added, time.perf_counter() - begun))
    print(to)
    rate = added.n_rejected / added.n_records
    if limit is None or rate <= limit:
        return 0
    shares = (f"{share * 100:.2f} %" for share in (rate, limit))
    return _fail("{} of the records were rejected, more than the {} allowed".format(*shares), GATE)


@app.command
def report(
    *source: str,
    out: str,
    since: str | None = None,
    until: str | None = None,
    slo: str | None = None,
    rules: str | None = None,
    compare: str = "previous",
    fail_on: Annotated[tuple[str, ...], Parameter(negative=(), consume_multiple=False)] = (),
    format: Annotated[tuple[str, ...], Parameter(negative=(), consume_multiple=False)] = ("html",),  # noqa: A002
    charts: Literal["svg", "live"] = "svg",
    keep: int | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
    title: str = "Job queue report",
    log: Literal["text", "json"] = "text",
) -> int:
    """Publish a report into a folder of reports and print where; a summary goes to stderr.

    A report of the same input, period and options that stands there already is not made again. Exit codes: 0 done, 3 a
    gate was not passed (the report is published all the same), 4 nothing to report on, 75 another process publishes.

    Parameters
    ----------
    source
        Exports as for load, or what load wrote.
    out
        The folder of the reports: latest/report.html is the newest, index.html lists all.
    since
        Only runs due (for rates: started; for reasons: ended) at or after this: a date, a time, or an age such as 7d or
        30m, counted from the newest observation. Ages in days are whole days of UTC, up to the last midnight.
    until
        Only runs before this.
    slo
        Service level objectives: a TOML file.
    rules
        Rules of failure reasons of your own on top of the shipped ones: a TOML file.
    compare
        The report to compare with: previous, none, or a report.json.
    fail_on
        Exit 3 if this holds: slo (an objective is breached or cannot be judged), quality (the data cannot tell
        something), new-reason, stale (a connector), regression (something is surely worse). Several: slo,stale.
    format
        Files to write: html, md, eml (a letter), png (charts), pdf (needs Chromium); json is always there. Several:
        html,md.
    charts
        svg, or live: with a copy of Vega in the page that lets charts be zoomed.
    keep
        Keep this many reports and remove the oldest beyond it; all by default.
    force
        Make the report again although it stands there.
    title
        What the report is called.
    log
        What is said on stderr: text, or json, an object a line.
    """
    from jobstats.report.gates import check, failed
    from jobstats.report.nightly import Wanted, run
    from jobstats.report.summary import summary

    terminal.use(log)
    _require(source)
    gates, formats = _listed(fail_on), _listed(format)
    check(gates)
    if "slo" in gates and slo is None:
        raise ArgumentError("--fail-on slo needs objectives; pass a file of them with --slo")
    wanted = Wanted(source, out, since, until, slo, rules, compare, formats, charts == "live", keep, force, title)
    done = run(wanted, lambda: _read(source), terminal.say)
    if done.is_new:
        terminal.say(summary(done.report), event="summary")
    reasons = failed(done.report, gates)
    for reason in reasons:
        terminal.say(f"gate not passed: {reason}", event="gate", level="error")
    shown = next((name for name in ("html", "md", "pdf", "eml") if name in formats), "json")
    path = done.folder / f"report.{shown}"
    if log == "json":
        terminal.say(str(path), event="published" if done.is_new else "up to date")
    print(path)
    return GATE if reasons else 0


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
    from jobstats.histories import history as runs_of
    from jobstats.parquet import sink

    jobs, _ = _read((source,))
    terminal.say(f"{sink(runs_of(jobs), to):,} runs")
    print(to)


@app.command
def compact(store: str) -> None:
    """Merge the small files of a store, day by day, so that it is read more quickly.

    Parameters
    ----------
    store
        A folder that load wrote to.
    """
    from jobstats.stores import store as opened
    from jobstats.wording import plural

    done = opened(store).compact()
    merged = f"{done.n_parts_before:,} files merged into {done.n_parts:,}"
    terminal.say(
        merged if done.n_parts < done.n_parts_before else f"nothing to merge in {plural(done.n_parts, 'file')}"
    )
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
    from jobstats.stores import is_written

    answer = ask(source if is_written(source) else _load((source,)), sql)
    terminal.write(answer, format)


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
        terminal.write(explained(explain, rules=known), format)
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
        terminal.say(f"{plural(len(after.table), 'template')} in {where}")
    if suggest:
        print(suggested(answer), end="")
        return
    terminal.say(causes_counted(answer))
    is_terminal = sys.stdout and sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if is_terminal else None
    terminal.write(answer, format, people=partial(causes, width=width))


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
        signal.signal(signal.SIGTERM, _stop)
    try:
        code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        if sys.stdout:
            sys.stdout.flush()
    except (CycloptsError, ArgumentError) as error:
        return _fail(str(error), USAGE)
    except JobstatsError as error:
        return _fail(str(error), BUSY if isinstance(error, BusyError) else NO_INPUT)
    except OSError as error:
        # Whatever is still unwritten must not fail once more when Python closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return 0  # the reader has gone, as head does: nobody is left to be told
        return _fail(f"cannot write: {error.strerror or error}", CRASH)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    return code or 0


def _stop(*_: object) -> NoReturn:
    # While a library is being imported it may take this for an error of its own; so it is said again.
    if hasattr(signal, "setitimer"):  # Windows has none
        signal.signal(signal.SIGALRM, _stop)
        signal.setitimer(signal.ITIMER_REAL, _STOP_AGAIN_SECONDS)
        # A Python that is ending takes its handlers back, and an alarm without one kills.
        atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)
    sys.exit(TERMINATED)


def _read(source: tuple[str, ...]) -> "tuple[pl.LazyFrame, pl.DataFrame]":
    """Observations, which stay on disk where they are there already, and rejects."""
    from jobstats.stores import is_written, rejects, scan

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
    with terminal.progress() as progress:
        return load_records(_opened(source), progress=progress)


def _opened(source: tuple[str, ...]) -> list[Any]:
    """Places to read from."""
    return [sys.stdin.buffer if place == _STDIN else place for place in source]


def _listed(values: tuple[str, ...]) -> tuple[str, ...]:
    """Several options, or one with commas."""
    return tuple(dict.fromkeys(part for value in values for part in value.split(",") if part))


def _require(source: tuple[str, ...]) -> None:
    if not source:
        raise ArgumentError("no SOURCE given; pass a file, a folder or a glob")


def _refuse_empty(loaded: "Loaded", source: tuple[str, ...]) -> None:
    from jobstats.ingest.loading import refuse_empty

    refuse_empty(len(loaded.jobs), loaded.rejects, source)


def _fail(message: str, code: int) -> int:
    from jobstats.wording import safe

    terminal.say(f"jobstats: {safe(' '.join(message.split()), 1_000)}", event="error", level="error")
    return code
