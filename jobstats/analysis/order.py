"""Quantiles of whole numbers in many groups at once, between order statistics (Hyndman & Fan type 7).

Engines look for each quantile of each group apart. Polars sorts a hundred million integers a second, so there group and
length become one number, one sort puts all of them in their places, and any quantile is a matter of looking it up.
"""

from math import prod
from typing import Any

import narwhals as nw
import polars as pl

from jobstats.analysis.asking import collected

_LAST = 2**63 - 1
_WHOLE = (pl.Boolean, pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32)


def summed_up(runs: Any, keys: list[str], column: str, quantiles: dict[str, float]) -> pl.DataFrame:
    """Of each group the quantiles by their names, ``mean_ms`` and ``max_ms`` of a column of integers without nulls."""
    native = runs.to_native()
    if isinstance(native, pl.LazyFrame) and (table := _by_place(native, keys, column, quantiles)) is not None:
        return table
    length = nw.col(column)
    return collected(
        runs.group_by(keys).agg(
            *(length.quantile(share, interpolation="linear").alias(name) for name, share in quantiles.items()),
            length.mean().alias("mean_ms"),
            length.max().alias("max_ms"),
        )
    )


def _by_place(runs: pl.LazyFrame, keys: list[str], column: str, quantiles: dict[str, float]) -> pl.DataFrame | None:
    """None where keys are no whole numbers, or they and the lengths are too large to be one number together."""
    length = pl.col(column).cast(pl.Int64)
    measures = {"_n": pl.len().cast(pl.Int64), "_least": length.min(), "mean_ms": length.mean(), "max_ms": length.max()}
    groups = runs.group_by(keys).agg(**measures).collect(engine="streaming")
    if groups.is_empty():
        return None
    physical = groups.select(pl.col(keys).to_physical())
    if not set(physical.dtypes) <= set(_WHOLE):
        return None
    spans = [(int(column.min() or 0), int(column.max() or 0)) for column in physical]  # type: ignore[arg-type]
    least, most = int(groups["_least"].min()), int(groups["max_ms"].max())  # type: ignore[arg-type]
    width = most - least + 1
    if prod(high - low + 2 for low, high in spans) * width > _LAST:
        return None
    group = pl.lit(0, pl.Int64)
    for key, (low, high) in zip(keys, spans, strict=True):
        group = group * (high - low + 2) + (pl.col(key).to_physical().cast(pl.Int64) - low + 1).fill_null(0)
    places = runs.select(group * width + (length - least)).collect(engine="streaming").to_series().sort()
    # In the order of the sort each group follows on the one before.
    groups = groups.sort(group).with_columns(_first=pl.col("_n").cum_sum() - pl.col("_n"))
    for name, share in quantiles.items():
        place = share * (groups["_n"] - 1)
        below = place.floor().cast(pl.Int64)
        ends = [places.gather(groups["_first"] + end) % width + least for end in (below, place.ceil().cast(pl.Int64))]
        groups = groups.with_columns((ends[0] + (place - below) * (ends[1] - ends[0])).alias(name))
    return collected(nw.from_native(groups.select(*keys, *quantiles, "mean_ms", "max_ms").lazy()))
