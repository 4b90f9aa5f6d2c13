"""Quantiles of lengths of time on two sides, compared."""

import math
from bisect import bisect_left
from typing import Any, NamedTuple

import narwhals as nw
import polars as pl

from jobstats.analysis.contrast import wilson

_DIGITS = 1_000
_POWERS = 9


class Change(NamedTuple):
    """Two numbers and what is sure of their difference; null what is not known."""

    before: float | None = None
    after: float | None = None
    change: float | None = None
    change_low: float | None = None
    change_high: float | None = None
    effect: float | None = None


class Quantiles:
    """Lengths of time on two sides, 1 and 0, of each group.

    Args:
        keys: The columns that make a group.
        quantiles: Each quantile by the name of its measure.
        levels: ``keys``, ``_side``, and the quantiles.
        histogram: ``keys``, ``_side``, ``_length`` (to three digits) and ``n``.
    """

    def __init__(
        self, keys: list[str], quantiles: dict[str, float], levels: pl.DataFrame, histogram: pl.DataFrame
    ) -> None:
        self.keys, self.quantiles = keys, quantiles
        side = [*keys, "_side"]
        self._levels = {tuple(row[name] for name in side): row for row in levels.iter_rows(named=True)}
        ordered = histogram.with_columns(pl.col("_side", "n").cast(pl.Int64)).sort("_length")
        self._lengths = {
            key: (part["_length"].to_list(), part["n"].cum_sum().to_list())
            for key, part in ordered.partition_by(side, as_dict=True).items()
        }
        self._dominance = _dominance(ordered, keys)

    def change(self, row: dict[str, Any], confidence: float) -> Change:
        """What became of a quantile, given the contrast of the shares above that of both sides together.

        Woodruff, R. S. (1952), Confidence intervals for medians and other position measures: the ends of the interval
        of a quantile are the order statistics at the ends of that of its share. Squares of the halves of both sides are
        added, as in Newcombe's interval.
        """
        group = tuple(row[name] for name in self.keys)
        measure = row["measure"]
        before, after = (self._levels.get((*group, side), {}).get(measure) for side in (0, 1))
        if before is None or after is None:
            return Change(before, after)
        change, effect = after - before, self._dominance.get(group)
        of_after, of_before = (self._interval(row, group, side, confidence) for side in (1, 0))
        if of_after is None or of_before is None:
            return Change(before, after, change, effect=effect)
        (low1, high1), (low0, high0) = of_after, of_before
        low = change - math.hypot(min(0, low1 - after), max(0, high0 - before))
        high = change + math.hypot(max(0, high1 - after), min(0, low0 - before))
        return Change(before, after, change, low, high, effect)

    def _interval(
        self, row: dict[str, Any], group: tuple[Any, ...], side: int, confidence: float
    ) -> tuple[float, float] | None:
        q = self.quantiles[row["measure"]]
        n = row[f"worth{side}"]
        if n is None or not 0 < q < 1:
            return None
        if n < math.log(1 - confidence) / math.log(max(q, 1 - q)):
            return None  # even the longest of all is no bound
        lengths, places = self._lengths[(*group, side)]
        low, high = (lengths[bisect_left(places, share * places[-1])] for share in wilson(q, n, row["critical"]))
        return low, high


def rounded(length: Any) -> Any:
    """A length to three digits, so that there are few different ones."""
    result = length
    for power in range(1, _POWERS):
        step = 10**power
        result = nw.when(length >= _DIGITS * step // 10).then((length + step // 2) // step * step).otherwise(result)
    return result


def _dominance(ordered: pl.DataFrame, keys: list[str]) -> dict[tuple[Any, ...], float]:
    """Cliff's delta of each group: how much more often one of side 1 is longer than one of side 0 than shorter."""
    n1, n0 = (pl.when(_side=side).then("n").otherwise(0).sum().alias(f"n{side}") for side in (1, 0))
    shorter, here, whole = pl.col("n0").cum_sum() - pl.col("n0"), pl.col("n0"), pl.col("n0").sum()
    table = (
        ordered.group_by([*keys, "_length"])
        .agg(n1, n0)
        .sort("_length")
        .group_by(keys, maintain_order=True)
        .agg((pl.col("n1") * (2 * shorter + here - whole)).sum() / (pl.col("n1").sum() * whole))
    )
    return {row[:-1]: row[-1] for row in table.iter_rows()}
