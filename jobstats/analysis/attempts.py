"""How many attempts do runs take, and how often does each of them succeed?"""

from typing import TypeVar

import narwhals as nw
import polars as pl

from jobstats.analysis.asking import (
    BUCKET,
    STARTED,
    Asked,
    By,
    answered,
    ask,
    coded,
    outcomes_are_seen,
    rate,
    returned,
    tallied,
)
from jobstats.errors import ArgumentError
from jobstats.moments import Moment

Frame = TypeVar("Frame")
ATTEMPTS = "attempts"
RATES = (("share", "n", "n_ended"), ("success_rate", "n_completed", "n_reached"))
MEASURES = tuple(f"{name}{end}" for name, *_ in RATES for end in ("", "_low", "_high"))
COUNTS = ("n", "n_completed", "n_failed", "n_open", "n_reached", "n_ended")
_ENDED = nw.col("is_ended")
_MOST = 1_000
"""Each attempt is a row. Nobody reads more, and one odd number must not make millions."""


def attempts(
    jobs: Frame,
    *,
    by: By = None,
    every: str | None = None,
    since: Moment = None,
    until: Moment = None,
    confidence: float = 0.95,
) -> Frame:
    """The distribution of attempts over ended runs, and the share of successes at each attempt, a row an attempt.

    ``share`` is that of the ended runs that took exactly so many attempts. ``success_rate`` is the chance to complete
    on this attempt for a run that gets to it: of the runs known to have ended the attempt, those that completed by it.
    That is the hazard of a life table in discrete time (Cox, D. R. (1972), Regression models and life-tables). A run
    whose end is not known counts at the attempts it is known to have ended, none of which succeeded, and not beyond.

    Attempts are those that BullMQ counts. A stall starts a run again without counting, and one that BullMQ failed for
    its stalls shows a single attempt: attempts are a lower bound of starts.

    Rates need the completed runs, as in :func:`~jobstats.analysis.retry_rates.retry_rates`, which says when they are
    not estimable; they are null then, for the data as a whole, and the counts stand.

    Args:
        jobs: A jobs table: Polars, DuckDB or Spark.
        by: Column or columns to group by; ``hour`` and ``weekday`` are those of a run's time, in UTC.
        every: Length of time windows, such as ``"1h"``, ``"1d"``, ``"1w"``; weeks start on Monday, days at 0:00 UTC.
        since: Only runs whose first start is at or after this; a datetime, ISO text or an age such as ``"7d"``.
        until: Only runs whose first start is before this.
        confidence: Level of the intervals (Wilson's).

    Returns:
        ``by`` columns, ``bucket`` (UTC start, with ``every``), ``attempts`` (1 to the most in the group, each a row),
        ``share`` and ``success_rate``, each followed by ``_low`` and ``_high``, ``n`` (runs that ended after so many
        attempts), ``n_completed``, ``n_failed`` (those of ``n``), ``n_open`` (so many attempts ended in errors, and
        the end of the run was not seen), ``n_reached`` (``n`` and ``n_open`` of this and all later attempts),
        ``n_ended`` (``n`` of all attempts) and ``is_estimable``. A rate is null where its denominator is 0 or it is not
        estimable. Sorted by group, bucket and attempts.

    Raises:
        ArgumentError: A column, time, length or level that does not exist, or more than 1,000 attempts.
        TableError: ``jobs`` is not a jobs table.

    >>> import jobstats as js
    >>> jobs, rejects = js.load("data/dump")
    >>> attempts(jobs).select("attempts", "n", "n_completed", "n_failed", "n_open", "n_reached").rows()
    [(1, 1650, 1633, 17, 16, 1926), (2, 123, 123, 0, 0, 260), (3, 137, 32, 105, 0, 137)]
    """
    asked = ask(
        jobs,
        where=_ENDED | STARTED,
        at=("started_at", "finished_at", "eligible_at", "created_at"),
        taken=(ATTEMPTS, *MEASURES, *COUNTS, "is_estimable"),
        by=by,
        every=every,
        since=since,
        until=until,
    )
    conditions = {
        "n": _ENDED,
        "n_completed": nw.col("state") == "completed",
        "n_failed": nw.col("state") == "failed",
        "n_open": ~_ENDED,
    }
    measured = tallied(coded(asked.runs, conditions), [*asked.keys, ATTEMPTS], list(conditions))
    table = _laddered(asked, measured)
    taken = (pl.col("n") + pl.col("n_open")).cum_sum(reverse=True)
    ended = pl.col("n").sum()
    if asked.shown:
        taken, ended = taken.over(asked.shown, order_by=ATTEMPTS), ended.over(asked.shown)
    table = table.with_columns(n_reached=taken, n_ended=ended)
    estimable = outcomes_are_seen(jobs)
    rates = [column for name, part, whole in RATES for column in rate(part, whole, name, confidence)]
    table = table.with_columns(*rates, is_estimable=pl.lit(estimable))
    if not estimable:
        table = table.with_columns(pl.lit(None, dtype=pl.Float64).alias(name) for name in MEASURES)
    return returned(table.select(*asked.shown, ATTEMPTS, *MEASURES, *COUNTS, "is_estimable"), jobs)


def _laddered(asked: Asked, measured: pl.DataFrame) -> pl.DataFrame:
    """Every attempt from 1 to the most of each group, in every window. Sorted by group, window and attempt."""
    most = pl.col(ATTEMPTS).max().clip(1)
    tops = measured.group_by(asked.by).agg(most) if asked.by else measured.select(most.fill_null(1))
    if too_many := tops.filter(pl.col(ATTEMPTS) > _MOST)[ATTEMPTS].to_list():
        raise ArgumentError(f"at most {_MOST:,} attempts are told apart, found a run with {max(too_many):,}")
    rungs = tops.with_columns(pl.int_ranges(1, pl.col(ATTEMPTS) + 1).alias(ATTEMPTS)).explode(ATTEMPTS)
    groups = [*asked.by, ATTEMPTS]
    ladder = rungs.join(measured, on=groups, how="left", nulls_equal=True)
    if asked.every_ms:
        # What no run took lies in no window: it is put into one, and so into the grid of all.
        some = measured[BUCKET].min()
        if some is None and asked.since and asked.until:
            some = 0
        ladder = ladder.with_columns(pl.col(BUCKET).fill_null(pl.lit(some, pl.Int64))).drop_nulls(BUCKET)
    ladder = ladder.with_columns(pl.col(COUNTS[:4]).fill_null(0))
    keys = [name for name in asked.keys if name not in asked.by]
    table = answered(asked._replace(by=groups, keys=[*groups, *keys]), ladder)
    return table.sort(*asked.shown, ATTEMPTS, nulls_last=True)
