"""What changed between two windows: counts of things that come in bursts, compared fairly.

Failures of crawls come in bursts: an outage fails many jobs of one connector at once. Counting jobs alone calls nearly
every burst a change. So each thing is tested twice, per job and per connector and day that saw it, and the larger of
both p-values counts; of all of them, Benjamini and Hochberg's procedure keeps the expected share of false alarms below
:data:`LEVEL` (Benjamini, Y. & Hochberg, Y. (1995), Controlling the false discovery rate).

Given x₀ + x₁ events under exposures n₀ and n₁, x₁ is binomial with p = n₁ / (n₀ + n₁) if the rate has not changed
(Przyborowski, J. & Wilenski, H. (1940), Homogeneity of results in testing samples from Poisson series).
"""

import math

import polars as pl

LEVEL = 0.1
_RATIO = 1.5
_FEWEST = 3
_CELLS = 2
KINDS = ("new", "rising", "burst", "falling", "vanished", "steady", "unclear", "few")


def upper_tail(k: int, n: int, p: float) -> float:
    """The chance of k or more successes in n trials.

    >>> round(upper_tail(2, 3, 0.5), 9), upper_tail(0, 3, 0.5)
    (0.5, 1.0)
    """
    if k <= 0:
        return 1.0
    if k > n or p <= 0:
        return 0.0
    if p >= 1:
        return 1.0
    if k <= n * p:
        # The other end is the short one: its terms fall from the first on.
        return 1.0 - upper_tail(n - k + 1, n, 1 - p)
    choices = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    term = math.exp(choices + k * math.log(p) + (n - k) * math.log1p(-p))
    total, odds = 0.0, p / (1 - p)
    for i in range(k, n + 1):
        total += term
        term *= (n - i) / (i + 1) * odds
        if term < total * 1e-17:
            break
    return min(total, 1.0)


def adjusted(p_values: list[float]) -> list[float]:
    """Benjamini and Hochberg's q-values, in the order given.

    >>> adjusted([0.01, 0.5, 0.02])
    [0.03, 0.5, 0.03]
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place], reverse=True)
    smallest, q_values = 1.0, [1.0] * len(p_values)
    for rank, place in zip(range(len(order), 0, -1), order, strict=True):
        smallest = min(smallest, p_values[place] * len(order) / rank)
        q_values[place] = smallest
    return q_values


def compared(counts: pl.DataFrame) -> pl.DataFrame:
    """Counts of two windows with the verdict on each row.

    Args:
        counts: ``x0``, ``x1`` (events), ``c0``, ``c1`` (connector-days that saw them), ``runs0``, ``runs1``,
            ``days0``, ``days1`` (exposure: runs, and connector-days with runs), ``is_old`` (seen before both windows).

    Returns:
        The same rows with ``ratio`` (of the events per run; null without events before), ``q_value`` (the smaller of
        both directions; null where there was too little to test) and ``change`` (one of :data:`KINDS`).
    """
    rows = counts.to_dicts()
    tested = [
        place
        for place, row in enumerate(rows)
        if row["x0"] + row["x1"] >= _FEWEST and min(row["runs0"], row["runs1"], row["days0"], row["days1"]) > 0
    ]
    tails = [_tails(rows[place]) for place in tested]
    # One family for both directions, and one for jobs alone, which tells a burst from a rise.
    both = adjusted([p for up, down, _ in tails for p in (up, down)])
    jobs = adjusted([p for *_, p in tails])
    verdicts: dict[int, tuple[float | None, float | None, float | None]] = {
        place: (both[2 * i], both[2 * i + 1], jobs[i]) for i, place in enumerate(tested)
    }
    judged = [_judged(row, *verdicts.get(place, (None, None, None))) for place, row in enumerate(rows)]
    schema = {"ratio": pl.Float64, "q_value": pl.Float64, "change": pl.String}
    return counts.hstack(pl.DataFrame(judged, schema=schema, orient="row"))


def _tails(row: dict[str, int]) -> tuple[float, float, float]:
    """p-values of a rise and of a fall, and of a rise by jobs alone."""
    pairs = (("x0", "x1", "runs0", "runs1"), ("c0", "c1", "days0", "days1"))
    tests = [(row[b], row[a] + row[b], row[d] / (row[c] + row[d])) for a, b, c, d in pairs]
    rises = [upper_tail(k, n, p) for k, n, p in tests]
    falls = [upper_tail(n - k, n, 1 - p) for k, n, p in tests]
    return max(rises), max(falls), rises[0]


def _judged(
    row: dict[str, int], up: float | None, down: float | None, by_jobs: float | None
) -> tuple[float | None, float | None, str | None]:
    if not (row["runs0"] and row["runs1"]):
        return None, None, None
    ratio = row["x1"] / row["runs1"] / (row["x0"] / row["runs0"]) if row["x0"] else None
    q_value = None if up is None or down is None else min(up, down)
    return ratio, q_value, _kind(row, ratio, up, down, by_jobs)


def _kind(row: dict[str, int], ratio: float | None, up: float | None, down: float | None, by_jobs: float | None) -> str:
    is_unseen = not row["x0"] and not row["is_old"]
    if up is None or down is None or by_jobs is None:
        return "few"
    if up <= LEVEL and row["c1"] >= _CELLS and (ratio is None or ratio >= _RATIO):
        return "new" if is_unseen else "rising"
    if down <= LEVEL and row["c0"] >= _CELLS and ratio is not None and ratio <= 1 / _RATIO:
        return "falling" if row["x1"] else "vanished"
    if by_jobs <= LEVEL and (ratio is None or ratio >= _RATIO):
        return "burst"
    if is_unseen:
        return "few"
    return "steady" if ratio is not None and 1 / _RATIO < ratio < _RATIO else "unclear"
