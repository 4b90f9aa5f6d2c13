"""NDJSON → validated, flattened, timed Parquet: jobstats beside its peers, in Markdown.

    python benchmarks/ingest.py speed      seconds and memory, over six kinds of files
    python benchmarks/ingest.py honesty    what each peer makes of odd and damaged records
    python benchmarks/ingest.py memory     peak memory by size and form of the file
    python benchmarks/ingest.py files      many small files against one large one
    python benchmarks/ingest.py parquet    the file that comes out, read by others

Each measurement is a process of its own, its children included. Peers that are not installed are left out.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

from _honesty import honesty
from _measure import Run, interleaved, measured, median, script, short, table
from _peers import (
    COMMAND_LINE,
    COMPRESS,
    DECOMPRESS,
    DUCKDB,
    IGNORING,
    LIMITS,
    LIMITS_OF_TABLE,
    PANDAS,
    READERS,
    SAMPLED,
    SCRIPTS,
    SIZES,
    installed,
)
from _records import BAD_KINDS, LAYOUTS, generate, lines

PACKAGES = ("duckdb", "polars", "pandas", "pyarrow", "pydantic", "msgspec", "pyspark")
SPREAD, BAD = (", ", ": "), 0.001
CASES = {
    "plain": {},
    "spaces after commas and colons": {"spacing": SPREAD},
    "keys in any order": {"shuffled": True},
    "one record in 1,000 is bad": {"bad": BAD},
    "gzip": {},
    "Zstandard": {},
}
SUFFIXES = {"gzip": ".gz", "Zstandard": ".zst"}
SAMPLE = 100_000
RECORDS_PER_FILE = 10
OUTCOME = """
import polars as pl
from pathlib import Path
frame, rejects = pl.read_parquet(sys.argv[1]), Path(sys.argv[1]).with_suffix('.rejects.parquet')
names = ('name', 'state', 'delay', 'attemptsMade', 'timestamp', 'delay_ms', 'attempts_made', 'created_at')
nulled = frame.filter(pl.any_horizontal(pl.col(name).is_null() for name in names if name in frame.columns))
print(len(frame), len(nulled), len(pl.read_parquet(rejects)) if rejects.exists() else 0)
"""
READ_FILES = """
import os
for entry in os.scandir(sys.argv[1]):
    with open(entry.path, 'rb') as file:
        file.read()
