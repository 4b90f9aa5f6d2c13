"""What became of each fire that a schedule was expected to have?"""

from typing import TypeVar

import polars as pl

from jobstats.analysis.asking import returned
from jobstats.analysis.chains import fates
from jobstats.moments import Moment
from jobstats.table import SCHEMA

Frame = TypeVar("Frame")
GRACE = "1m"
"""As in Sentry Crons (``checkin_margin``). healthchecks grants an hour, for jobs that run once a day."""
SCHEDULE = ("org_id", "connector", "connector_id", "schedule_type", "schedule_key", "requested_at")
"""What tells the schedule of a fire."""


def fires(jobs: Frame, *, since: Moment = None, until: Moment = None, grace: str = GRACE) -> Frame:
    """What became of each expected fire: on time, late, started, missed, pending or unknown.

    See :func:`jobstats.schedule_adherence`, which counts these rows, for what is expected and what the fates mean.

    Args:
        jobs: A jobs table: Polars, DuckDB or Spark.
        since: Only fires due at or after this; a datetime, ISO text or an age such as ``"7d"``.
        until: Only fires due before this.
        grace: How long after its time a run may start and be on time.

    Returns:
        ``org_id``, ``connector``, ``connector_id``, ``schedule_type``, ``schedule_key`` (null for one-time schedules)
        and ``requested_at`` of the schedule, ``fire_at`` (by cron or interval), ``due_at`` (the same, plus the constant
        that some servers add to intervals), ``fate``, ``reason`` (of a missed fire: ``run_before_waited`` or
        ``not_made``), ``started_at`` (null when not known), ``lateness_ms`` (from due to start; null unless exact),
        ``waited_ms`` (of a run not started when last seen: how long it had waited), ``is_seen`` (a run of it was) and
        ``is_overlapping`` (its run started before the run before it had finished). Sorted by ``due_at`` and schedule.

    Raises:
        ArgumentError: A time or length that cannot be read, or more fires than fit in memory.
        TableError: ``jobs`` is not a jobs table.

    >>> import jobstats as js
    >>> jobs, rejects = js.load("data/dump")
    >>> expected = fires(jobs, grace="5s")
    >>> expected["fate"].value_counts(sort=True).rows()[:2]
    [('on_time', 489), ('late', 248)]
    """
    known = fates(jobs, by=SCHEDULE, every=None, since=since, until=until, grace=grace, taken=())
    at = {"fire_at": "fire", "due_at": "due", "started_at": "start"}
    rows = known.rows.filter(~pl.col("fate").is_in(["off_schedule", "unreadable"])).join(known.schedules, on="n")
    answer = rows.select(
        *SCHEDULE,
        *(pl.col(name).cast(SCHEMA["created_at"]).alias(shown) for shown, name in at.items()),
        pl.col("fate", "reason").cast(pl.String),
        *("lateness_ms", "waited_ms", "is_seen", "is_overlapping"),
    )
    order = ["due_at", "org_id", "schedule_key", "requested_at", "connector_id", "fire_at"]
    return returned(answer.sort(order, nulls_last=True), jobs)
