import re

import polars as pl
import pytest
import vl_convert

import jobstats as js

from .drawing import DRAWN, draw, marks, subtitle, values


def test_the_ladder_is_one_of_multiples_with_the_bounded_beside_it(dump):
    table = js.slowdown(dump.jobs, by="connector", q=[0.5, 0.95, 0.99])
    chart = js.charts.slowdown(table)
    rows = values(chart.to_dict())
    worst = table.sort(pl.col("n") < 20, "p95_slowdown", descending=[False, True])
    assert [row["label"] for row in rows] == worst["connector"].to_list()
    assert [row["p95_slowdown"] for row in rows] == pytest.approx(worst["p95_slowdown"].to_list(), rel=DRAWN)
    assert rows[0]["bounded"] == " · ".join(f"{worst[f'p{q}_bounded_slowdown'][0]:.3g}×" for q in (50, 95, 99))
    assert marks(chart)["symbol"] == 2 * len(table)
    labels = re.findall(r">([^<>]+)</text>", vl_convert.vegalite_to_svg(chart.to_json()))
    assert {"1×", "10×", "100×", "1,000×"} <= set(labels)


def test_a_slowdown_not_estimated_is_a_count(polls):
    for arguments in ({"by": "connector"}, {"every": "1m"}):
        spec = draw("slowdown", js.slowdown(polls.jobs, **arguments))
        assert "slowdown cannot be estimated" in subtitle(spec)
        assert "×" not in " ".join(str(value) for row in values(spec) for value in row.values())
