"""NDJSON → Parquet: jobstats beside peers that neither validate nor recover times, in one interleaved run.

    python benchmarks/ingest.py [--records 1000000] [--rounds 3]

Each measurement is a process of its own; wall and CPU seconds and peak memory are those of the process. Peers that are
not installed are left out.
"""

import argparse
import gzip
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
PERIOD_MS = 600_000

JOBSTATS = "import jobstats as js; js.write(js.load(source), target)"
DUCKDB = """
import duckdb
duckdb.sql(f'''copy (select * from read_json('{source}', format='newline_delimited', columns={{
    id: 'VARCHAR', name: 'VARCHAR', progress: 'JSON', delay: 'BIGINT', timestamp: 'BIGINT', attemptsMade: 'BIGINT',
    finishedOn: 'BIGINT', processedOn: 'BIGINT', failedReason: 'VARCHAR', state: 'VARCHAR', data: 'STRUCT(connector
    VARCHAR, connectorId VARCHAR, orgId VARCHAR, userId VARCHAR, "timestamp" TIMESTAMP, scheduleConfig JSON, metadata
    JSON)'}})) to '{target}' (format parquet, compression zstd)''')
"""
POLARS = """
import polars as pl
texts = ('connector', 'connectorId', 'orgId', 'userId', 'timestamp', 'scheduleConfig', 'metadata')
data = pl.Struct(dict.fromkeys(texts, pl.String))
schema = dict.fromkeys(('id', 'name', 'progress', 'failedReason', 'state'), pl.String) | {'data': data}
schema |= dict.fromkeys(('delay', 'timestamp', 'attemptsMade', 'finishedOn', 'processedOn'), pl.Int64)
pl.scan_ndjson(source, schema=schema).unnest('data', separator='_').sink_parquet(target)
"""
PANDAS = """
import json, pandas as pd
frame = pd.json_normalize([json.loads(line) for line in open(source)])
frame.map(lambda v: json.dumps(v) if isinstance(v, (list, dict)) else v).to_parquet(target)
"""
READ = "import collections; collections.deque(iter(lambda f=open(source, 'rb'): f.read(1 << 20), b''), 0)"
WRITE = """
import polars as pl
pl.read_parquet(source + '.parquet').write_parquet(target)
"""
PEERS = {
    "jobstats: validated, flattened, timed": (JOBSTATS, "jobstats"),
    "DuckDB read_json, explicit columns": (DUCKDB, "duckdb"),
    "Polars scan_ndjson, explicit schema": (POLARS, "polars"),
    "pandas json_normalize": (PANDAS, "pandas"),
    "reading the bytes alone": (READ, "jobstats"),
    "reading and writing the Parquet alone": (WRITE, "polars"),
}


def generate(path: Path, records: int) -> None:
    """The bundled dump over and over, each time ten minutes later and with ids of its own."""
    dump = next((ROOT / "data/dump").glob("*.gz"))
    lines = [json.loads(line) for line in gzip.decompress(dump.read_bytes()).splitlines()]
    with path.open("wb") as file:
        for n in range(records):
            record, shift = dict(lines[n % len(lines)]), n // len(lines) * PERIOD_MS
            key, _, millis = record["id"].rpartition(":")
            record["id"] = f"{key}:{int(millis) + shift}" if key else f"{millis}-{shift}"
            for name in ("timestamp", "processedOn", "finishedOn"):
                if name in record:
                    record[name] += shift
            file.write(json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode() + b"\n")


def measured(code: str, source: Path, target: Path) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak MiB of one process."""
    script = f"source, target = {str(source)!r}, {str(target)!r}\n{code}"
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, cwd=ROOT)
    error = process.stderr.read() if process.stderr else b""
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(error.decode().strip().splitlines()[-1])
    return time.perf_counter() - begun, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> None:
    """Print a table of medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "jobs.ndjson"
        generate(source, options.records)
        megabytes = source.stat().st_size / 1e6
        peers = {name: code for name, (code, module) in PEERS.items() if find_spec(module)}
        measured(JOBSTATS, source, Path(f"{source}.parquet"))
        seen: dict[str, list[tuple[float, float, float]]] = {name: [] for name in peers}
        for _ in range(options.rounds):
            for name, code in peers.items():
                seen[name].append(measured(code, source, Path(folder) / "out.parquet"))
        base = statistics.median(wall for wall, *_ in seen["DuckDB read_json, explicit columns"])
        print(f"{options.records:,} records, {megabytes:,.0f} MB, median of {options.rounds}\n")
        print("| | s | ÷ DuckDB | MB/s | CPU s | peak MiB |\n|---|--:|--:|--:|--:|--:|")
        for name, rounds in seen.items():
            wall, cpu, peak = (statistics.median(column) for column in zip(*rounds, strict=True))
            print(f"| {name} | {wall:.1f} | {wall / base:.2f} | {megabytes / wall:,.0f} | {cpu:.1f} | {peak:,.0f} |")


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
