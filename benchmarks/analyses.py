"""The analyses over many runs against the same questions in DuckDB SQL and pandas, in Markdown.

    python benchmarks/analyses.py [--runs 20000000] [--rounds 3] [--pandas-rounds 1] [--only backlog …] [--folder DIR]

Everyone reads the same Parquet file (``_runs.py``, 20 MB a million runs), in a process of its own. A peer answers the
core of the question: none redacts, judges, bounds, or says what is not known.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from _measure import Run, measured, script, short

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
QUESTIONS = {
    "queue_latency by connector": (
        'js.queue_latency(jobs, by="connector")',
        """with runs as (select *, case when queue_latency_quality = 'exact' then queue_latency_ms end as ms
              from '{runs}' where is_latest and (started_at is not null or not is_ended and eligible_at <= observed_at))
            select connector, quantile_cont(ms, [0.5, 0.9, 0.95, 0.99]), avg(ms), max(ms), count(ms),
              count(*) filter (queue_latency_quality = 'upper_bound'), count(*) filter (started_at is null)
            from runs group by all order by all""",
        """runs = read("connector", "queue_latency_ms", "queue_latency_quality")
runs = runs.query("queue_latency_quality == 'exact'")
answer = runs.groupby("connector")["queue_latency_ms"].quantile([0.5, 0.9, 0.95, 0.99])""",
    ),
    "queue_latency by day, censored": (
        'js.queue_latency(jobs, every="1d", censored=True)',
        None,
        None,
    ),
    "turnaround by connector": (
        'js.turnaround(jobs, by="connector")',
        """select connector, quantile_cont(turnaround_ms, [0.5, 0.9, 0.95, 0.99]), avg(turnaround_ms),
              max(turnaround_ms), count(*) from '{runs}' where is_latest and is_ended group by all order by all""",
        """runs = read("connector", "turnaround_ms", "is_ended").query("is_ended")
answer = runs.groupby("connector")["turnaround_ms"].quantile([0.5, 0.9, 0.95, 0.99])""",
    ),
    "retry_rates by connector and day": (
        'js.retry_rates(jobs, by="connector", every="1d")',
        """select connector, date_trunc('day', started_at) as day, count(*) as n,
            count(*) filter (state = 'failed') / n, count(*) filter (is_retried) / n,
            count(*) filter (state = 'completed' and is_retried), avg(attempts), count(*) filter (not is_ended)
            from '{runs}' where is_latest and (is_ended or started_at is not null) group by all order by all""",
        """runs = read("connector", "started_at", "state", "is_retried", "attempts", "is_ended").query("is_ended")
runs = runs.assign(day=runs["started_at"].dt.floor("D"), failed=runs["state"] == "failed")
answer = runs.groupby(["connector", "day"])[["failed", "is_retried", "attempts"]].mean()""",
    ),
    "failure_reasons": (
        "js.failure_reasons(jobs)",
        """select failed_reason, count(*) filter (state = 'failed'), count(*) filter (state = 'completed'),
            count(distinct connector_id), count(distinct org_id), min(finished_at), max(finished_at)
            from '{runs}' where is_latest and failed_reason is not null group by all order by all""",
        """runs = read("failed_reason", "state", "connector_id", "org_id", "finished_at").dropna(subset="failed_reason")
measures = {"connector_id": "nunique", "org_id": "nunique", "finished_at": ["min", "max", "size"]}
answer = runs.groupby("failed_reason").agg(measures)""",
    ),
    "backlog by hour": (
        'js.backlog(jobs, every="1h")',
        """with events as (
              select eligible_at as moment, 1 as step from '{runs}' where is_latest and started_at is not null
              union all select started_at, -1 from '{runs}' where is_latest and started_at is not null),
            net as (select moment, sum(step) as step from events group by moment),
            levels as (select moment, sum(step) over (order by moment) as level,
              lead(moment) over (order by moment) - moment as stays from net)
            select date_trunc('hour', moment) as hour, max(level), sum(level * epoch_ms(stays)) / 3600000
            from levels group by hour order by hour""",
        """runs = read("eligible_at", "started_at").dropna()
came = pd.Series(1, index=runs["eligible_at"].to_numpy())
went = pd.Series(-1, index=runs["started_at"].to_numpy())
level = pd.concat([came, went]).sort_index().groupby(level=0).sum().cumsum()
answer = level.resample("1h").max()""",
    ),
    "concurrency by hour": ('js.concurrency(jobs, every="1h")', None, None),
    "schedule_adherence by connector": (
        'js.schedule_adherence(jobs, by="connector")',
        """with fires as (
              select connector, queue_latency_ms, iteration_at - lag(iteration_at) over (
                partition by org_id, schedule_key order by iteration_at) as gap from '{runs}' where is_latest)
            select connector, count(*), count(*) filter (queue_latency_ms <= 60000),
              count(*) filter (queue_latency_ms > 60000), sum(epoch_ms(gap) // 3600000 - 1)
            from fires group by all order by all""",
        None,
    ),
    "freshness": (
        "js.freshness(jobs)",
        """with ends as (
              select org_id, connector, connector_id, finished_at, state, max(finished_at) filter (state = 'completed')
                over (partition by org_id, connector, connector_id) as ok from '{runs}' where is_latest and is_ended)
            select org_id, connector, connector_id, max(ok), count(*) filter (state = 'failed' and finished_at > ok),
              max(finished_at) filter (state = 'failed') from ends group by all order by all""",
        """runs = read("org_id", "connector", "connector_id", "finished_at", "state", "is_ended").query("is_ended")
keys = ["org_id", "connector", "connector_id"]
ok = runs[runs["state"] == "completed"].groupby(keys)["finished_at"].max().rename("ok")
bad = runs[runs["state"] == "failed"].join(ok, on=keys)
answer = bad[bad["finished_at"] > bad["ok"]].groupby(keys).size()""",
    ),
    "stuck": ("js.stuck(jobs)", None, None),
    "slo, three objectives by connector": (
        """js.slo(jobs, [
    js.Objective(name="start", kind="start", target=0.95, within="5m", by="connector"),
    js.Objective(name="success", kind="success", target=0.9, by="connector"),
    js.Objective(name="fresh", kind="fresh", target=0.9, by="connector")])""",
        None,
        None,
    ),
    "attempts by connector": (
        'js.attempts(jobs, by="connector")',
        """select connector, attempts, count(*), count(*) filter (state = 'completed')
            from '{runs}' where is_latest and is_ended group by all order by all""",
        """runs = read("connector", "attempts", "state", "is_ended").query("is_ended")
answer = runs.groupby(["connector", "attempts", "state"]).size()""",
    ),
    "compare, a week with the four before": ('js.compare(jobs, since="7d", baseline="28d")', None, None),
    "drivers of failure": (
        "js.drivers(jobs)",
        """select connector, org_id, schedule_type, schedule_timezone, hour(started_at) as h, isodow(started_at) as d,
              count(*), count(*) filter (state = 'failed') from '{runs}' where is_latest and is_ended
            group by grouping sets (connector, org_id, schedule_type, schedule_timezone, h, d) order by all""",
        """columns = ["connector", "org_id", "schedule_type", "schedule_timezone"]
runs = read(*columns, "started_at", "state", "is_ended").query("is_ended")
runs = runs.assign(h=runs["started_at"].dt.hour, d=runs["started_at"].dt.weekday, failed=runs["state"] == "failed")
answer = pd.concat([runs.groupby(name)["failed"].agg(["size", "sum"]) for name in [*columns, "h", "d"]])""",
    ),
}


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
