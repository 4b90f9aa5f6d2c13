"""The analyses over many runs against the same questions in DuckDB SQL and pandas, in Markdown.

    python benchmarks/analyses.py [--runs 20000000] [--rounds 3] [--pandas-rounds 1] [--only backlog …] [--folder DIR]

Everyone reads the same Parquet file (``_runs.py``, 20 MB a million runs), in a process of its own. DuckDB and pandas
answer as much of the question (``_questions.py``) as fits into some lines: they neither redact nor judge, nor read a
cron.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from _measure import Run, measured, script, short
from _questions import QUESTIONS

ASK = """
import polars as pl, jobstats as js
jobs = pl.scan_parquet(sys.argv[1])
if len(sys.argv) > 2:
    jobs = js.relation(sys.argv[1])
answer = {}
print(answer.select(pl.len()).collect().item() if isinstance(answer, pl.LazyFrame) else len(answer.pl()))
"""
SQL = """
import duckdb
print(len(duckdb.sql({!r}.format(runs=sys.argv[1])).pl()))
"""
PANDAS = """
import pandas as pd
def read(*columns, **more):
    return pd.read_parquet(sys.argv[1], columns=[*columns, "is_latest"]).query("is_latest")
{}
print(len(answer))
"""
NAMES = ("jobstats", "jobstats on DuckDB", "DuckDB", "pandas")


def commands(question: str, runs: Path) -> dict[str, list[str]]:
    """What each answers the question with; a peer that has no answer in a few lines is left out."""
    ours, sql, pandas = QUESTIONS[question]
    asked = ASK.format("PLACE").replace("PLACE", ours)
    found = {"jobstats": script(asked, runs), "jobstats on DuckDB": script(asked, runs, "duckdb")}
    if sql:
        found["DuckDB"] = script(SQL.format(sql), runs)
    if pandas:
        found["pandas"] = script(PANDAS.format(pandas), runs)
    return found


def cell(runs: list[Run], base: list[Run]) -> str:
    """Seconds, the ratio to the base, and the peak in GiB."""
    if not runs:
        return "| | "
    if runs[0].failure:
        return f"| dies: {short(runs[0].failure, 60)} | "
    wall, peak = (statistics.median(getattr(run, name) for run in runs) for name in ("wall", "peak"))
    ratio = f" ({statistics.median(a.wall / b.wall for a, b in zip(runs, base, strict=False)):.2f} ×)" if base else ""
    return f"| {wall:.2f}{ratio} | {peak / 1024:.1f} "


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pandas-rounds", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[""], help="questions that begin so")
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        runs = Path(folder) / "runs.parquet"
        # In a process of its own, so that this one stays small.
        here = str(Path(__file__).parent)
        written = measured(
            script(
                "from pathlib import Path\nsys.path.insert(0, sys.argv[1])\nimport _runs\n"
                "_runs.write(Path(sys.argv[2]), int(sys.argv[3]))",
                here,
                runs,
                args.runs,
            )
        )
        if written.failure:
            raise SystemExit(written.failure)
        print(f"{args.runs:,} runs, {runs.stat().st_size / 1e6:,.0f} MB of Parquet\n")
        print("| | " + " | ".join(f"{name}, s | GiB" for name in NAMES) + " |")
        print("|---|" + "--:|" * (2 * len(NAMES)))
        for question in QUESTIONS:
            if not question.startswith(tuple(args.only)):
                continue
            asked = commands(question, runs)
            found: dict[str, list[Run]] = {name: [] for name in NAMES}
            for turn in range(args.rounds):
                for name in sorted(asked, key=lambda name: (NAMES.index(name) - turn) % len(NAMES)):
                    if name != "pandas" or turn < args.pandas_rounds:
                        found[name].append(measured(asked[name]))
            base = found["DuckDB"]
            cells = "".join(cell(found[name], base if name != "DuckDB" else []) for name in NAMES)
            print(f"| {question} {cells}|", flush=True)


if __name__ == "__main__":
    main()
