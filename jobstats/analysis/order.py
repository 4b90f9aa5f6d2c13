"""Quantiles of whole numbers in many groups at once, between order statistics (Hyndman & Fan type 7).

Engines look for each quantile of each group apart. Polars sorts a hundred million integers a second, so there group and
length become one number, one sort puts all of them in their places, and any quantile is a matter of looking it up.
"""

from math import prod
from typing import Any

import narwhals as nw
import polars as pl

from jobstats.analysis.asking import collected, held, plain

_LAST = 2**63 - 1
_WHOLE = (pl.Boolean, pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32)


def summed_up(
    runs: Any, keys: list[str], column: str, kinds: dict[str, Any], quantiles: dict[str, float]
) -> pl.DataFrame:
    """Of each group how many runs there are of each kind, and of the first kind what a column of integers comes to.

    Args:
        runs: A lazy Narwhals frame.
        keys: The columns of the group.
        column: What is known of every run of the first kind.
        kinds: A condition each, by the name of the column of its count; of several that hold the first one counts.
        quantiles: Each quantile by the name of its column; beside them are ``mean_ms`` and ``max_ms``.
    """
    kind = nw.lit(0)
    for place, condition in reversed([*enumerate(kinds.values(), 1)]):
        kind = nw.when(condition).then(place).otherwise(kind)
    runs = held(runs.with_columns(_ms=nw.col(column), _kind=kind), [*keys, "_kind", "_ms"])
    length = nw.col("_ms")
    measures = {"_least": length.min(), "mean_ms": length.mean(), "max_ms": length.max()}
    found = collected(
        runs.group_by(*keys, "_kind").agg(_n=nw.len(), _lengths=length.count(), **measures), is_plain=False
    )
    found = found.with_columns(pl.col("_n", "_lengths", "_kind", "_least", "max_ms").cast(pl.Int64))
    known = runs.filter((nw.col("_kind") == 1) & ~length.is_null())
    groups = found.filter(pl.col("_kind") == 1, pl.col("_lengths") > 0)
    native, levels = known.to_native(), None
    if isinstance(native, pl.LazyFrame) and len(groups) and native.collect_schema()["_ms"].is_integer():
        levels = _by_place(native, keys, groups, quantiles)
    if levels is None:
        quantile = (length.quantile(q, interpolation="linear").alias(name) for name, q in quantiles.items())
        levels = collected(known.group_by(keys).agg(*quantile), is_plain=False)
    of_kind = {name: pl.col("_n").filter(pl.col("_kind") == place).sum() for place, name in enumerate(kinds, 1)}
    counts = found.group_by(keys).agg(**of_kind)
    for part in (levels, groups.select(*keys, "mean_ms", "max_ms")):
        counts = counts.join(part, on=keys, how="left", nulls_equal=True)
    return plain(counts)


def _by_place(
    runs: pl.LazyFrame, keys: list[str], groups: pl.DataFrame, quantiles: dict[str, float]
) -> pl.DataFrame | None:
    """None where keys are no whole numbers, or they and the lengths are too large to be one number together."""
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
    places = (
        runs.select(group * width + (pl.col("_ms").cast(pl.Int64) - least))
        .collect(engine="streaming")
        .to_series()
        .sort()
    )
    # In the order of the sort each group follows on the one before.
    groups = groups.sort(group).with_columns(_first=pl.col("_lengths").cum_sum() - pl.col("_lengths"))
    for name, share in quantiles.items():
        place = float(share) * (groups["_lengths"] - 1)
        below = place.floor().cast(pl.Int64)
        ends = [places.gather(groups["_first"] + end) % width + least for end in (below, place.ceil().cast(pl.Int64))]
        groups = groups.with_columns((ends[0] + (place - below) * (ends[1] - ends[0])).alias(name))
    return groups.select(*keys, *quantiles)
