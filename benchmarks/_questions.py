"""What jobstats, DuckDB and pandas are asked about many runs; None where no answer fits into some lines."""

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
        """asked = ["started_at", "is_ended", "eligible_at", "observed_at", "queue_latency_ms", "queue_latency_quality"]
runs = read("connector", *asked)
started = runs["started_at"].notna()
runs = runs[started | ~runs["is_ended"] & (runs["eligible_at"] <= runs["observed_at"])]
kind = runs["queue_latency_quality"].where(runs["started_at"].notna(), "waiting")
counts = runs.groupby(["connector", kind]).size().unstack(fill_value=0)
lengths = runs[kind == "exact"].groupby("connector")["queue_latency_ms"]
answer = counts.join(lengths.quantile([0.5, 0.9, 0.95, 0.99]).unstack()).join(lengths.agg(["mean", "max", "count"]))""",
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
        """asked = ["started_at", "is_ended", "eligible_at", "observed_at", "eligible_source", "queue_latency_quality"]
every = read("connector", "state", "turnaround_ms", *asked)
started = every["started_at"].notna()
runs = every[started | every["is_ended"] | (every["eligible_at"] <= every["observed_at"])]
timed = runs["is_ended"] & runs["turnaround_ms"].notna()
bound = timed & (runs["eligible_source"] == "id_suffix_lower_bound").fillna(False)
known = timed & ~bound & (runs["queue_latency_quality"] != "unknown")
kinds = pd.DataFrame({"connector": runs["connector"], "n": known, "bound": bound, "open": ~runs["is_ended"]})
kinds["unknown"] = runs["is_ended"] & ~known & ~bound
lengths = runs[known].groupby("connector")["turnaround_ms"]
answer = kinds.groupby("connector").sum().join(lengths.quantile([0.5, 0.9, 0.95, 0.99]).unstack())
answer = answer.join(lengths.agg(["mean", "max"]))
unseen = (started & ~every["is_ended"]).sum()
answer["seen"] = (every["state"] == "completed").any() and every["is_ended"].sum() >= unseen""",
    ),
    "retry_rates by connector and day": (
        'js.retry_rates(jobs, by="connector", every="1d")',
        """select connector, date_trunc('day', started_at) as day, count(*) as n,
            count(*) filter (state = 'failed') / n, count(*) filter (is_retried) / n,
            count(*) filter (state = 'completed' and is_retried), avg(attempts), count(*) filter (not is_ended)
            from '{runs}' where is_latest and (is_ended or started_at is not null) group by all order by all""",
        """runs = read("connector", "started_at", "state", "is_retried", "attempts", "is_ended")
runs = runs[runs["is_ended"] | runs["started_at"].notna()]
runs = runs.assign(day=runs["started_at"].dt.floor("D"), failed=runs["state"] == "failed", open=~runs["is_ended"])
runs["recovered"] = (runs["state"] == "completed") & runs["is_retried"]
measures = {"failed": ["mean", "size"], "is_retried": "mean", "recovered": "sum", "attempts": "mean", "open": "sum"}
answer = runs.groupby(["connector", "day"]).agg(measures)""",
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
        """instance = ["org_id", "connector", "connector_id"]
runs = read("failed_reason", *instance, "state", "is_ended", "finished_at").dropna(subset="failed_reason")
runs = runs.assign(failed=runs["state"] == "failed", ok=runs["state"] == "completed", open=~runs["is_ended"])
answer = runs.groupby("failed_reason").agg(
    n=("failed", "sum"), recovered=("ok", "sum"), retrying=("open", "sum"), first=("finished_at", "min"),
    last=("finished_at", "max"))
answer["share"] = answer["n"] / answer["n"].sum()
failed = runs[runs["failed"]].assign(day=runs["finished_at"].dt.floor("D"))
answer["days"] = failed[["failed_reason", *instance, "day"]].drop_duplicates().groupby("failed_reason").size()
answer["instances"] = failed[["failed_reason", *instance]].drop_duplicates().groupby("failed_reason").size()
answer["organisations"] = failed.groupby("failed_reason")["org_id"].nunique()
most = failed.groupby(["failed_reason", "connector"]).size().rename("n").reset_index().sort_values("n", ascending=False)
most = most.groupby("failed_reason").head(3).groupby("failed_reason")["connector"].agg(list)
answer = answer.join(most).sort_values("n", ascending=False)""",
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
        """runs = read("eligible_at", "started_at").dropna(subset="started_at")
came = pd.Series(1, index=runs["eligible_at"].to_numpy())
went = pd.Series(-1, index=runs["started_at"].to_numpy())
level = pd.concat([came, went]).sort_index().groupby(level=0).sum().cumsum()
stays = (level.index[1:] - level.index[:-1]) / pd.Timedelta(hours=1)
steps = pd.DataFrame({"level": level, "area": level * [*stays, 0]}).resample("1h")
answer = steps.agg({"level": "max", "area": "sum"})""",
    ),
    "concurrency by hour": ('js.concurrency(jobs, every="1h")', None, None),
    "schedule_adherence by connector": (
        'js.schedule_adherence(jobs, by="connector")',
        """with runs as (
              select connector, queue_latency_ms as ms,
                minute(iteration_at) = split_part(schedule_cron, ' ', 1)::int as is_on,
                iteration_at - lag(iteration_at) over fires as gap,
                started_at < lag(finished_at) over fires as is_overlapping,
                started_at is null and eligible_at <= observed_at as waits from '{runs}' where is_latest
              window fires as (partition by org_id, schedule_key, requested_at order by iteration_at, created_at))
            select connector, quantile_cont(ms, [0.5, 0.95]) filter (is_on), max(ms) filter (is_on),
              count(*) filter (is_on and ms <= 60000) as on_time, count(*) filter (is_on and ms > 60000) as late,
              sum(epoch_ms(gap) // 3600000 - 1) as missed, on_time / (on_time + late + missed), count(*) filter (waits),
              count(*) filter (is_overlapping), count(*) filter (not is_on)
            from runs group by all order by all""",
        """keys = ["org_id", "schedule_key", "requested_at"]
asked = ["iteration_at", "created_at", "started_at", "finished_at", "eligible_at", "observed_at"]
runs = read("connector", *keys, *asked, "schedule_cron", "queue_latency_ms")
runs = runs.sort_values([*keys, "iteration_at", "created_at"])
before = runs.groupby(keys)[["iteration_at", "finished_at"]].shift()
runs["missed"] = (runs["iteration_at"] - before["iteration_at"]) // pd.Timedelta(hours=1) - 1
runs["overlapping"] = runs["started_at"] < before["finished_at"]
runs["waits"] = runs["started_at"].isna() & (runs["eligible_at"] <= runs["observed_at"])
is_on = runs["iteration_at"].dt.minute == runs["schedule_cron"].str.split(" ").str[0].astype(int)
wait = runs["queue_latency_ms"]
runs["on_time"], runs["late"] = is_on & (wait <= 60_000), is_on & (wait > 60_000)
runs["off"] = ~is_on
counts = ["on_time", "late", "missed", "waits", "overlapping", "off"]
answer = runs.groupby("connector")[counts].sum()
lengths = runs[is_on].groupby("connector")["queue_latency_ms"]
answer = answer.join(lengths.quantile([0.5, 0.95]).unstack()).join(lengths.max())
answer["rate"] = answer["on_time"] / answer[["on_time", "late", "missed"]].sum(axis=1)""",
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
                - sum(epoch_ms(ended)) filter (was and not ok)
                + case when n > closed then epoch_ms(begun) else 0 end as down
              from steps where ok <> was group by all),
            streaks as (
              select org_id, connector, connector_id, count(*) filter (not ok and ended > last_ok) as failing,
                count(*) filter (not is_ended and started_at > last_ok) as unsettled
              from runs join known using (org_id, connector,
              connector_id) where ended > last_ok or not is_ended group by all)
            select *, down / closed as mttr, (epoch_ms(last) - epoch_ms(first) - down) / n as mtbf
            from known left join outages using (org_id, connector, connector_id)
              left join streaks using (org_id, connector, connector_id) order by all""",
        """keys = ["org_id", "connector", "connector_id"]
