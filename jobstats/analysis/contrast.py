"""Two shares compared fairly, although runs do not stand and fall alone.

Failures come in bursts: what breaks a connector breaks many of its runs, and what breaks a queue breaks the runs of all
connectors for an hour. An interval that takes runs for independent is too narrow, and a test calls chance a change.
So the variance of the difference of two shares is measured between connectors and between stretches of time:

    V = V(connectors) + V(times) - V(connectors within times), at least each of the first two and the binomial one

(Cameron, A. C., Gelbach, J. B. & Miller, D. L. (2011), Robust inference with multiway clustering), each by leaving one
connector or stretch out after the other, which suits few and unequal ones (MacKinnon, J. G., Nielsen, M. Ø. & Webb,
M. D. (2023), Cluster-robust inference). A connector that is on both sides is compared with itself. V over the binomial
variance is the *design effect*: how many runs tell as much as one independent run. Intervals are Newcombe's, with the
runs divided by it (though not below the connectors and stretches that a side was seen in) and a quantile of Student's t
for that of the normal distribution; its degrees of freedom are one less than the clusters of the smaller side, of the
kind that varies most. Nothing is drawn at random.

Newcombe, R. G. (1998), Interval estimation for the difference between independent proportions: method 10, the hybrid
score interval, takes Wilson's interval of each share and adds the squares of their halves. The interval of the ratio
does the same (Donner, A. & Zou, G. Y. (2012), Closed-form confidence intervals for functions of the normal mean and
standard deviation), and so excludes 1 whenever the other excludes 0. The p-value is 1 less the level at which both
begin to.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import polars as pl

from jobstats.moments import UNITS

CLUSTER = ("org_id", "connector", "connector_id")
"""A connector: what breaks at once."""
SIDES = ("x1", "n1", "x0", "n0")
"""Events and runs of the side asked about (1), and of what it is compared with (0)."""
SQUARES = ("xx", "xn", "nn")
"""Products of events and runs of a connector in a stretch of time: what the variance within these is made of."""
_STRETCHES = 7
_LENGTHS = (
    [hours * UNITS["h"] for hours in (24, 12, 6, 3, 1)] + [n * UNITS["m"] for n in (30, 10, 5, 1)] + [10_000, 1_000]
)
_NO_INTERVAL = 1e6


class Contrast(NamedTuple):
    """Two shares and what is sure of their difference; null what is not known."""

    change: float | None = None
    change_low: float | None = None
    change_high: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    p_value: float | None = None
    design_effect: float | None = None
    worth1: float | None = None
    """How many independent runs would tell as much as those of side 1."""
    worth0: float | None = None
    critical: float | None = None
    """How many standard errors wide the intervals are, either way."""


def stretch_ms(span_ms: int) -> int:
    """The length of the stretches of time: a day, or what a shorter span has at least seven of.

    >>> stretch_ms(7 * UNITS["d"]), stretch_ms(UNITS["d"]) // UNITS["h"]
    (86400000, 3)
    """
    return next((length for length in _LENGTHS if -(-span_ms // length) >= _STRETCHES), _LENGTHS[-1])


def contrasts(cells: pl.DataFrame, keys: Sequence[str], confidence: float) -> pl.DataFrame:
    """Pairs of shares, compared.

    Args:
        cells: Events ``x`` and runs ``n`` of each connector (``_connector``) in each stretch of time (``_time``) on
            each side (``_side``, 1 or 0) of each pair (``keys``).
        keys: What tells one pair from another.
        confidence: Level of the intervals.

    Returns:
        A row a pair: ``keys``, :data:`SIDES`, and the fields of :class:`Contrast`.
    """
    sided = cells.with_columns(
        pl.when(_side=side).then(name).otherwise(0).cast(pl.Int64).alias(f"{name}{side}")
        for name in ("x", "n")
        for side in (1, 0)
    )
    pairs = sided.group_by(keys).agg(pl.col(SIDES).sum(), *(square for side in (1, 0) for square in _squares(side)))
    for way in ("connector", "time"):
        clusters = sided.group_by([*keys, f"_{way}"]).agg(pl.col(SIDES).sum())
        pairs = pairs.join(spread(clusters, keys, way), on=keys, nulls_equal=True)
    return _found(pairs, keys, confidence)


class Cells(NamedTuple):
    """Events ``x`` and runs ``n`` with each ``value``, added up two ways."""

    by_connector: pl.DataFrame
    """Of each connector (``_connector``), with the :data:`SQUARES` of its stretches of time, added up."""
    by_time: pl.DataFrame
    """In each stretch of time (``_time``)."""


def against_rest(cells: Cells, values: pl.DataFrame, confidence: float) -> pl.DataFrame:
    """The runs that have a value, compared with all others.

    Args:
        cells: Events and runs with each value.
        values: The ones to compare.
        confidence: Level of the intervals.

    Returns:
        A row a value: ``value``, :data:`SIDES`, and the fields of :class:`Contrast`.
    """
    sums = ("x", "n", *SQUARES)
    named = cells.by_connector.select("value", *(pl.col(name).alias(f"{name}1") for name in sums))
    whole = named.drop("value").sum().rename(lambda name: f"_{name}")
    parts = named.join(values, on="value", nulls_equal=True).group_by("value").agg(pl.all().sum())
    rest = [(pl.col(f"_{name}1") - pl.col(f"{name}1")).alias(f"{name}0") for name in sums]
    pairs = parts.join(whole, how="cross").with_columns(*rest)
    for way, table in (("connector", cells.by_connector), ("time", cells.by_time)):
        every = table.group_by(f"_{way}").agg(x0=pl.col("x").sum(), n0=pl.col("n").sum())
        own = table.select("value", f"_{way}", x1="x", n1="n")
        clusters = (
            values.join(every, how="cross")
            .join(own, on=["value", f"_{way}"], how="left", nulls_equal=True)
            .with_columns(pl.col("x1", "n1").fill_null(0))
            .with_columns(pl.col("x0") - pl.col("x1"), pl.col("n0") - pl.col("n1"))
        )
        pairs = pairs.join(spread(clusters, ["value"], way), on="value", nulls_equal=True)
    return _found(pairs, ["value"], confidence)


def _squares(side: int) -> list[pl.Expr]:
    pairs = [(f"{name[0]}{side}", f"{name[1]}{side}", f"{name}{side}") for name in SQUARES]
    return [(pl.col(one) * pl.col(other)).sum().alias(name) for one, other, name in pairs]


def _found(pairs: pl.DataFrame, keys: Sequence[str], confidence: float) -> pl.DataFrame:
    rows = pairs.with_columns(v_cell=cell_variance()).iter_rows(named=True)
    schema = dict.fromkeys(Contrast._fields, pl.Float64)
    found = pl.DataFrame([contrast(row, confidence) for row in rows], schema=schema, orient="row")
    return pairs.select(*keys, *SIDES).hstack(found)


def spread(clusters: pl.DataFrame, keys: Sequence[str], way: str) -> pl.DataFrame:
    """The variance of the difference of two shares between clusters.

    Args:
        clusters: A row a cluster: ``keys`` and :data:`SIDES`.
        keys: What tells one pair of shares from another.
        way: How the clusters were made, the end of the new columns.

    Returns:
        ``keys``, ``v_<way>`` (the variance), ``m1_<way>`` and ``m0_<way>`` (the clusters of each side).
    """
    pulls = []
    for side in (1, 0):
        x, n = pl.col(f"x{side}"), pl.col(f"n{side}")
        of_all = n.sum().over(keys)
        # A cluster that is its whole side cannot be left out: the other way has to tell.
        left = pl.when(of_all > n).then(of_all - n)
        pulls.append(((x - x.sum().over(keys) / of_all * n) / left).fill_nan(0).fill_null(0).alias(f"_pull{side}"))
    pull1, pull0 = pl.col("_pull1"), pl.col("_pull0")
    return (
        clusters.sort(SIDES)  # so that sums are rounded alike every time
        .with_columns(pulls)
        .group_by(keys, maintain_order=True)
        .agg(
            ((pull1 - pull0) ** 2).sum().alias(f"v_{way}"),
            (pl.col("n1") > 0).sum().alias(f"m1_{way}"),
            (pl.col("n0") > 0).sum().alias(f"m0_{way}"),
        )
    )


def cell_variance() -> pl.Expr:
    """The variance within connectors and times, from the sums of squares over the cells of each side."""
    sides = []
    for side in (1, 0):
        n, r = pl.col(f"n{side}"), pl.col(f"x{side}") / pl.col(f"n{side}")
        xx, xn, nn = (pl.col(f"{name}{side}") for name in ("xx", "xn", "nn"))
        sides.append((xx - 2 * r * xn + r * r * nn) / n**2)
    return sides[0] + sides[1]


def contrast(row: dict[str, Any], confidence: float) -> Contrast:
    """The difference and the ratio of two shares.

    Args:
        row: :data:`SIDES`, ``v_cell``, and what :func:`spread` found for ``connector`` and ``time``.
        confidence: Level of the intervals.
    """
    x1, n1, x0, n0 = (row[name] for name in SIDES)
    if not n1 or not n0:
        return Contrast()
    r1, r0 = x1 / n1, x0 / n0
    ratio = r1 / r0 if x0 else None
    if min(row["m1_time"], row["m0_time"]) < 2:
        return Contrast(r1 - r0, ratio=ratio)
    design_effect, m1, m0 = _worth(row)
    freedom = _freedom(row)
    critical = student_quantile((1 + confidence) / 2, freedom)
    low, high = newcombe(r1, m1, r0, m0, critical)
    p_value = student_tails(_touching(r1, m1, r0, m0), freedom)
    of_ratio = _of_ratio(r1, m1, r0, m0, critical)
    return Contrast(r1 - r0, low, high, ratio, *of_ratio, p_value, design_effect, m1, m0, critical)


def _worth(row: dict[str, Any]) -> tuple[float, float, float]:
    """The design effect, and how many independent runs would tell as much as those of each side."""
    shares = {side: (row[f"x{side}"] / row[f"n{side}"], row[f"n{side}"]) for side in "10"}
    binomial = sum(r * (1 - r) / n for r, n in shares.values())
    one, two = row["v_connector"], row["v_time"]
    # The effect of both sides together: that of a side with few bursts is too small as often as it is too large.
    effect = max(one + two - row["v_cell"], one, two, binomial) / binomial if binomial else 1.0
    worth = []
    for side, (_, n) in shares.items():
        # Bursts of the other side cannot take away that a connector was seen at so many times, or so many connectors.
        ways = [row[f"m{side}_{way}"] for way in ("time", "connector")]
        alone = ways[0] if ways[1] == 1 else min(ways)
        worth.append(max(n / effect, min(n, alone)))
    return effect, worth[0], worth[1]


def _freedom(row: dict[str, Any]) -> int:
    """One less than the clusters of the smaller side, of the kind that varies most."""
    connectors, times = (min(row[f"m1_{way}"], row[f"m0_{way}"]) for way in ("connector", "time"))
    # A side of one connector says nothing of how connectors vary.
    varies = row["v_connector"] > row["v_time"] and connectors > 1
    return (connectors if varies else times) - 1


def wilson(r: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's interval of a share of n runs, which need not be a whole number."""
    centre = (r + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(r * (1 - r) / n + z * z / (4 * n * n))
    return (0.0 if r == 0 else max(0.0, centre - half)), (1.0 if r == 1 else min(1.0, centre + half))


def newcombe(r1: float, n1: float, r0: float, n0: float, z: float) -> tuple[float, float]:
    """Newcombe's hybrid score interval of a difference of shares.

    >>> [round(bound, 4) for bound in newcombe(56 / 70, 70, 48 / 80, 80, 1.959964)]
    [0.0524, 0.3339]
    """
    (l1, u1), (l0, u0) = wilson(r1, n1, z), wilson(r0, n0, z)
    return r1 - r0 - math.hypot(r1 - l1, u0 - r0), r1 - r0 + math.hypot(u1 - r1, r0 - l0)


def _of_ratio(r1: float, n1: float, r0: float, n0: float, z: float) -> tuple[float, float | None]:
    """Where the interval of r1 - ratio * r0 has 0 for a bound; the upper one is null where r0 may be 0."""
    (l1, u1), (l0, u0) = wilson(r1, n1, z), wilson(r0, n0, z)
    bounds = []
    for end1, end0 in ((l1, u0), (u1, l0)):
        above, below = end1 * (2 * r1 - end1), end0 * (2 * r0 - end0)
        bounds.append((above, below, r1 * r0 + math.sqrt(max(0.0, (r1 * r0) ** 2 - above * below))))
    (above, _, low), (_, below, high) = bounds
    return (above / low if low else 0.0), (high / below if below > 0 else None)


def _touching(r1: float, n1: float, r0: float, n0: float) -> float:
    """How many standard errors wide the interval is when it begins to hold no change."""
    if r1 == r0:
        return 0.0
    low, high = 0.0, 1.0
    end = 0 if r1 > r0 else 1

    def holds(z: float) -> bool:
        bound = newcombe(r1, n1, r0, n0, z)[end]
        return bound <= 0 if end == 0 else bound >= 0

    while not holds(high) and high < _NO_INTERVAL:
        low, high = high, 2 * high
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def student_tails(t: float, freedom: float) -> float:
    """The chance that Student's t is further from 0 than this.

    >>> round(student_tails(12.7062, 1), 6), round(student_tails(1.96, 1e9), 4)
    (0.05, 0.05)
    """
    if t == 0:
        return 1.0
    return _beta(freedom / (freedom + t * t), freedom / 2, 0.5)


def student_quantile(q: float, freedom: float) -> float:
    """The quantile of Student's t, for q above a half.

    >>> round(student_quantile(0.975, 6), 4)
    2.4469
    """
    low, high = 0.0, 1.0
    while student_tails(high, freedom) > 2 * (1 - q):
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if student_tails(middle, freedom) > 2 * (1 - q) else (low, middle)
    return high


def _beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    value, c, d = 1.0, 1.0, 0.0
    for i in range(1000):
        m = i // 2
        if i == 0:
            term = 1.0
        elif i % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / (1 + term * d or 1e-300)
        c = 1 + term / c or 1e-300
        value *= c * d
        if i and abs(c * d - 1) < 1e-15:
            break
    return front * (value - 1) / a
