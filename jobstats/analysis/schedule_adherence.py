"""Did schedules fire when they should have?"""

from collections.abc import Sequence
from typing import TypeVar

import polars as pl

from jobstats.analysis.asking import BUCKET, Asked, By, answered, origin_ms, rate, returned
from jobstats.analysis.chains import fates
from jobstats.analysis.durations import quantile_columns
from jobstats.analysis.fires import GRACE
from jobstats.moments import Moment

Frame = TypeVar("Frame")
QUANTILES = (0.5, 0.95)
RATES = (("on_time_rate", "n_on_time"), ("missed_rate", "n_missed"))
_FATE = pl.col("fate")
_IS_FIRE = ~_FATE.is_in(["off_schedule", "unreadable"])
COUNTS = {
    "n": _FATE.is_in(["on_time", "late", "missed"]),
    "n_on_time": _FATE == "on_time",
    "n_late": _FATE == "late",
    "n_missed": _FATE == "missed",
    "n_started": _FATE == "started",
    "n_pending": _FATE == "pending",
    "n_unknown": _FATE == "unknown",
    "n_expected": _IS_FIRE,
    "n_late_waiting": (_FATE == "late") & pl.col("waited_ms").is_not_null(),
    "n_missed_waiting": (pl.col("reason") == "run_before_waited").fill_null(False),
    "n_unseen_starts": _FATE.is_in(["on_time", "late", "started"]) & ~pl.col("is_seen"),
    "n_overlapping": _IS_FIRE & pl.col("is_overlapping"),
    "n_off_schedule": _FATE == "off_schedule",
    "n_unreadable": _FATE == "unreadable",
}
"""Which fires, and which runs on none, each count is of."""


def schedule_adherence(
    jobs: Frame,
    *,
    by: By = None,
    every: str | None = None,
    since: Moment = None,
    until: Moment = None,
    grace: str = GRACE,
    q: float | Sequence[float] = QUANTILES,
    confidence: float = 0.95,
) -> Frame:
    """Did schedules fire when they should have: which fires were on time, late, or missed, and which are not known?

    A fire is *expected* at each time of a schedule's cron, in its time zone and with the server's ways around changes
    of the clocks (:mod:`jobstats.firing`), at each multiple of an interval, and once for a one-time schedule. It is
    expected from the first run of its schedule that was seen, or from the first observation if the schedule had been
    requested by then, until the newest observation or until its connector is scheduled anew or paused. Other times lie
    outside the observed window and are no fires here; nor has a disabled schedule any. Each fire has one fate:

    * *On time*: started within ``grace`` after it was due. *Late*: started after that, or still not started when last
      seen after that.
    * *Missed*: no run was made for it. The server makes one run of a schedule at a time, so fires that come while a
      run waits to be started are skipped. This is concluded from the runs before and after
      (:mod:`jobstats.analysis.chains`), never from a run not being there; so is an *unseen start*.
    * *Started*: it did, but it is not known whether on time. *Pending*: not started when last seen, within ``grace``.
      *Unknown*: all others. None of these is in a rate.

    ``grace`` is the check-in margin of Sentry Crons, a minute by default as there. Lateness is the queue latency of a
    first attempt, or for an unseen start the time until the next run was made; only exact ones are in the quantiles.
    Runs *overlap* when one starts before the run before it has finished (Kubernetes' ``concurrencyPolicy``).

    Args:
        jobs: A jobs table: Polars, DuckDB or Spark.
        by: Column or columns to group by, which must be the same in all runs of a schedule.
        every: Length of time windows, such as ``"1h"``, ``"1d"``, ``"1w"``; weeks start on Monday, days at 0:00 UTC.
        since: Only fires due at or after this; a datetime, ISO text or an age such as ``"7d"``.
        until: Only fires due before this.
        grace: How long after it is due a fire may start and be on time, such as ``"1m"``.
        q: Quantile or quantiles of the lateness, each between 0 and 1.
        confidence: Level of the intervals.

    Returns:
        ``by`` columns, ``bucket`` (UTC start of the window in which fires were due, with ``every``), ``on_time_rate``
        and ``missed_rate`` (of ``n``) with ``_low`` and ``_high`` (Wilson; null where ``n`` is 0), ``p50_ms`` … and
        ``max_ms`` (lateness of all fires that started; null where none is exact), then counts. ``n`` = ``n_on_time`` +
        ``n_late`` + ``n_missed``; ``n`` + ``n_started`` + ``n_pending`` + ``n_unknown`` = ``n_expected``. Among them
        ``n_late_waiting`` (late, and not started when last seen), ``n_missed_waiting`` (missed because the run before
        waited), ``n_unseen_starts`` and ``n_overlapping``. Beside them ``n_off_schedule`` (runs due when their schedule
        does not fire) and ``n_unreadable`` (runs of schedules whose cron or zone cannot be read). Sorted by group and
        bucket.

    Raises:
        ArgumentError: A column, time, length, quantile or level that does not exist, a column that differs between
            the runs of a schedule, or more fires than fit in memory.
        TableError: ``jobs`` is not a jobs table.

    >>> import jobstats as js
    >>> jobs, rejects = js.load("data/dump")
    >>> adherence = schedule_adherence(jobs, by="schedule_type", grace="5s")
    >>> adherence.select("schedule_type", "n_on_time", "n_late", "n_missed", "n_pending", "n_off_schedule").row(0)
    ('custom', 239, 21, 0, 0, 429)
    """
    quantiles = quantile_columns(q)
    measures = (*(f"{name}{end}" for name, _ in RATES for end in ("", "_low", "_high")), *quantiles, "max_ms")
    known = fates(
        jobs,
        by=by,
        every=every,
        since=since,
        until=until,
        grace=grace,
        taken=(*measures, *COUNTS),
    )
    measured = _measured(known.rows, known.schedules, known.asked, quantiles)
    table = answered(known.asked, measured).with_columns(pl.col(list(COUNTS)).fill_null(0).cast(pl.Int64))
    rates = [column for name, part in RATES for column in rate(part, "n", name, confidence)]
    return returned(table.with_columns(*rates).select(*known.asked.shown, *measures, *COUNTS), jobs)


def _measured(rows: pl.DataFrame, schedules: pl.DataFrame, asked: Asked, quantiles: dict[str, float]) -> pl.DataFrame:
    """A row a group and window with fires in it."""
    groups = schedules.select(asked.by).unique(maintain_order=True).with_row_index("_group") if asked.by else None
    numbers = schedules.select("n", _group=pl.lit(0, pl.UInt32))
    if groups is not None:
        numbers = schedules.join(groups, on=asked.by, nulls_equal=True).select("n", "_group")
    keys = ["_group", *([BUCKET] if asked.every_ms else [])]
    if asked.every_ms:
        bucket = (pl.col("due") - origin_ms(asked.every_ms)) // asked.every_ms
        rows = rows.with_columns(bucket.alias(BUCKET))
    lateness = pl.col("lateness_ms")
    measured = (
        rows.lazy()
        .join(numbers.lazy(), on="n")
        .group_by(keys)
        .agg(
            *(lateness.quantile(at, interpolation="linear").alias(name) for name, at in quantiles.items()),
            lateness.max().alias("max_ms"),
            *(condition.sum().cast(pl.Int64).alias(name) for name, condition in COUNTS.items()),
        )
        .collect()
    )
    if groups is None:
        return measured.rename({"_group": "_all"}) if not asked.shown else measured.drop("_group")
    return groups.join(measured, on="_group").drop("_group")