"""


def loading(source: object, target: Path) -> list[str]:
    """The command a user types."""
    return [sys.executable, "-m", "jobstats", "load", str(source), "--to", str(target)]


def speed(options: argparse.Namespace, folder: Path) -> None:
    """Every peer on every kind of file; the ratios are those to DuckDB on the same file."""
    for case, how in CASES.items():
        source = folder / "2026-11-27T120000.000Z.ndjson"
        megabytes = generate(source, options.records, **how) / 1e6
        limits = dict(LIMITS) if case == "plain" else {}
        if suffix := SUFFIXES.get(case):
            packed = Path(f"{source}{suffix}")
            require(measured(script(COMPRESS[suffix], source, packed)))
            source.unlink()
            source, limits = packed, {"limit: decompressing": DECOMPRESS[suffix]}
        base = IGNORING if case in CASES and "bad" in how else DUCKDB
        left_out = {PANDAS, *SAMPLED} | (set() if base == IGNORING else {name for name in SCRIPTS if "ignore" in name})
        codes = {name: code for name, code in SCRIPTS.items() if name not in left_out and installed(name)} | limits
        targets = {name: folder / f"{number}.parquet" for number, name in enumerate([COMMAND_LINE, *SCRIPTS])}
        commands = {COMMAND_LINE: loading(source, targets[COMMAND_LINE])}
        commands |= {name: script(code, source, targets.get(name, "")) for name, code in codes.items()}
        scale = {}
        if case == "plain":
            first = folder / "sample.ndjson"
            size = min(SAMPLE, options.records)
            generate(first, size)
            scale = dict.fromkeys(SAMPLED, options.records / size)
            commands |= {name: script(SCRIPTS[name], first, targets[name]) for name in SAMPLED}
            finished = folder / "finished.parquet"
            require(measured(loading(source, finished)))
            rewritten = folder / "rewritten.parquet"
            commands |= {name: script(code, finished, rewritten) for name, code in LIMITS_OF_TABLE.items()}
        runs = interleaved(commands, options.rounds)
        if case == "plain" and installed(PANDAS):
            runs |= interleaved({PANDAS: script(SCRIPTS[PANDAS], source, targets[PANDAS])}, options.pandas_rounds)
        runs = dict(sorted(runs.items(), key=lambda item: item[0].startswith("limit")))
        print(f"\n### {case.capitalize()}: {options.records:,} records, {megabytes:,.0f} MB\n")
        print(table(runs, base, megabytes, scale))
        if scale:
            print(f"\nThe line by line loops read {size:,} records; their seconds are scaled to {options.records:,}.")
        if base == IGNORING:
            _outcomes(options.records, {name: targets[name] for name in runs if not runs[name][0].failure})
        source.unlink()


def _outcomes(records: int, targets: dict[str, Path]) -> None:
    bad = records // round(1 / BAD)
    print(f"\n{bad:,} of the {records:,} records are bad, in turn: {', '.join(BAD_KINDS)}.\n")
    print("| | rows | with a value nulled | bad, kept as if right | gone without a word | refused with line |")
    print("|---|--:|--:|--:|--:|--:|")
    for name, target in targets.items():
        rows, nulled, refused = map(int, require(measured(script(OUTCOME, target))).printed.split())
        kept, gone = max(0, rows - nulled - (records - bad)), records - rows - refused
        print(f"| {name} | {rows:,} | {nulled:,} | {kept:,} | {gone:,} | {refused:,} |")


def memory(options: argparse.Namespace, folder: Path) -> None:
    """Peak memory of the command line by size and form; what takes too much memory is killed, and said to be."""
    print("| | GB | records | s | MB/s | peak MiB | peak ÷ size |\n|---|--:|--:|--:|--:|--:|--:|")
    probe = generate(folder / "probe", 10_000) / 10_000
    forms = [("NDJSON", "ndjson", size) for size in options.sizes]
    forms += [(f"{layout}, one line", layout, options.document_size) for layout in LAYOUTS if layout != "ndjson"]
    forms += [
        ("array, a line for each key", "array", options.document_size),
        ("NDJSON, piped", "ndjson", options.document_size),
    ]
    for name, layout, gigabytes in forms:
        source, target = folder / "2026-11-27T120000.000Z.ndjson", folder / "out.parquet"
        spacing = (",\n", ": ") if "each" in name else (",", ":")
        records = int(gigabytes * 1e9 / probe)
        size = generate(source, records, spacing=spacing, layout=layout)
        piped = "piped" in name
        run = measured(loading("/dev/stdin" if piped else source, target), source if piped else None)
        cells = [
            f"{run.wall:.1f}",
            f"{size / 1e6 / run.wall:,.0f}",
            f"{run.peak:,.0f}",
            f"{run.peak * 2**20 / size:.2f}",
        ]
        shown = ["dies: " + short(run.failure), "", cells[2], ""] if run.failure else cells
        print(f"| {name} | {size / 1e9:.2f} | {records:,} | {' | '.join(shown)} |", flush=True)
        source.unlink()


def files(options: argparse.Namespace, folder: Path) -> None:
    """Answers of the API as a poller keeps them, against one NDJSON file of the same records."""
    answers, one = folder / "answers", folder / "2026-11-27T120000.000Z.ndjson"
    answers.mkdir()
    texts = lines(options.files * RECORDS_PER_FILE)
    moment = datetime(2026, 11, 23, 13, 54, 50, 552_000, UTC)
    size = 0
    before, between, after = LAYOUTS["envelope"]
    with one.open("w", encoding="utf-8", newline="") as whole:
        for number in range(options.files):
            batch = list(islice(texts, RECORDS_PER_FILE))
            name = (
                f"{moment + timedelta(seconds=number):%Y-%m-%dT%H%M%S}.552Z_69de15251f3f3480bf27ef{number % 6:02}.json"
            )
            size += (answers / name).write_bytes((before + between.join(batch) + after).encode())
            whole.write("\n".join(batch) + "\n")
    names = (f"{options.files:,} answers of {RECORDS_PER_FILE} records", "one NDJSON file of the same records")
    targets = dict(zip(names, (folder / "many.parquet", folder / "one.parquet"), strict=True))
    commands = {names[0]: loading(answers, targets[names[0]]), names[1]: loading(one, targets[names[1]])}
    runs = interleaved(commands | {"limit: reading the small files": script(READ_FILES, answers)}, options.rounds)
    counts = [require(measured(script(OUTCOME, target))).printed for target in targets.values()]
    if counts[0] != counts[1]:
        raise RuntimeError(f"not the same rows: {counts}")
    base = statistics.median(run.wall for run in runs[names[1]])
    print(f"{size / 1e6:,.0f} MB; both make {int(counts[0].split()[0]):,} rows.\n")
    print("| | s | ÷ one file | CPU s | peak MiB |\n|---|--:|--:|--:|--:|")
    for name, rounds in runs.items():
        wall, cpu, peak = median([require(run) for run in rounds])
        print(f"| {name} | {wall:.2f} | {wall / base:.2f} | {cpu:.2f} | {peak:,.0f} |")


def parquet(options: argparse.Namespace, folder: Path) -> None:
    """The size of the file beside other writers' of the same columns, and what other readers make of it."""
    source, target = folder / "2026-11-27T120000.000Z.ndjson", folder / "jobs.parquet"
    size = generate(source, options.records)
    require(measured(loading(source, target)))
    source.unlink()
    print(f"{options.records:,} records, {size / 1e6:,.0f} MB of NDJSON.\n")
    print("| the same table written by | MB | NDJSON ÷ it | row groups | columns |\n|---|--:|--:|--:|--:|")
    for name, code in SIZES.items():
        other = folder / "other.parquet"
        groups, columns, written = map(int, require(measured(script(code, target, other))).printed.split())
        print(f"| {name} | {written / 1e6:,.1f} | {size / written:.1f} | {groups} | {columns} |")
    codes = {name: code for name, (module, code) in READERS.items() if find_spec(module)}
    runs = interleaved({name: script(code, target) for name, code in codes.items()}, options.rounds)
    print("\n| read by | whole, s | one question, s | peak MiB |\n|---|--:|--:|--:|")
    facts = {}
    for name, rounds in runs.items():
        answers = [json.loads(require(run).printed) for run in rounds]
        whole, asked = (statistics.median(answer[key] for answer in answers) for key in ("whole", "asked"))
        print(f"| {name} | {whole:.3f} | {asked:.3f} | {median(rounds)[2]:,.0f} |")
        facts[name] = answers[0]["facts"]
    first = next(iter(facts.values()))
    different = [name for name, found in facts.items() if found != first]
    rows, sums, least, most = first["rows"], first["sums"], *first["created_at"]
    verdict = f"**{', '.join(different)} differ**" if different else f"All {len(facts)} agree"
    print(f"\n{verdict} on {rows:,} rows, created from {least} to {most} (ms), on the answer, and on the sums:")
    print(", ".join(f"{name} {total:,}" for name, total in sums.items()) + ".")


