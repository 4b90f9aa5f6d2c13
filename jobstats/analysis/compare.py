"""What changed: is it slower or does it fail more than before, or than elsewhere?"""

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import narwhals as nw
import polars as pl

from jobstats.analysis.asking import (
    STARTED,
    WAITING,
    Asked,
    By,
    ask,
    at_ms,
    check_confidence,
    collected,
    flags,
    outcomes_are_seen,
    returned,
)
from jobstats.analysis.contrast import CLUSTER, SIDES, SQUARES, contrasts, stretch_ms
from jobstats.analysis.drift import adjusted
from jobstats.analysis.durations import quantile_columns
from jobstats.analysis.quantiles import Change, Quantiles, rounded
from jobstats.errors import ArgumentError
from jobstats.moments import Moment, epoch_ms, length_ms
from jobstats.reasons import classify

Frame = TypeVar("Frame")
MEASURES = (
    *("measure", "cause", "verdict", "before", "after", "change", "change_low", "change_high", "ratio"),
    *("effect", "p_value", "q_value", "design_effect", "n_before", "n_after"),
)
SAME_RATIO, SAME_CHANGE = 1.5, 0.01
"""A change that is surely smaller than the one, or of a rate than the other, is none worth a word."""
_FEWEST = 3
_RATES = ("failure_rate", "retry_rate")
_TIMES = {"queue_latency": "queue_latency_ms", "processing": "processing_ms"}
_COUNTED = ("n", "x", *SIDES, *SQUARES, *_RATES)
"""Columns on the way to the answer."""
_CELL = [*CLUSTER, "_side", "_time"]
_SCHEMA = dict.fromkeys((*Change._fields, "ratio", "p_value", "design_effect"), pl.Float64) | {
    "n_before": pl.Int64,
    "n_after": pl.Int64,
}


class _Runs(NamedTuple):
    """The runs of both sides, and what they are grouped by."""

    frame: Any
    keys: list[str]
    by: list[str]

    def where(self, condition: Any) -> "_Runs":
        return self._replace(frame=self.frame.filter(condition))

    def having(self, *columns: Any, **named: Any) -> "_Runs":
        return self._replace(frame=self.frame.with_columns(*columns, **named))

    def cells(self, *counts: str, per: Sequence[str] = ()) -> pl.DataFrame:
        """Sums for each connector (as one column: its parts may be among the keys) and stretch of time."""
        place = [*dict.fromkeys([*self.keys, *_CELL, *per])]
        found = collected(self.frame.group_by(place).agg(nw.col(*counts).sum()))
        return found.select(
            *dict.fromkeys([*self.keys, *per]), "_side", "_time", pl.struct(CLUSTER).alias("_connector"), *counts
        )

    def per_side(self, *measures: Any, per: Sequence[str] = ()) -> pl.DataFrame:
        """Measures of both sides of each group."""
        return collected(self.frame.group_by([*self.keys, "_side", *per]).agg(*measures))


