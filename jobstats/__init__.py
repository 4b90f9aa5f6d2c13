"""jobstats tells the truth about job queues, from exported JobStatus records.

Data flows one way: records → jobs table → result tables → charts → page.

``moments``    points in time and lengths, as integers and as callers write them
``contract``   JobStatus as exported, and the verdict on one record
``table``      the jobs table: its columns, types, units
``ingest``     bytes → jobs table and rejects
``firing``     when a schedule fires
``facts``      what each record says by itself about its times
``timing``     what happened when, recovered from what the records still say
``ends``       which runs ended unseen, inferred from the lists that leave them out
``spool``      records on disk until what they say together is known
``histories``  many observations → one row a run
``parquet``    the jobs table as one Parquet file
``stores``     observations of many exports as a folder of Parquet files
``engines``    SQL on it
``reasons``    failure text → redacted template, cause, category
``objectives`` service level objectives, as a file says them
``analysis``   one module a question: jobs in, a small table out
``charts``     one function a question: that table in, an Altair chart out
``report``     analyses and charts composed into a page
``formats``    answers as text
``terminal``   what is said to people on the way
``cli``        the command line

>>> import jobstats as js
>>> jobs, rejects = js.load("data/dump")
>>> js.queue_latency(jobs, by="schedule_type").select("schedule_type", "p50_ms", "n").row(0)
('custom', 2314.0, 689)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobstats import charts, reasons
    from jobstats.analysis.attempts import attempts
    from jobstats.analysis.backlog import backlog
    from jobstats.analysis.compare import compare
    from jobstats.analysis.concurrency import concurrency
    from jobstats.analysis.drivers import drivers
    from jobstats.analysis.failure_reasons import failure_reasons
    from jobstats.analysis.fires import fires
    from jobstats.analysis.freshness import freshness
    from jobstats.analysis.processing_time import processing_time
    from jobstats.analysis.quality import quality
    from jobstats.analysis.queue_latency import queue_latency
    from jobstats.analysis.retry_rates import retry_rates
    from jobstats.analysis.schedule_adherence import schedule_adherence
    from jobstats.analysis.slo import slo
    from jobstats.analysis.slowdown import slowdown
    from jobstats.analysis.stuck import stuck
    from jobstats.analysis.timeline import timeline
    from jobstats.analysis.turnaround import turnaround
    from jobstats.contract import JobStatus
    from jobstats.engines import relation, sql
    from jobstats.errors import ArgumentError, JobstatsError, SourceError, TableError
    from jobstats.histories import history
    from jobstats.ingest.loading import Loaded, load
    from jobstats.objectives import Objective, read_objectives
    from jobstats.parquet import Converted, convert, write
    from jobstats.report.formats import write_report
    from jobstats.stores import Appended, Compacted, Store, read, scan, store
    from jobstats.table import describe

__version__ = "0.1.0"

__all__ = [
    "Appended",
    "ArgumentError",
    "Compacted",
    "Converted",
    "JobStatus",
    "JobstatsError",
    "Loaded",
    "Objective",
    "SourceError",
    "Store",
    "TableError",
    "attempts",
    "backlog",
    "charts",
    "compare",
    "concurrency",
    "convert",
    "describe",
    "drivers",
    "failure_reasons",
    "fires",
    "freshness",
    "history",
    "load",
    "processing_time",
    "quality",
    "queue_latency",
    "read",
    "read_objectives",
    "reasons",
    "relation",
    "retry_rates",
    "scan",
    "schedule_adherence",
    "slo",
    "slowdown",
    "sql",
    "store",
    "stuck",
    "timeline",
    "turnaround",
    "write",
    "write_report",
]

# Importing all of it takes longer than most questions take to answer, so each waits for its first use.
_HOMES = {
    "contract": ["JobStatus"],
    "engines": ["relation", "sql"],
    "errors": ["ArgumentError", "JobstatsError", "SourceError", "TableError"],
    "histories": ["history"],
    "ingest.loading": ["Loaded", "load"],
    "objectives": ["Objective", "read_objectives"],
    "parquet": ["Converted", "convert", "write"],
    "report.formats": ["write_report"],
    "stores": ["Appended", "Compacted", "Store", "read", "scan", "store"],
    "table": ["describe"],
}
_PACKAGES = ("charts", "reasons")
"""All other names are analyses, each in a module of its name."""


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


if not TYPE_CHECKING:  # where every name would be taken for one that there is

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name in _PACKAGES:
            return import_module(f"jobstats.{name}")
        home = next((home for home, names in _HOMES.items() if name in names), f"analysis.{name}")
        value = getattr(import_module(f"jobstats.{home}"), name)
        globals()[name] = value
        return value
