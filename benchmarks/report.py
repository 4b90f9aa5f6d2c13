"""The nightly report of a store of ten million runs: time and memory, first and again, in Markdown.

    python benchmarks/report.py [--runs 10000000] [--folder DIR]

The store holds a dump a day of the runs of ``_runs.py``, which end up in 174 days of 57,600 runs. There is no peer that
writes such a report; DuckDB's newest row of each run is timed beside it, as what any answer begins with.
"""

import argparse
import os
import tempfile
from pathlib import Path

from _measure import done, measured, script

STORE = """
import polars as pl, jobstats as js
sys.path.insert(0, sys.argv[1])
import _runs
from pathlib import Path
table = Path(sys.argv[2]).with_suffix('.parquet')
_runs.write(table, int(sys.argv[3]))
seen = pl.col('created_at').dt.truncate('1d').dt.offset_by('1d3h')
jobs = pl.scan_parquet(table).with_columns(observed_at=seen, source=seen.dt.strftime('dump-%Y-%m-%d.ndjson'))
days = jobs.select(pl.col('observed_at').unique().sort()).collect().to_series()
store = js.store(sys.argv[2])
for first in range(0, len(days), 10):
    store.append(jobs.filter(pl.col('observed_at').is_in(days[first : first + 10].implode())).collect())
table.unlink()
"""
REPORT = """
from jobstats.cli import main
code = main(['report', sys.argv[1], '--out', sys.argv[2], '--slo', sys.argv[3], *sys.argv[4:]])
print(code)
sys.exit(0 if code in (0, 3) else code)
"""
NEWEST = """
import duckdb
print(duckdb.sql(f\"\"\"select count(*), count(distinct connector) from (
    select * from read_parquet('{sys.argv[1]}/observations/*/*.parquet')
    qualify row_number() over (partition by org_id, job_id, created_at order by observed_at desc) = 1)\"\"\"))
"""
SLO = """
[[objective]]
name = "Runs start in time"
kind = "start"
target = 0.95
within = "5m"
by = ["connector"]

[[objective]]
name = "Crawls succeed"
kind = "success"
target = 0.9
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        os.environ["TMPDIR"] = place
        folder = Path(place)
        store, slo = folder / "store", folder / "slo.toml"
        slo.write_text(SLO)
        done(measured(script(STORE, Path(__file__).parent, store, options.runs)))
        week = ["--since", "7d"]
        rows = {
            "the last seven days": measured(script(REPORT, store, folder / "week", slo, *week)),
            "the same again, unchanged": measured(script(REPORT, store, folder / "week", slo, *week)),
            "the last seven days, all formats": measured(
                script(REPORT, store, folder / "formats", slo, *week, "--format", "html,md,eml,png", "--charts", "live")
            ),
            "all of it": measured(script(REPORT, store, folder / "all", slo)),
            "newest row of each run by DuckDB": measured(script(NEWEST, store)),
        }
        print(f"{options.runs:,} runs\n\n| | s | peak MiB |\n|---|--:|--:|")
        for name, run in rows.items():
            done(run)
            print(f"| {name} | {run.wall:.1f} | {run.peak:,.0f} |")


if __name__ == "__main__":
    main()