def compare(
    jobs: Frame,
    *,
    baseline: str | Frame,
    by: By = None,
    since: Moment = None,
    until: Moment = None,
    q: float | Sequence[float] = (0.5, 0.95),
    confidence: float = 0.95,
) -> Frame:
    """Waits, run times, failures, retries and causes of failure of two windows or two groups: what is surely worse?

    ``baseline`` is what ``jobs`` are compared with: a length, and it is the window before ``since``; or another jobs
    table, such as a group, ``compare(jobs.filter(…), baseline=jobs.filter(…))``, or an earlier export.

    Rates are shares of ended runs, as in :func:`jobstats.retry_rates`, by first start; ``cause_rate`` is the share that
    failed for a cause of :func:`jobstats.failure_reasons`. Without completed runs on both sides they and the run times
    are not estimable, and causes are left to that function. Waits are those of :func:`jobstats.queue_latency`, by the
    time of becoming eligible.

    Runs of one connector or one hour fail together, so intervals and p-values rest on how much connectors and stretches
    of time differ (a day, or a seventh of the shorter window): see :mod:`jobstats.analysis.contrast`. A window in which
    only one stretch holds runs cannot be judged. Intervals of rates are Newcombe's (method 10). Those of quantiles take
    the order statistics at the ends of Wilson's interval of ``q`` (Woodruff, R. S. (1952), Confidence intervals for
    medians and other position measures), to three digits, and add squares in the same way; their p-value is of the
    shares of runs above the quantile of both sides together. Of all p-values, Benjamini and Hochberg's q-values.

    A change of a rate may come from other runs, not from worse ones: compare with ``by`` before blaming.

    Args:
        jobs: A jobs table: Polars, DuckDB or Spark.
        baseline: Length of the window before ``since``, such as ``"28d"``, or a jobs table of the same kind.
        by: Column or columns to group by; ``hour`` and ``weekday`` are those of a run's time, in UTC.
        since: Only runs at or after this; a datetime, ISO text or an age such as ``"7d"``. With a table as ``baseline``
            the same holds for that, ages counted back from the newest observation of ``jobs``.
        until: Only runs before this.
        q: Quantile or quantiles of waits and run times, each between 0 and 1.
        confidence: Level of the intervals; a q-value of at most 1 less this is a verdict.

    Returns:
        ``by`` columns, ``measure`` (``queue_latency_p50_ms`` …, ``processing_p50_ms`` …, ``failure_rate``,
        ``retry_rate``, ``cause_rate``), ``cause`` (of a ``cause_rate``), ``verdict``, ``before``, ``after``, ``change``
        (after - before), ``change_low``, ``change_high``, ``ratio`` (after / before), ``effect`` (of rates Cohen's h;
        of times Cliff's delta: how much more often one after is longer than one before than shorter), ``p_value``,
        ``q_value``, ``design_effect`` (how many runs tell as much as one independent run),
        ``n_before``, ``n_after`` (runs measured). What was not measured or cannot be judged is null. Verdicts:
        ``worse`` (higher) and ``better``; ``same`` (surely less than by half, either way); ``unclear``; ``few`` (too
        few runs or stretches of time to tell); ``not estimable``. Sorted by group, then q-value, then effect.

    Raises:
        ArgumentError: A column, time, length or level that does not exist, or a length as baseline without ``since``.
        TableError: ``jobs`` or ``baseline`` is not a jobs table.

    >>> import jobstats as js
    >>> jobs, rejects = js.load("data/dump")
    >>> answer = compare(jobs, since="3m", baseline="3m")
    >>> answer.filter(measure="queue_latency_p50_ms").select("before", "after", "verdict").row(0)
    (1780.0, 2800.0, 'unclear')
    """
    quantiles = quantile_columns(q)
    if not quantiles:
        raise ArgumentError("q must hold at least one number between 0 and 1")
    check_confidence(confidence)
    asking: dict[str, Any] = {"baseline": baseline, "by": by, "since": since, "until": until}
    waits = _runs(jobs, where=STARTED | WAITING, at=("eligible_at", "created_at"), **asking)
    started = ("started_at", "finished_at", "eligible_at", "created_at")  # as in retry_rates
    ended = _runs(jobs, where=STARTED | nw.col("is_ended"), at=started, **asking)
    times = [_times(runs, name, quantiles) for name, runs in (("queue_latency", waits), ("processing", ended))]
    lengths = [part for _, part in times]
    keys = [*ended.keys, "measure", "cause"]
    found = contrasts(pl.concat([_rates(ended), *(cells for cells, _ in times)]), keys, confidence)
    rows = [_measured(row, lengths, confidence) for row in found.iter_rows(named=True)]
    measured = found.select(keys).hstack(pl.DataFrame(rows, schema=_SCHEMA))
    is_rated = all(outcomes_are_seen(side) for side in (jobs, baseline) if not isinstance(side, str))
    if not is_rated:
        is_wait = pl.col("measure").str.starts_with("queue_latency")
        measured = measured.filter(pl.col("cause").is_null()).with_columns(
            pl.when(is_wait).then(name).alias(name) for name in _SCHEMA if name not in ("n_before", "n_after")
        )
    grid = _grid(measured, [waits, ended], [*(name for part in lengths for name in part.quantiles), *_RATES])
    return returned(_judged(grid, ended.by, is_rated, confidence), jobs)


