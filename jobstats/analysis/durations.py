"""What the analyses of lengths of time share: quantiles of those known, and of those still going on.

Quantiles of the known ones interpolate linearly between order statistics (Hyndman, R. J. & Fan, Y. (1996), Sample
quantiles in statistical packages, type 7). To leave out what still goes on flatters a queue that is stuck, so these can
be counted as right-censored: known to last at least until they were last seen. Quantiles are then those of the
product-limit estimate (Kaplan, E. L. & Meier, P. (1958), Nonparametric estimation from incomplete observations), each
with the interval that Brookmeyer, R. & Crowley, J. (1982), A confidence interval for the median survival time, read off
its log-log bounds.
"""

from collections.abc import Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import narwhals as nw
import polars as pl

from jobstats.analysis.asking import (
    TOLD,
    By,
    answered,
    ask,
    at_ms,
    check_confidence,
    collected,
    flags,
    outcomes_are_seen,
    returned,
)
from jobstats.analysis.order import summed_up
from jobstats.errors import ArgumentError
from jobstats.moments import Moment

QUANTILES = (0.5, 0.9, 0.95, 0.99)
MEASURES = ("mean_ms", "max_ms")
"""The measures behind the quantiles."""
_ROUNDING = 1e-9


class Lengths(NamedTuple):
    """What is measured, and of which runs: each of ``where`` is known, or open, or left out for one reason."""

    where: Any
    at: tuple[str, ...]
    """The time of a run: the first of these columns that is known."""
    column: str
    known: Any
    left_out: dict[str, Any]
    open: tuple[str, Any]
    """Those still going on when last seen: the column that counts them, and the condition."""
    begin: str
    """When open ones began."""
    begins: Any
    """Whether that is known exactly; otherwise nothing is known of how long they have gone on."""
    to_end: bool
    """Whether they reach to the end of a run, which the data may not show of most."""

    @property
    def counts(self) -> tuple[str, ...]:
        """The columns that count, in order."""
        return "n", "n_excluded", *self.left_out, self.open[0]

    @property
    def last(self) -> tuple[str, ...]:
        """The columns of the answer behind its quantiles."""
        return *MEASURES, *self.counts, *(("is_estimable",) if self.to_end else ())


def summarised(
    jobs: Any,
    lengths: Lengths,
    *,
    by: By,
    every: str | None,
    since: Moment,
    until: Moment,
    q: float | Sequence[float],
    censored: bool,
    confidence: float,
) -> Any:
    """The quantiles, mean and maximum of lengths by group and window, and how many were left out and why."""
    check_confidence(confidence)
    quantiles = quantile_columns(q)
    ends = ("", "_low", "_high") if censored else ("",)
    measures = (*(f"{name}{end}" for name in quantiles for end in ends), *MEASURES)
    asked = ask(
        jobs,
        where=lengths.where,
        at=lengths.at,
        taken=(*measures, *lengths.last),
        by=by,
        every=every,
        since=since,
        until=until,
    )
    open_name, is_open = lengths.open
    conditions = {"n": lengths.known, **lengths.left_out, open_name: is_open}
    if censored:
        runs = asked.runs.with_columns(*flags(conditions))
        measured = _of_all(runs, asked.keys, lengths, quantiles, confidence)
    else:
        measured = summed_up(asked.runs, asked.keys, lengths.column, conditions, quantiles)
    table = answered(asked, measured.with_columns(n_excluded=pl.sum_horizontal(list(lengths.left_out))))
    table = table.with_columns(pl.col("max_ms", *lengths.counts).cast(pl.Int64))
    if lengths.to_end:
        seen = outcomes_are_seen(jobs)
        table = table.with_columns(pl.when(seen).then(pl.col(measures)), is_estimable=pl.lit(seen))
    return returned(table.select(*asked.shown, *measures, *lengths.last[len(MEASURES) :]), jobs)


