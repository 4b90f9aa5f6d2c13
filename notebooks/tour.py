# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A tour of jobstats
#
# From an export of job records to answers about waiting, retrying and failing, and to a report. The records are real:
# every job that was in a BullMQ queue at one moment of a six-minute run.

# %%
import polars as pl

import jobstats as js

js.charts.use_theme()
pl.Config.set_fmt_str_lengths(200)
jobs, rejects = js.load("../data/dump")
len(jobs), len(rejects)

# %% [markdown]
# One row a record, flat and typed. `js.describe()` tells what each column means.

# %%
columns = ["connector", "schedule_type", "state", "eligible_at", "queue_latency_ms", "queue_latency_quality"]
jobs.select(columns).head()

# %% [markdown]
# ## What can this data tell?
#
# Ask this first. An export leaves things out, and every figure below inherits what is missing.

# %%
js.quality(jobs, rejects)

# %% [markdown]
# ## How long do runs wait?
#
# Queue latency is the time from when a run could first start to its first start. The obvious formula,
# *processedOn − timestamp − delay*, misses it: BullMQ sets the delay to 0 when a scheduled job becomes due, so the
# formula counts the time a job was scheduled ahead. Both are in the table.

# %%
runs = jobs.filter("is_latest", jobs["started_at"].is_not_null())
runs.select("queue_latency_ms", "queue_latency_literal_ms").median()

# %%
latency = js.queue_latency(jobs, by="connector")
latency.sort("p95_ms", descending=True).head()

# %%
js.charts.queue_latency(latency)

# %%
js.charts.queue_latency(js.queue_latency(jobs, every="15s"))

# %% [markdown]
# ## How often do runs need another attempt?

# %%
js.charts.retry_rates(js.retry_rates(jobs, by="connector"))

# %% [markdown]
# ## Why do they fail?
#
# Rules turn texts into causes: one thing to fix each, whatever library said it. Texts are redacted, and what differs
# from run to run is masked. Errors that a retry overcame are counted apart.

# %%
reasons = js.failure_reasons(jobs)
reasons.select("cause", "category", "n", "n_recovered", "n_connectors", "template").head()

# %%
js.charts.failure_reasons(reasons)

# %% [markdown]
# What do the runs that failed have in common? Many values look guilty by chance; a *driver* is surely one.

# %%
js.charts.drivers(js.drivers(jobs))

# %% [markdown]
# ## Is it as promised?
#
# Objectives are shares that should be good. A group of too few runs is not judged, and neither is what is not known.

# %%
objectives = [
    js.Objective(name="In time", kind="start", target=0.95, within="10s", by=["schedule_type"]),
    js.Objective(name="Succeed", kind="success", target=0.9, by=["schedule_type"]),
]

# %%
js.charts.slo(js.slo(jobs, objectives))

# %% [markdown]
# ## Did schedules fire, and who has not succeeded for too long?

# %%
js.charts.schedule_adherence(js.schedule_adherence(jobs, by="connector", grace="5s"))

# %%
js.charts.freshness(js.freshness(jobs))

# %% [markdown]
# ## How busy was it?

# %%
js.charts.backlog(js.backlog(jobs, every="5s"))

# %%
js.charts.timeline(js.timeline(jobs))

# %% [markdown]
# ## What today's API shows
#
# The same questions, asked of what the API answered every nine seconds. It lists no completed jobs, so no rate can be
# estimated, and jobstats says so instead of printing 96 % failed. Waits can be recovered all the same: a schedule's
# next run is created the moment the current one starts.

# %%
polls, _ = js.load("../data/polls")
js.queue_latency(polls)

# %% [markdown]
# `js.history` turns observations into one row a run. A run that has started and that complete lists leave out has
# *ended unseen*: nobody saw how, but when is known within bounds, and for many of them a failure can be ruled out.

# %%
history = js.history(polls)
ended = ["ended_after_at", "ended_before_at", "is_failure_ruled_out", "is_retry_ruled_out"]
history.filter(pl.col("outcome") == "ended_unseen").select("connector", "started_at", "n_observations", *ended).head()

# %%
history["outcome"].value_counts(sort=True)

# %% [markdown]
# So the rates have bounds that hold whatever happened unseen. The log of that queue, which is kept beside the tests,
# says that 11 % of its runs failed.

# %%
js.retry_rates(history).select(
    "failure_rate_min", "failure_rate_max", "retry_rate_min", "retry_rate_max", "n", "n_open"
)

# %% [markdown]
# A scheduler that polls every few minutes keeps all answers in a store, a folder of Parquet files that grows night
# after night. Appending what is there already adds nothing.

# %%
import tempfile

crawls = js.store(tempfile.mkdtemp() + "/crawls")
crawls.append("../data/polls").n_new, crawls.append("../data/polls").n_new, crawls.scan().collect().height

# %% [markdown]
# ## Any other question
#
# The table is a Polars frame, and Parquet once written. Ask it in Polars or in SQL.

# %%
js.sql(
    jobs,
    """
    select schedule_type, count(*) as runs, round(avg(attempts), 2) as attempts
    from jobs where is_latest and is_ended group by all order by runs desc
    """,
)

# %% [markdown]
# ## A report
#
# One HTML file that needs no network. On the command line: `jobstats report data/dump --out out`.

# %%
report = js.write_report(js.load("../data/dump"), tempfile.mkdtemp())
f"{report.name}: {report.stat().st_size // 1000} kB"

# %%
# What this tour says of the sample, checked when it is run.
assert (len(jobs), len(rejects)) == (2_219, 0)
assert js.retry_rates(jobs)["n_failed"][0] == 122
assert js.retry_rates(polls)["failure_rate"][0] is None
assert js.retry_rates(history)["failure_rate_min"][0] < 0.11 < js.retry_rates(history)["failure_rate_max"][0]
