import random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep

from jobstats.analysis import contrast


def cells(rows):
    return pl.DataFrame(rows, schema=["pair", "_connector", "_time", "_side", "x", "n"], orient="row")


def by_hand(rows, confidence=0.95):
    """The design effect by leaving clusters out one after the other, in plain Python."""

    def share(kept, side):
        runs = sum(n for *_, s, _, n in kept if s == side)
        return sum(x for *_, s, x, _ in kept if s == side) / runs if runs else None

    def variance(way):
        total = 0.0
        for cluster in {row[way] for row in rows}:
            left = [row for row in rows if row[way] != cluster]
            pulls = [share(rows, side) - share(left, side) if share(left, side) is not None else 0 for side in (1, 0)]
            total += (pulls[0] - pulls[1]) ** 2
        return total

    within = sum(
        ((x - share(rows, side) * n) / sum(row[5] for row in rows if row[3] == side)) ** 2 for *_, side, x, n in rows
    )
    binomial = sum(share(rows, s) * (1 - share(rows, s)) / sum(row[5] for row in rows if row[3] == s) for s in (0, 1))
    one, two = variance(1), variance(2)
    return max(one + two - within, one, two, binomial) / binomial


def test_the_variance_is_that_of_leaving_out_connectors_and_times():
    rng = random.Random(3)
    rows = []
    for connector in "abcd":
        for time in range(8):
            n = rng.randint(1, 30)
            # Half of the runs of a and c fail later, and on every third day: both ways are larger than what cells vary.
            share = 0.5 * (connector in "ac" and time > 3) + 0.4 * (time % 3 == 0)
            rows.append(("p", connector, time, int(time > 3), round(share * n), n))
    found = contrast.contrasts(cells(rows), ["pair"], 0.95).row(0, named=True)
    effect = by_hand(rows)
    assert effect > 2
    assert found["design_effect"] == pytest.approx(effect, rel=1e-9)
    n1, n0 = found["n1"], found["n0"]
    assert (found["worth1"], found["worth0"]) == pytest.approx((n1 / effect, n0 / effect))
    assert found["critical"] == pytest.approx(stats.t.ppf(0.975, 3))  # four connectors or four times
    assert found["change"] == pytest.approx(found["x1"] / n1 - found["x0"] / n0)


def test_independent_runs_have_the_interval_of_newcombe():
    rng = random.Random(4)
    for _ in range(100):
        n1, n0 = rng.randint(1, 200), rng.randint(1, 200)
        x1, x0 = rng.randint(0, n1), rng.randint(0, n0)
        found = contrast.newcombe(x1 / n1, n1, x0 / n0, n0, stats.norm.ppf(0.975))
        assert found == pytest.approx(confint_proportions_2indep(x1, n1, x0, n0, method="newcomb"), abs=1e-9)


@pytest.mark.parametrize("freedom", [1, 2.5, 6, 40, 1e6])
def test_students_t(freedom):
    for t in (0.01, 0.5, 2, 7, 60):
        assert contrast.student_tails(t, freedom) == pytest.approx(2 * stats.t.sf(t, freedom), rel=1e-6, abs=1e-12)
    for q in (0.6, 0.95, 0.995):
        assert contrast.student_quantile(q, freedom) == pytest.approx(stats.t.ppf(q, freedom), rel=1e-6)


def test_one_burst_is_no_change_and_many_are():
    def rows(bursts):
        quiet = [("p", c, t, int(t > 6), 0, 10) for c in range(10) for t in range(14) if (c, t) not in bursts]
        return quiet + [("p", c, t, 1, 10, 10) for c, t in bursts]

    one = contrast.contrasts(cells(rows([(3, 8)])), ["pair"], 0.95).row(0, named=True)
    everywhere = [(c, t) for t in range(7, 14) for c in (t % 10, (3 * t + 5) % 10)]
    many = contrast.contrasts(cells(rows(everywhere)), ["pair"], 0.95).row(0, named=True)
    assert stats.fisher_exact([[10, 690], [0, 700]]).pvalue < 0.002
    assert one["p_value"] > 0.2
    assert many["p_value"] < 0.05


def test_what_was_seen_at_one_time_only_is_not_judged():
    row = contrast.contrasts(
        cells([("p", "a", 0, 0, 1, 9), ("p", "a", 1, 0, 0, 9), ("p", "b", 2, 1, 9, 9)]), ["pair"], 0.95
    )
    assert row.select("change", "p_value", "change_low").row(0) == (pytest.approx(1 - 1 / 18), None, None)


def test_the_rest_is_all_but_the_value():
    rng = random.Random(5)
    seen = [(rng.choice("uvw"), rng.choice("abcd"), rng.randrange(6), rng.randint(1, 9)) for _ in range(80)]
    rows = pl.DataFrame(seen, schema=["value", "_connector", "_time", "n"], orient="row")
    rows = rows.with_columns(x=pl.col("n") // 2 * (pl.col("_connector") == "a")).group_by("value", "_connector", "_time").agg(pl.col("x", "n").sum())  # fmt: skip
    x, n = pl.col("x"), pl.col("n")
    squares = (
        rows.with_columns(xx=x * x, xn=x * n, nn=n * n)
        .group_by("value", "_connector")
        .agg(pl.all().exclude("_time").sum())
    )
    times = rows.group_by("value", "_time").agg(pl.col("x", "n").sum())
    found = contrast.against_rest(contrast.Cells(squares, times), pl.DataFrame({"value": ["v"]}), 0.95)
    pairs = rows.with_columns(_side=(pl.col("value") == "v").cast(pl.Int64), pair=pl.lit("p"))
    # Cells of the others hold several values: leaving these out one by one is the other function's way.
    assert found.drop("value").select("x1", "n1", "x0", "n0").row(0) == contrast.contrasts(pairs, ["pair"], 0.95).select("x1", "n1", "x0", "n0").row(0)  # fmt: skip
    assert found.drop("value").row(0) == pytest.approx(contrast.contrasts(pairs, ["pair"], 0.95).drop("pair").row(0))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 9)), min_size=16, max_size=16),
    st.floats(0.5, 0.99),
)
def test_the_interval_and_the_p_value_say_the_same(drawn, confidence):
    rows = [("p", connector, i // 2, int(i > 7), min(x, n), n) for i, (connector, x, n) in enumerate(drawn)]
    rows = [("p", c, t, s, sum(r[4] for r in rows if r[1:4] == (c, t, s)), sum(r[5] for r in rows if r[1:4] == (c, t, s))) for c, t, s in dict.fromkeys(r[1:4] for r in rows)]  # fmt: skip
    rows = [row for row in rows if row[5]]
    row = contrast.contrasts(cells(rows), ["pair"], confidence).to_dicts()
    if not row or row[0]["p_value"] is None:
        return
    row = row[0]
    assert 0 <= row["p_value"] <= 1
    assert -1 <= row["change_low"] <= row["change"] <= row["change_high"] <= 1
    if abs(row["p_value"] - (1 - confidence)) > 1e-6:
        is_sure = row["p_value"] < 1 - confidence
        assert is_sure == (row["change_low"] > 0 or row["change_high"] < 0)
        above = (row["ratio_low"] or 0) > 1
        below = row["ratio_high"] is not None and row["ratio_high"] < 1
        assert is_sure == (above or below)
    if row["ratio"] is not None:
        assert row["ratio_low"] <= row["ratio"] * (1 + 1e-9)
        assert row["ratio_high"] is None or row["ratio"] <= row["ratio_high"] * (1 + 1e-9)
