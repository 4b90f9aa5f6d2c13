"""The analyses over many runs against the same questions in DuckDB SQL and pandas, in Markdown.

    python benchmarks/analyses.py [--runs 20000000] [--rounds 3] [--pandas-rounds 1] [--only backlog …] [--folder DIR]

Everyone reads the same Parquet file (``_runs.py``, 20 MB a million runs), in a process of its own. DuckDB answers as
much of the question as one statement of SQL can: it neither redacts nor judges, nor reads a cron. pandas answers the
core of it alone.
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
              count(*) filter (queue_latency_quality = 'upper_bound'),
              count(*) filter (queue_latency_quality = 'gap_or_late'),
              count(*) filter (queue_latency_quality = 'last_attempt_only'),
              count(*) filter (started_at is not null and queue_latency_quality = 'unknown'),
              count(*) filter (started_at is null)
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
        """with runs as (select *, is_ended and turnaround_ms is not null as timed,
              coalesce(eligible_source, '') = 'id_suffix_lower_bound' as bound from '{runs}' where is_latest
              and (started_at is not null or is_ended or eligible_at <= observed_at)),
            known as (select *, timed and not bound and queue_latency_quality <> 'unknown' as known from runs),
            lengths as (select *, case when known then turnaround_ms end as ms from known),
            answers as (select connector, quantile_cont(ms, [0.5, 0.9, 0.95, 0.99]), avg(ms), max(ms),
              count(*) filter (known),
              count(*) filter (timed and bound), count(*) filter (is_ended and not known and not (timed and bound)),
              count(*) filter (not is_ended) from lengths group by all)
            select *, (select count(*) filter (state = 'completed') > 0 and count(*) filter (is_ended)
              >= count(*) filter (started_at is not null and not is_ended) from '{runs}' where is_latest)
            from answers order by all""",
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
        """with cells as (
              select failed_reason, org_id, connector, connector_id, date_trunc('day', finished_at) as day,
                count(*) filter (state = 'failed') as n, count(*) filter (state = 'completed') as recovered,
                count(*) filter (not is_ended) as retrying, min(finished_at) as first, max(finished_at) as last
              from '{runs}' where is_latest and failed_reason is not null group by all),
            kinds as (select failed_reason, connector, sum(n) as n from cells group by all),
            named as (select failed_reason, max_by(connector, n, 3) as most from kinds group by all)
            select cells.failed_reason, sum(n), sum(n) / sum(sum(n)) over (), sum(recovered), sum(retrying),
              count(distinct (org_id, connector, connector_id)) filter (n > 0), count(distinct org_id) filter (n > 0),
              count(distinct (org_id, connector, connector_id, day)) filter (n > 0), min(first), max(last),
              any_value(most)
            from cells join named using (failed_reason) group by all order by 2 desc""",
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
        """with runs as (
              select org_id, connector, connector_id, created_at, started_at, finished_at as ended,
              state = 'completed' as ok,
                is_ended, failed_reason, schedule_cron, schedule_timezone, schedule_every_ms, schedule_enabled
              from '{runs}' where is_latest),
            known as (
              select org_id, connector, connector_id, max(ended) filter (ok) as last_ok,
              max(ended) filter (not ok) as last_failed,
                max_by(failed_reason, ended) filter (not ok) as reason, max(started_at) as last_start,
                max_by((schedule_cron, schedule_timezone, schedule_every_ms, schedule_enabled), created_at) as schedule,
                count(*) filter (ok) as n_ok, count(*) filter (is_ended and not ok) as n_failed,
                count(*) filter (started_at is not null and not is_ended) as n_open, min(ended) as first,
                max(ended) as last
              from runs group by all),
            steps as (
              select org_id, connector, connector_id, ended, ok, lag(ok, 1, true) over (
                partition by org_id, connector, connector_id order by ended, ok) as was from runs where is_ended),
            outages as (
              select org_id, connector, connector_id, count(*) filter (was and not ok) as n,
              count(*) filter (ok and not was)
                as closed, max(ended) filter (was and not ok) as begun, sum(epoch_ms(ended)) filter (ok and not was)
                - sum(epoch_ms(ended)) filter (was and not ok) as down
              from steps where ok <> was group by all),
            streaks as (
              select org_id, connector, connector_id, count(*) filter (not ok and ended > last_ok) as failing,
                count(*) filter (not is_ended and started_at > last_ok) as unsettled
              from runs join known using (org_id, connector,
              connector_id) where ended > last_ok or not is_ended group by all)
            select *, down / closed as mttr, (epoch_ms(last) - epoch_ms(first) - down) / n as mtbf
            from known left join outages using (org_id, connector, connector_id)
              left join streaks using (org_id, connector, connector_id) order by all""",
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
        """with steps as (select connector, attempts, count(*) filter (is_ended) as n,
          count(*) filter (state = 'completed') as ok,
              count(*) filter (state = 'failed') as failed, count(*) filter (not is_ended) as open
              from '{runs}' where is_latest and (is_ended or started_at is not null) group by all)
            select *, sum(n + open) over (partition by connector order by attempts desc) as reached, n / sum(n) over (
              partition by connector), ok / reached,
              (select count(*) filter (state = 'completed') > 0 and count(*) filter (is_ended)
              >= count(*) filter (started_at is not null and not is_ended) from '{runs}' where is_latest)
            from steps order by all""",
        """runs = read("connector", "attempts", "state", "is_ended").query("is_ended")
answer = runs.groupby(["connector", "attempts", "state"]).size()""",
    ),
    "compare, a week with the four before": ('js.compare(jobs, since="7d", baseline="28d")', None, None),
    "drivers of failure": (
        "js.drivers(jobs)",
        """with runs as (
              select org_id, connector, connector_id, schedule_type, schedule_timezone, hour(started_at) as h,
                date_trunc('day', started_at) as t, isodow(started_at) as d, (state = 'failed')::int as x
              from '{runs}' where is_latest and is_ended),
            wide as (
              select org_id, connector, connector_id, schedule_type, schedule_timezone, d, t, sum(x) as x, count(*) as n
              from runs group by all),
            cells as (
              select unnest([org_id, connector, connector_id, schedule_type, schedule_timezone, d::text]) as value,
                unnest([1, 2, 3, 4, 5, 6]) as name, org_id, connector, connector_id, t, x, n from wide
              union all select h::text, 7, org_id, connector, connector_id, t, sum(x), count(*) from runs group by all),
            of_cells as (select name, value, org_id, connector, connector_id, t, sum(x) as x,
              sum(n) as n from cells group by all),
            by_connector as (
              select name, value, org_id, connector, connector_id, sum(x) as x, sum(n) as n, sum(x * x) as xx,
                sum(x * n) as xn, sum(n * n) as nn from of_cells group by all),
            by_time as (select name, value, t, sum(x) as x, sum(n) as n from of_cells group by all)
            select name, value, sum(x), sum(n), sum(x * x), sum(xx), sum(xn), sum(nn),
              null from by_connector group by all
            union all select name, value, sum(x), sum(n), sum(x * x), sum(x * n), sum(n * n), null, count(*)
            from by_time group by all order by all""",
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
