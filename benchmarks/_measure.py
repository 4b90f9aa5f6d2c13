"""What one process costs, and what several cost side by side."""

import contextlib
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
_SAMPLE_SECONDS = 0.05


class Run(NamedTuple):
    """One process and its children: seconds, MiB, what it printed, and its last word if it failed."""

    wall: float
    cpu: float
    peak: float
    printed: str
    failure: str | None


def done(run: Run) -> Run:
    """A run that must not fail."""
    if run.failure:
        raise SystemExit(run.failure)
    return run


def script(code: str, *arguments: object) -> list[str]:
    """A command that runs Python code; its arguments are in ``sys.argv[1:]``."""
    return [sys.executable, "-c", f"import sys\n{code}", *map(str, arguments)]


def measured(command: Sequence[str], piped: Path | None = None) -> Run:
    """Run a command, with a file piped into it if one is given.

    The kernel tells the peak of the largest process only, so while there are children the sum over all is sampled
    too, shared pages counted once (Linux). A child's peak begins with that of the process that starts it: whoever
    calls this imports nothing heavy.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, contextlib.ExitStack() as stack:
        pipe = None
        if piped:
            cat = stack.enter_context(subprocess.Popen(["/bin/cat", str(piped)], stdout=subprocess.PIPE))
            pipe = cat.stdout
        begun = time.perf_counter()
        process = subprocess.Popen(list(command), stdin=pipe or subprocess.DEVNULL, stdout=out, stderr=err, cwd=ROOT)
        if pipe:
            pipe.close()
        ended, peaks = threading.Event(), [0.0]
        sampler = threading.Thread(target=_sample, args=(process.pid, ended, peaks))
        sampler.start()
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)  # it is waited for: Popen must not do so again
        ended.set()
        sampler.join()
        out.seek(0)
        err.seek(0)
        words = err.read().decode(errors="replace").strip().splitlines()
        failure = None
        if process.returncode:
            failure = words[-1] if words else f"ended with {process.returncode}"
        peak = max(used.ru_maxrss / (1024 * 1024 if sys.platform == "darwin" else 1024), *peaks)
        return Run(wall, used.ru_utime + used.ru_stime, peak, out.read().decode(errors="replace"), failure)


def _sample(pid: int, ended: threading.Event, peaks: list[float]) -> None:
    while not ended.wait(_SAMPLE_SECONDS):
        family = [pid]
        for member in family:  # grows while it is walked
            with contextlib.suppress(OSError):
                for children in Path(f"/proc/{member}/task").glob("*/children"):
                    family += map(int, children.read_text().split())
        if len(family) > 1:
            peaks.append(sum(map(_proportional, family)))


def _proportional(pid: int) -> float:
    """Resident MiB of a process, what it shares divided among those who share it; 0 once it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


def interleaved(commands: Mapping[str, Sequence[str]], rounds: int) -> dict[str, list[Run]]:
    """All commands in turn, round after round, each round beginning with another; what fails once is not repeated."""
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    names = list(commands)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            if not any(run.failure for run in runs[name]):
                runs[name].append(measured(commands[name]))
    return runs


def median(runs: Sequence[Run]) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak MiB, each its own median."""
    return (
        statistics.median(run.wall for run in runs),
        statistics.median(run.cpu for run in runs),
        statistics.median(run.peak for run in runs),
    )


def table(runs: Mapping[str, Sequence[Run]], base: str, megabytes: float, scale: Mapping[str, float]) -> str:
    """A Markdown table of medians. A ratio is taken within each round, so that load meets both sides of it."""
    lines = [f"| | s | ÷ {base.split(maxsplit=1)[0]} | MB/s | CPU s | peak MiB |", "|---|--:|--:|--:|--:|--:|"]
    for name, rounds in runs.items():
        if rounds[0].failure:
            lines.append(f"| {name} | dies: {short(rounds[0].failure)} | | | | |")
            continue
        wall, cpu, peak = median(rounds)
        factor = scale.get(name, 1.0)
        ratios = sorted(factor * run.wall / other.wall for run, other in zip(rounds, runs.get(base, ()), strict=False))
        ratio = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})" if ratios else ""
        wall, cpu, shown = wall * factor, cpu * factor, "" if name in scale else f"{peak:,.0f}"
        lines.append(f"| {name} | {wall:.2f} | {ratio} | {megabytes / wall:,.0f} | {cpu:.2f} | {shown} |")
    return "\n".join(lines)


def short(text: str, most: int = 90) -> str:
    """A message that fits into a cell, without the path of the file."""
    text = " ".join(re.sub(r' in file "[^"]*",?', "", text).split()).replace("|", "/")
    return text if len(text) <= most else text[: most - 1] + "…"
