"""A store that grows for a year: append, scan, compact and history at 1, 10 and 50 million observations, in Markdown.

    python benchmarks/store.py [--days 7 68 340] [--folder DIR]

Observations are those of ``_polls.py``, 148,000 a day, appended in six pieces a day as a scheduler would. The stores
take about 5 MB of disk a million, and a history of 50 million as much again in temporary files while it is made.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from _measure import done, measured, script

PIECES = 6
APPEND = """
import json, time
sys.path.insert(0, sys.argv[1])
import _polls
import polars as pl
import jobstats as js
path, first, last, pieces = sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
store, seconds = js.store(path), []
for number in range(first, last):
    day = _polls.day(number)
    size = -(-len(day) // pieces)
    begun = time.perf_counter()
    for piece in range(pieces):
        store.append(day[piece * size : (piece + 1) * size])
    seconds.append(time.perf_counter() - begun)
print(json.dumps(seconds))
"""
AGAIN = """
import json, time
sys.path.insert(0, sys.argv[1])
import _polls, jobstats as js
day, store = _polls.day(int(sys.argv[3])), js.store(sys.argv[2])
begun = time.perf_counter()
assert store.append(day).n_new == 0
print(json.dumps(time.perf_counter() - begun))
"""
COMPACT = """
import json, jobstats as js
done = js.store(sys.argv[1]).compact()
print(json.dumps([done.n_parts_before, done.n_parts]))
"""
HISTORY = """
import json, jobstats as js
from jobstats.parquet import sink
print(json.dumps(sink(js.history(js.store(sys.argv[1]).scan()), sys.argv[2])))
"""
NEWEST = """
import duckdb
duckdb.sql(f"set memory_limit = '8GB'; set temp_directory = '{sys.argv[2]}.tmp'; set preserve_insertion_order = false")
duckdb.sql(f\"\"\"copy (
    select * from read_parquet('{sys.argv[1]}/observations/*/*.parquet')
    qualify row_number() over (partition by org_id, job_id, created_at order by observed_at desc) = 1
) to '{sys.argv[2]}' (format parquet, compression zstd)\"\"\")
"""
SCAN = """
import json, time, polars as pl, jobstats as js
store = js.store(sys.argv[1])
def read():
    return int(open('/proc/self/io').readline().split()[1])
found = []
for window in (dict(since='7d'), {}):
    before, begun = read(), time.perf_counter()
    n = store.scan(**window).group_by('connector').agg(pl.len()).collect()['len'].sum()
    found.append([n, time.perf_counter() - begun, read() - before])
    before, begun = read(), time.perf_counter()
    if window:
        n = store.scan(**window).select(pl.col('queue_latency_ms').median()).collect().item()
        found.append([n, time.perf_counter() - begun, read() - before])
print(json.dumps(found))
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, nargs="+", default=[7, 68, 340])
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        os.environ["TMPDIR"] = folder
        report(sorted(options.days), Path(folder))


def report(days: list[int], folder: Path) -> None:
    """One store grows; at each size a copy of it is measured."""
    grown, before = folder / "grown", 0
    rows: dict[str, list[str]] = {}
    costs: dict[str, list[tuple[int, float]]] = {}
    for n_days in days:
        appended = done(measured(script(APPEND, Path(__file__).parent, grown, before, n_days, PIECES)))
        before = n_days
        last = statistics.median(json.loads(appended.printed)[-5:])
        again = done(measured(script(AGAIN, Path(__file__).parent, grown, n_days - 1)))
        store = folder / "copy"
        shutil.copytree(grown, store)
        compacted = done(measured(script(COMPACT, store)))
        parts = json.loads(compacted.printed)
        scanned = json.loads(done(measured(script(SCAN, store))).printed)
        history = done(measured(script(HISTORY, store, folder / "runs.parquet")))
        newest = measured(script(NEWEST, store, folder / "newest.parquet"))
        (_, t_week, read_week), (_, t_waits, _), (n, t_all, read_all) = scanned
        size = sum(path.stat().st_size for path in store.rglob("*.parquet"))
        ratio = f"{history.wall / newest.wall:.2f}" if not newest.failure else newest.failure
        cells = {
            "observations": f"{n:,}",
            "runs": f"{json.loads(history.printed):,}",
            "size on disk, MB": f"{size / 1e6:,.0f}",
            "append a day in six pieces, s": f"{last:.2f}",
            "append that day once more, s": f"{json.loads(again.printed):.2f}",
            "peak of appending, MiB": f"{appended.peak:,.0f}",
            "compact, s": f"{compacted.wall:.1f}",
            "parts before and after": f"{parts[0]:,} → {parts[1]:,}",
            "peak of compacting, MiB": f"{compacted.peak:,.0f}",
            "count all by connector, s": f"{t_all:.2f}",
            "bytes read for that, MB": f"{read_all / 1e6:,.1f}",
            "count the last week, s": f"{t_week:.2f}",
            "bytes read for that week, MB": f"{read_week / 1e6:,.1f}",
            "median wait of the last week, s": f"{t_waits:.1f}",
            "history to Parquet, s": f"{history.wall:.1f}",
            "peak of that, MiB": f"{history.peak:,.0f}",
            "the newest row of each run by DuckDB, s": "dies" if newest.failure else f"{newest.wall:.1f}",
            "peak of DuckDB, MiB": "" if newest.failure else f"{newest.peak:,.0f}",
            "history ÷ DuckDB": ratio,
        }
        for name, cell in cells.items():
            rows.setdefault(name, []).append(cell)
        for name, cost in (("append", last), ("compact", compacted.wall), ("history", history.wall)):
            costs.setdefault(name, []).append((n, cost))
        print(cells, file=sys.stderr)
        shutil.rmtree(store)
    print("| | " + " | ".join(f"{n} days" for n in days) + " |\n|---|" + "--:|" * len(days))
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(row) + " |")
    if len(days) > 1:
        print("\nGrowth, cost ~ observations^x from the smallest store to the largest:")
        for name, points in costs.items():
            (n_first, first), (n_last, last) = points[0], points[-1]
            print(f"{name} {math.log(last / first) / math.log(n_last / n_first):.2f}")


if __name__ == "__main__":
    main()