def require(run: Run) -> Run:
    """The run, if it did what it should."""
    if run.failure:
        raise RuntimeError(run.failure)
    return run


def machine() -> str:
    """What the numbers were measured with, and what was left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    shown = ", ".join(f"{name} {number}" for name, number in found.items() if number)
    absent = [name for name, number in found.items() if not number]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    left_out = f"; not installed, left out: {', '.join(absent)}" if absent else ""
    return f"{cores} cores, Python {platform.python_version()}, {shown}{left_out}. {datetime.now(UTC):%Y-%m-%d}."


def main() -> None:
    """One part, in Markdown."""
    parts: dict[str, Callable[[argparse.Namespace, Path], None]] = {
        "speed": speed,
        "honesty": lambda _options, _folder: print(honesty()),
        "memory": memory,
        "files": files,
        "parquet": parquet,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=parts)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pandas-rounds", type=int, default=1, help="it is slow")
    parser.add_argument("--sizes", type=float, nargs="+", default=[0.5, 1.0, 2.0, 5.0], help="GB of NDJSON, for memory")
    parser.add_argument("--document-size", type=float, default=1.0, help="GB of the other forms, for memory")
    parser.add_argument("--files", type=int, default=50_000)
    options = parser.parse_args()
    print(f"`{_typed(sys.argv)}`: {machine()}\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="jobstats-bench-") as folder:
        # No round pays for reading the libraries from the disk.
        require(measured(script("\n".join(f"import {name}" for name in ("jobstats", *PACKAGES) if find_spec(name)))))
        parts[options.part](options, Path(folder))


def _typed(arguments: Sequence[str]) -> str:
    return " ".join(["python benchmarks/ingest.py", *arguments[1:]])


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # what is killed for its memory leaves no dump of it
    main()