schedule = ["schedule_cron", "schedule_timezone", "schedule_every_ms", "schedule_enabled"]
runs = read(*keys, *schedule, "created_at", "started_at", "finished_at", "state", "is_ended", "failed_reason")
runs["ok"] = runs["state"] == "completed"
runs["failed"], runs["open"] = runs["is_ended"] & ~runs["ok"], runs["started_at"].notna() & ~runs["is_ended"]
answer = runs.groupby(keys).agg(
    n_ok=("ok", "sum"), n_failed=("failed", "sum"), n_open=("open", "sum"), first=("finished_at", "min"),
    last=("finished_at", "max"), last_start=("started_at", "max"))
answer = answer.join(runs.loc[runs.groupby(keys)["created_at"].idxmax(), [*keys, *schedule]].set_index(keys))
ends = runs[runs["is_ended"]].sort_values([*keys, "finished_at", "ok"])
answer["last_ok"] = ends[ends["ok"]].groupby(keys)["finished_at"].max()
answer = answer.join(ends[ends["failed"]].groupby(keys)[["finished_at", "failed_reason"]].last().add_prefix("failed_"))
was = ends.groupby(keys)["ok"].shift(fill_value=True)
beginning, closing = was & ~ends["ok"], ~was & ends["ok"]
answer["outages"], answer["closed"] = ends[beginning].groupby(keys).size(), ends[closing].groupby(keys).size()
answer["begun"] = ends[beginning].groupby(keys)["finished_at"].max()
ends["s"] = (ends["finished_at"] - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
down = ends.loc[closing].groupby(keys)["s"].sum() - ends.loc[beginning].groupby(keys)["s"].sum()
span = (answer["last"] - answer["first"]).dt.total_seconds()
still = answer["outages"].fillna(0) > answer["closed"].fillna(0)
down = down + ((answer["begun"] - pd.Timestamp(0, tz="UTC")).dt.total_seconds()).where(still, 0)
answer["mttr"], answer["mtbf"] = down / answer["closed"], (span - down) / answer["outages"]
late = runs.join(answer["last_ok"], on=keys)
answer["failing"] = late[late["failed"] & (late["finished_at"] > late["last_ok"])].groupby(keys).size()
answer["unsettled"] = late[~late["is_ended"] & (late["started_at"] > late["last_ok"])].groupby(keys).size()""",
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
        """every = read("connector", "attempts", "state", "is_ended", "started_at")
runs = every[every["is_ended"] | every["started_at"].notna()]
runs = runs.assign(ok=runs["state"] == "completed", failed=runs["state"] == "failed", open=~runs["is_ended"])
answer = runs.groupby(["connector", "attempts"]).agg(
    n=("is_ended", "sum"), ok=("ok", "sum"), failed=("failed", "sum"), open=("open", "sum"))
answer["reached"] = (answer["n"] + answer["open"])[::-1].groupby("connector").cumsum()
answer["share"] = answer["n"] / answer.groupby("connector")["n"].transform("sum")
answer["rate"] = answer["ok"] / answer["reached"]
unseen = (every["started_at"].notna() & ~every["is_ended"]).sum()
answer["seen"] = (every["state"] == "completed").any() and every["is_ended"].sum() >= unseen""",
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
        """keys = ["org_id", "connector", "connector_id"]
columns = [*keys, "schedule_type", "schedule_timezone"]
runs = read(*columns, "started_at", "state", "is_ended").query("is_ended")
at = runs["started_at"]
runs = runs.assign(h=at.dt.hour, d=at.dt.weekday, t=at.dt.floor("D"), x=(runs["state"] == "failed").astype(int), n=1)
parts = []
for name in [*columns, "h", "d"]:
    cells = runs.groupby(list(dict.fromkeys([name, *keys, "t"])))[["x", "n"]].sum()
    for others in ([key for key in keys if key != name], ["t"]):
        of = cells.groupby(level=[name, *others] if others else [name]).sum()
        of = of.assign(xx=of["x"] ** 2, xn=of["x"] * of["n"], nn=of["n"] ** 2)
        parts.append(of.groupby(level=name).sum().assign(name=name))
answer = pd.concat(parts)""",
    ),
}
