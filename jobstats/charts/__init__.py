"""One chart for each analysis, of the same name: its result table in, an Altair chart out. Nothing is computed here.

>>> import jobstats as js
>>> jobs, rejects = js.load("data/dump")
>>> chart = js.charts.queue_latency(js.queue_latency(jobs, by="connector"))
>>> chart.to_dict()["title"]["text"]
'Queue latency by connector'
"""

from jobstats.charts.compare import compare
from jobstats.charts.drivers import drivers
from jobstats.charts.failure_reasons import failure_reasons
from jobstats.charts.queue_latency import queue_latency
from jobstats.charts.retry_rates import retry_rates
from jobstats.charts.slo import slo
from jobstats.charts.theme import use_theme

__all__ = ["compare", "drivers", "failure_reasons", "queue_latency", "retry_rates", "slo", "use_theme"]
