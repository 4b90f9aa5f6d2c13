import random

import polars as pl
import pytest
from scipy.stats import binom, false_discovery_control

from jobstats.analysis.drift import KINDS, LEVEL, adjusted, compared, upper_tail


def test_tails_are_those_of_scipy():
    rng = random.Random(1)
    for _ in range(3_000):
        n = rng.choice((1, 3, 20, 500, 100_000))
        p, k = rng.random(), rng.randrange(n + 2)
        meant = binom.sf(k - 1, n, p)
        assert upper_tail(k, n, p) == pytest.approx(meant, rel=1e-8, abs=1e-12)


def test_adjusted_values_are_those_of_scipy():
    rng = random.Random(2)
    for n in (1, 2, 50):
        values = [rng.random() ** 3 for _ in range(n)]
        assert adjusted(values) == pytest.approx(list(false_discovery_control(values)))
    assert adjusted([]) == []


def told(x0, x1, c0=None, c1=None, *, is_old=False, runs=(2_800, 700), days=(280, 70)):
    return {
        "x0": x0, "x1": x1, "c0": x0 if c0 is None else c0, "c1": x1 if c1 is None else c1, "is_old": is_old,
        "runs0": runs[0], "runs1": runs[1], "days0": days[0], "days1": days[1],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("row", "meant"),
    [
        (told(0, 12), "new"),
        (told(0, 12, is_old=True), "rising"),
        (told(8, 20), "rising"),
        (told(80, 20), "steady"),
        (told(40, 16, 40, 3), "burst"),
        (told(9, 4), "unclear"),
        (told(120, 4), "falling"),
        (told(60, 0), "vanished"),
        (told(0, 60, 0, 1), "burst"),
        (told(20, 60, 5, 2), "burst"),
        (told(0, 2), "few"),
        (told(0, 3, is_old=True), "rising"),
        (told(1, 1), "few"),
        (told(0, 12, runs=(0, 700), days=(0, 70)), None),
        (told(3, 0, runs=(2_800, 0), days=(280, 0)), None),
    ],
)
def test_what_a_change_is_called(row, meant):
    table = compared(pl.DataFrame([row]))
    assert table["change"][0] == meant
    assert meant is None or meant in KINDS


def test_a_ratio_is_of_rates():
    assert compared(pl.DataFrame([told(10, 10)]))["ratio"][0] == pytest.approx(4)
    assert compared(pl.DataFrame([told(0, 10)]))["ratio"][0] is None


def counts(rng, mean, days, burst):
    """Events of one cause and the connector-days that saw them."""
    cells, events = set(), 0
    for day in range(days):
        for _ in range(sum(rng.random() < mean for _ in range(12))):
            cells.add((rng.randrange(12), day))
            events += 1 if burst == 1 else max(1, round(rng.expovariate(1 / burst)))
    return events, len(cells)


@pytest.mark.parametrize("burst", [1, 15])
def test_false_alarms_stay_rare_when_failures_come_in_bursts(burst):
    """What jobs alone would get wrong: with bursts it calls most outages a change."""
    rng, shares, alone = random.Random(3), [], []
    for _ in range(30):
        rows, risen = [], set()
        for cause in range(60):
            is_true = cause < 6
            mean = 0.02 * rng.lognormvariate(0, 1)
            (x0, c0), (x1, c1) = counts(rng, mean, 28, burst), counts(rng, mean * (5 if is_true else 1), 7, burst)
            rows.append(told(x0, x1, c0, c1, days=(28 * 12, 7 * 12)))
            risen |= {cause} if is_true else set()
        table = compared(pl.DataFrame(rows)).with_row_index()
        alarms = set(table.filter(pl.col("change").is_in(["new", "rising", "falling", "vanished"]))["index"])
        shares.append(len(alarms - risen) / len(alarms) if alarms else 0.0)
        loud = set(table.filter(pl.col("change").is_in(["new", "rising", "burst"]))["index"])
        alone.append(len(loud - risen) / len(loud) if loud else 0.0)
    assert sum(shares) / len(shares) <= LEVEL
    if burst > 1:
        assert sum(alone) / len(alone) > 3 * LEVEL