def _runs(jobs: Any, *, where: Any, at: Sequence[str], baseline: Any, by: By, since: Moment, until: Moment) -> _Runs:
    def asked(table: Any, since: Moment, until: Moment) -> Asked:
        return ask(table, where=where, at=at, taken=(*MEASURES, *_COUNTED), by=by, every=None, since=since, until=until)

    after = asked(jobs, since, until)
    if not isinstance(baseline, str):
        before = asked(baseline, after.since, after.until)
        if before.runs.implementation is not after.runs.implementation:
            raise ArgumentError("baseline must be a jobs table of the same kind as jobs, or a length such as '28d'")
    elif since is None:
        length_ms(baseline, "baseline")
        raise ArgumentError("baseline needs since: where the window begins that is compared with the time before it")
    else:
        length = timedelta(milliseconds=length_ms(baseline, "baseline"))
        # Without a moment there are no runs on either side.
        before = asked(jobs, after.since - length, after.since) if after.since else after
    told = ["state", "is_ended", "is_retried", "failed_reason", "queue_latency_quality", *_TIMES.values()]
    columns = [*dict.fromkeys([*after.keys, *CLUSTER, *told])]
    both = nw.concat(
        [
            side.runs.select(*columns, at_ms(side.runs).alias("_ms"), nw.lit(number).alias("_side"))
            for number, side in ((1, after), (0, before))
        ]
    )
    spans = collected(both.group_by("_side").agg(first=nw.col("_ms").min(), last=nw.col("_ms").max()))
    shorter: Any = (spans["last"] - spans["first"] + 1).min()
    origin = epoch_ms(after.since) if after.since else 0
    time = (nw.col("_ms") - origin) // stretch_ms(shorter or 1)
    return _Runs(both.with_columns(_time=time), after.keys, after.by)


def _rates(ended: _Runs) -> pl.DataFrame:
    """Cells of failed and of retried runs, and of those that failed for each cause."""
    is_failed = nw.col("state") == "failed"
    runs = ended.where(nw.col("is_ended")).having(
        *flags({"failure_rate": is_failed, "retry_rate": nw.col("is_retried")}), n=nw.lit(1)
    )
    cells = runs.cells("n", *_RATES)
    place = [*ended.keys, "_side", "_time", "_connector"]
    failed = runs.where(is_failed).cells("n", per=["failed_reason"])
    causes = (
        failed.with_columns(classify(failed["failed_reason"])["cause"])
        .group_by(*place, "cause")
        .agg(x=pl.col("n").sum())
    )
    every = cells.join(causes.select(*ended.keys, "cause").unique(), on=ended.keys, nulls_equal=True)
    every = every.join(causes, on=[*place, "cause"], how="left", nulls_equal=True)
    parts = [cells.select(*place, "n", x=name, measure=pl.lit(name), cause=pl.lit(None, pl.String)) for name in _RATES]
    parts += [every.select(*place, "n", x=pl.col("x").fill_null(0), measure=pl.lit("cause_rate"), cause="cause")]
    return pl.concat(parts)


def _times(runs: _Runs, name: str, quantiles: dict[str, float]) -> tuple[pl.DataFrame, Quantiles]:
    """Cells of the runs above each quantile of both sides together, and the lengths on each side."""
    is_known = ~nw.col(_TIMES[name]).is_null()
    if name == "queue_latency":
        is_known &= nw.col("queue_latency_quality") == "exact"
    length = nw.col("_length")
    known = runs.where(is_known).having(_length=nw.col(_TIMES[name]), n=nw.lit(1))
    measures = {f"{name}_{quantile}": at for quantile, at in quantiles.items()}
    levels = {measure: length.quantile(at, interpolation="linear") for measure, at in measures.items()}
    above = {measure: length > level.over(*runs.keys) for measure, level in levels.items()}
    cells = known.having(*flags(above)).cells("n", *measures)
    parts = [
        cells.select(
            *runs.keys, "_side", "_time", "_connector", "n", x=name, measure=pl.lit(name), cause=pl.lit(None, pl.String)
        )
        for name in measures
    ]
    found = known.per_side(*(level.alias(measure) for measure, level in levels.items()))
    histogram = known.having(_length=rounded(length)).per_side(nw.col("n").sum(), per=["_length"])
    return pl.concat(parts), Quantiles(runs.keys, measures, found, histogram)


