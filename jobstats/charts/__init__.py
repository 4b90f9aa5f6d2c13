"""One chart for each analysis, of the same name: its result table in, an Altair chart out. Nothing is computed here.

>>> import jobstats as js
>>> jobs, rejects = js.load("data/dump")
>>> chart = js.charts.queue_latency(js.queue_latency(jobs, by="connector"))
>>> chart.to_dict()["title"]["text"]
'Queue latency by connector'
"""

from jobstats.charts.attempts import attempts
from jobstats.charts.backlog import backlog
from jobstats.charts.concurrency import concurrency
from jobstats.charts.failure_reasons import failure_reasons
from jobstats.charts.processing_time import processing_time
from jobstats.charts.queue_latency import queue_latency
from jobstats.charts.retry_rates import retry_rates
from jobstats.charts.slowdown import slowdown
from jobstats.charts.theme import use_theme
from jobstats.charts.turnaround import turnaround

__all__ = [
    "attempts",
    "backlog",
    "concurrency",
    "failure_reasons",
    "processing_time",
    "queue_latency",
    "retry_rates",
    "slowdown",
    "turnaround",
    "use_theme",
]
