"""The files of a report: one name a format, all from the same model."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

import polars as pl

from jobstats.errors import ArgumentError, SourceError
from jobstats.ingest.loading import Loaded
from jobstats.moments import Moment
from jobstats.objectives import Objectives
from jobstats.parquet import replace_file
from jobstats.reasons import Rules
from jobstats.report.building import Built, build
from jobstats.report.drawing import drawn, png
from jobstats.report.mail import mail
from jobstats.report.markdown import markdown
from jobstats.report.page import html
from jobstats.spool import writing

Format = Literal["html", "json", "md", "eml", "png", "pdf"]
FORMATS: tuple[Format, ...] = get_args(Format)
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_BROWSER_SECONDS = 120


def check(formats: Sequence[str]) -> None:
    """Refuse what cannot be written, before any work is done."""
    for name in formats:
        if name not in FORMATS:
            raise ArgumentError(f"there is no format {name!r}; choose from {', '.join(FORMATS)}")
    if "pdf" in formats and browser() is None:
        raise ArgumentError(f"the format pdf is printed by Chromium, and none of {', '.join(_BROWSERS)} is found")


def browser() -> str | None:
    """The path of a Chromium, if there is one; ``JOBSTATS_BROWSER`` names another."""
    found = os.environ.get("JOBSTATS_BROWSER")
    return found or next((path for name in _BROWSERS if (path := shutil.which(name))), None)


def write_report(
    loaded: Loaded | pl.DataFrame,
    out: str | os.PathLike[str],
    *,
    since: Moment = None,
    until: Moment = None,
    slo: Objectives = (),
    rules: Rules = None,
    live: bool = False,
) -> Path:
    """Write ``report.html`` into the folder ``out`` and return its path. The same data gives the same bytes.

    ``jobstats report`` does more: other formats, a folder a night, comparison with the report before.

    Args:
        loaded: What :func:`jobstats.load` or :func:`jobstats.read` returned, a jobs table, or a history.
        out: A folder, made when missing. A report that is there is replaced at once.
        since: Only runs at or after this; a datetime, ISO text or an age. An age in days or weeks is that many whole
            days of UTC, up to the midnight before the newest observation.
        until: Only runs before this.
        slo: Service level objectives: a TOML file, an `Objective`, or a list of them.
        rules: A file of rules of failure reasons on top of the shipped ones, or a set of rules.
        live: Put a packed copy of Vega into the page, so that charts can be zoomed and asked.

    Raises:
        ArgumentError: A time that cannot be read, an objective or rule that is wrong, or nothing to report on.
        SourceError: The folder cannot be written.
    """
    jobs, rejects = Loaded.of(loaded)
    page = html(build(jobs, rejects, since=since, until=until, objectives=slo, rules=rules), live=live)
    target = Path(out) / "report.html"
    with writing(out):
        replace_file(target, lambda path: Path(path).write_text(page, encoding="utf-8", newline="\n"))
    return target


def write(built: Built, folder: Path, formats: Sequence[str], *, live: bool) -> None:
    """Write these formats into a folder; ``report.json`` always, which later reports are compared with.

    Raises:
        SourceError: The browser did not print.
    """
    page = html(built, live=live) if {"html", "pdf"} & set(formats) else ""
    texts: dict[str, Callable[[], bytes]] = {
        "html": page.encode,
        "md": lambda: markdown(built.report).encode(),
        "eml": lambda: mail(built),
    }
    (folder / "report.json").write_bytes(built.report.model_dump_json(indent=1).encode() + b"\n")
    for name, make in texts.items():
        if name in formats:
            (folder / f"report.{name}").write_bytes(make())
    if "png" in formats:
        _pictures(built, folder / "charts")
    if "pdf" in formats:
        _print(page, folder / "report.pdf")


def _pictures(built: Built, folder: Path) -> None:
    folder.mkdir()
    for section in built.report.sections:
        for exhibit in section.exhibits:
            if (chart := drawn(exhibit, built.frames[exhibit.id])) is not None:
                (folder / f"{exhibit.id}.png").write_bytes(png(chart))


def _print(page: str, to: Path) -> None:
    """Print the page as a browser does. A PDF holds the time of printing, so it alone differs from run to run."""
    with tempfile.TemporaryDirectory(prefix="jobstats-") as place:
        source = Path(place) / "report.html"
        source.write_text(page, encoding="utf-8")
        command = [
            *(str(browser()), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
            *("--no-first-run", f"--user-data-dir={place}/profile", "--no-pdf-header-footer"),
            *(f"--print-to-pdf={to}", source.as_uri()),
        ]
        try:
            done = subprocess.run(command, capture_output=True, timeout=_BROWSER_SECONDS, check=False)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SourceError(f"{command[0]} did not print the report: {error}") from error
    if not to.exists():
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise SourceError(f"{command[0]} did not print the report: exit {done.returncode} {' '.join(last)}")
