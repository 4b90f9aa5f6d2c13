"""One chart for each analysis, of the same name: its result table in, an Altair chart out. Nothing is computed here.

>>> import jobstats as js
>>> jobs, rejects = js.load("data/dump")
>>> chart = js.charts.queue_latency(js.queue_latency(jobs, by="connector"))
>>> chart.to_dict()["title"]["text"]
'Queue latency by connector'
"""

from jobstats.charts.attempts import attempts
from jobstats.charts.backlog import backlog
from jobstats.charts.compare import compare
from jobstats.charts.concurrency import concurrency
from jobstats.charts.drivers import drivers
from jobstats.charts.failure_reasons import failure_reasons
from jobstats.charts.fires import fires
from jobstats.charts.freshness import freshness
from jobstats.charts.processing_time import processing_time
from jobstats.charts.queue_latency import queue_latency
from jobstats.charts.retry_rates import retry_rates
from jobstats.charts.schedule_adherence import schedule_adherence
from jobstats.charts.slo import slo
from jobstats.charts.slowdown import slowdown
from jobstats.charts.stuck import stuck
from jobstats.charts.theme import use_theme
from jobstats.charts.timeline import timeline
from jobstats.charts.turnaround import turnaround

__all__ = [
    "attempts",
    "backlog",
    "compare",
    "concurrency",
    "drivers",
    "failure_reasons",
    "fires",
    "freshness",
    "processing_time",
    "queue_latency",
    "retry_rates",
    "schedule_adherence",
    "slo",
    "slowdown",
    "stuck",
    "timeline",
    "turnaround",
    "use_theme",
]