def _measured(row: dict[str, Any], lengths: list[Quantiles], confidence: float) -> dict[str, Any]:
    """What is known of one measure of one group."""
    x1, n1, x0, n0 = (row[name] for name in SIDES)
    change = next((part.change(row, confidence) for part in lengths if row["measure"] in part.quantiles), None)
    p_value = row["p_value"]
    if change is None:
        before, after = x0 / n0 if n0 else None, x1 / n1 if n1 else None
        effect = None
        if before is not None and after is not None:
            effect = 2 * (math.asin(math.sqrt(after)) - math.asin(math.sqrt(before)))
        change = Change(before, after, row["change"], row["change_low"], row["change_high"], effect)
        if row["measure"] == "cause_rate" and x1 + x0 < _FEWEST:
            p_value = None
    elif change.change_low is None:
        p_value = None
    ratio = change.after / change.before if change.after is not None and change.before else None
    return change._asdict() | {
        "ratio": ratio,
        "p_value": p_value,
        "design_effect": row["design_effect"],
        "n_before": n0,
        "n_after": n1,
    }


def _grid(measured: pl.DataFrame, sides: list[_Runs], names: list[str]) -> pl.DataFrame:
    """A row for each measure of each group that has runs, and for each cause seen."""
    keys = sides[0].keys
    if sides[0].by:
        groups = pl.concat([collected(runs.frame.select(*keys).unique()) for runs in sides]).unique()
    else:
        groups = pl.DataFrame({keys[0]: [0]}, schema={keys[0]: measured.schema[keys[0]]})
    usual = groups.join(
        pl.DataFrame(
            {"measure": names, "cause": [None] * len(names)}, schema={"measure": pl.String, "cause": pl.String}
        ),
        how="cross",
    )
    grid = usual.join(measured, on=[*keys, "measure", "cause"], how="full", nulls_equal=True, coalesce=True)
    return grid.with_columns(pl.col("n_before", "n_after").fill_null(0))


def _judged(grid: pl.DataFrame, by: list[str], is_rated: bool, confidence: float) -> pl.DataFrame:
    """With q-values and verdicts, what matters most first in each group."""
    tested = grid.filter(pl.col("p_value").is_not_null())
    others = grid.filter(pl.col("p_value").is_null())
    q_values = pl.Series("q_value", adjusted(tested["p_value"].to_list()), dtype=pl.Float64)
    is_rate, is_wait = pl.col("measure").str.ends_with("_rate"), pl.col("measure").str.starts_with("queue_latency")
    highest = pl.max_horizontal(pl.col("change_high").abs(), pl.col("change_low").abs())
    is_near = (pl.col("change_high") <= (SAME_RATIO - 1) * pl.col("before")) & (
        pl.col("change_low") >= (1 / SAME_RATIO - 1) * pl.col("before")
    )
    verdict = (
        pl.when(~is_wait & ~pl.lit(is_rated))
        .then(pl.lit("not estimable"))
        .when(pl.col("q_value").is_null())
        .then(pl.lit("few"))
        .when((pl.col("q_value") <= 1 - confidence) & (pl.col("change_low") > 0))
        .then(pl.lit("worse"))
        .when((pl.col("q_value") <= 1 - confidence) & (pl.col("change_high") < 0))
        .then(pl.lit("better"))
        .when(is_near | (is_rate & (highest < SAME_CHANGE)))
        .then(pl.lit("same"))
        .otherwise(pl.lit("unclear"))
    )
    table = pl.concat([tested.with_columns(q_values), others], how="diagonal_relaxed").with_columns(verdict=verdict)
    size = pl.col("effect").abs()
    return table.sort(
        *by,
        "q_value",
        size,
        "measure",
        "cause",
        nulls_last=True,
        descending=[False] * (len(by) + 1) + [True, False, False],
    ).select(*by, *MEASURES)
