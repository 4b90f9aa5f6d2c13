"""What is said to people on the way: on standard error, as text or as lines of JSON, and progress on a terminal."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import polars as pl

    from jobstats.parquet import Converted
    from jobstats.stores import Appended

_PROGRESS_BYTES = 20_000_000
_REASONS_SHOWN = 20
_BEGUN = time.monotonic()
_kind: Literal["text", "json"] = "text"


def use(kind: Literal["text", "json"]) -> None:
    """Say what follows as text, or as an object of JSON a line."""
    global _kind  # noqa: PLW0603  one process has one standard error
    _kind = kind


def say(text: str, *, event: str = "note", level: Literal["info", "error"] = "info") -> None:
    """Say something on standard error, where there is one."""
    if sys.stderr is None:
        return
    if _kind == "text":
        print(text, file=sys.stderr)
        return
    line = {"level": level, "event": event, "elapsed_ms": round((time.monotonic() - _BEGUN) * 1000), "message": text}
    print(json.dumps(line, ensure_ascii=True), file=sys.stderr)


def write(
    answer: "pl.DataFrame",
    kind: Literal["table", "csv", "json"] | None,
    *,
    people: "Callable[[pl.DataFrame], pl.DataFrame] | None" = None,
) -> None:
    """Print an answer; ``people`` makes it readable for a table."""
    from jobstats.formats import written
    from jobstats.wording import safe

    is_terminal = bool(sys.stdout and sys.stdout.isatty())
    kind = kind or ("table" if is_terminal else "csv")
    text = written(people(answer) if people and kind == "table" else answer, kind)
    if is_terminal and kind == "csv":
        text = "".join(f"{safe(line, len(line))}\n" for line in text.splitlines())
    print(text, end="")


def counted(added: "Converted | Appended", seconds: float) -> str:
    """What was read, added and refused, and why."""
    from jobstats.ingest.rejects import place
    from jobstats.stores import Appended
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
def progress() -> Iterator[Callable[[int, int], None] | None]:
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