def _of_all(
    runs: Any, keys: list[str], lengths: Lengths, quantiles: dict[str, float], confidence: float
) -> pl.DataFrame:
    """Product-limit quantiles of each group, from how many ended and how many were last seen at each length."""
    open_name, is_open = lengths.open
    counts = ["n", *lengths.left_out, open_name]
    so_far = at_ms(runs, "observed_at") - at_ms(runs, lengths.begin)
    # Of one that began, or was seen, nobody knows when, nothing is known; nor by a clock that is behind.
    open_ms = nw.when(lengths.begins & TOLD & (so_far > 0)).then(so_far).otherwise(0)
    known_ms = nw.when(lengths.known).then(nw.col(lengths.column))
    by_length = runs.with_columns(_ms=nw.when(is_open).then(open_ms).otherwise(known_ms))
    times = collected(by_length.group_by([*keys, "_ms"]).agg(nw.col(*counts).sum()))
    times = times.with_columns(pl.col("_ms", *counts).cast(pl.Int64))
    curve = product_limit(times.filter(pl.col("n") + pl.col(open_name) > 0), keys, open_name, confidence)
    passed = {"": "_survival", "_low": "_survival_low", "_high": "_survival_high"}
    first, last = pl.col("_ms").first(), pl.col("_survival").last()
    area = first + (pl.col("_survival") * (pl.col("_ms").shift(-1) - pl.col("_ms"))).sum()
    measured = curve.group_by(keys).agg(
        *(
            pl.col("_ms").filter(pl.col(curve_of) <= 1 - q + _ROUNDING).min().cast(pl.Float64).alias(name + end)
            for name, q in quantiles.items()
            for end, curve_of in passed.items()
        ),
        mean_ms=pl.when(last <= _ROUNDING).then(area.cast(pl.Float64)),
        max_ms=pl.col("_ms").max(),
    )
    return times.group_by(keys).agg(pl.col(counts).sum()).join(measured, on=keys, how="left", nulls_equal=True)


def product_limit(times: pl.DataFrame, keys: list[str], open_name: str, confidence: float) -> pl.DataFrame:
    """The share that lasts longer than each length, with the bounds of its log-log interval (Greenwood's variance).

    Args:
        times: A row a group and length ``_ms``: how many ended then (``n``), and how many were last seen then.
        keys: The columns of the group.
        open_name: The column of those last seen.
        confidence: Level of the interval at each length.

    Returns:
        The same rows, sorted, with ``_survival``, ``_survival_low`` and ``_survival_high``.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    ended, survival = pl.col("n"), pl.col("_survival")
    spread = z * pl.col("_variance").sqrt() / survival.log()
    is_inner = (survival > _ROUNDING) & (survival < 1)
    return (
        times.sort(*keys, "_ms", nulls_last=True)
        .with_columns(_at_risk=(ended + pl.col(open_name)).cum_sum(reverse=True).over(keys))
        .with_columns(
            _survival=(1 - ended / pl.col("_at_risk")).cum_prod().over(keys),
            _variance=(ended / (pl.col("_at_risk") * (pl.col("_at_risk") - ended))).cum_sum().over(keys),
        )
        .with_columns(
            _survival_low=pl.when(is_inner).then(survival ** (-spread).exp()).otherwise(survival),
            _survival_high=pl.when(is_inner).then(survival ** spread.exp()).when(survival >= 1).then(1.0),
        )
        # Where none is left nothing is known of the upper bound, so that of the length before stands.
        .with_columns(pl.col("_survival_high").forward_fill().fill_null(1.0).over(keys))
    )


def quantile_columns(q: float | Sequence[float]) -> dict[str, float]:
    """Each quantile by the name of its column.

    Raises:
        ArgumentError: One is no number between 0 and 1.

    >>> quantile_columns([0.95, 0.999])
    {'p95_ms': 0.95, 'p99_9_ms': 0.999}
    """
    values = [q] if isinstance(q, int | float) else list(q)
    for value in values:
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
            raise ArgumentError(f"q must hold numbers between 0 and 1, found {value!r}")
    return {f"p{value * 100:.10g}_ms".replace(".", "_"): value for value in values}
