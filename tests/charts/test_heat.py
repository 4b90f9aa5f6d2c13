import json

import polars as pl
import pytest
import vl_convert

import jobstats as js
from jobstats.charts.heat import two_digits

from .drawing import DRAWN, draw, marks, subtitle, values


@pytest.fixture
def week(dump) -> pl.DataFrame:
    """All but the last hour of a week, in which Monday is slow and Tuesday's runs are few."""
    hours = pl.DataFrame({"weekday": range(1, 8)}).join(pl.DataFrame({"hour": range(24)}), how="cross").head(167)
    table = hours.cast(pl.Int64).join(js.queue_latency(dump.jobs), how="cross")
    return table.with_columns(
        p95_ms=pl.when(pl.col("weekday") == 1).then(600_000.0).otherwise(90_000.0 + pl.col("hour") * 1000),
        n=pl.when(pl.col("weekday") == 2).then(3).otherwise(100),
    )


def test_each_hour_of_the_week_has_a_cell_with_its_value_in_one_unit(week):
    chart = js.charts.queue_latency(week)
    spec = chart.to_dict()
    rows = values(spec)
    assert [(row["weekday"], row["hour"]) for row in rows] == [(day, hour) for day in range(1, 8) for hour in range(24)]
    assert "p95 in min" in subtitle(spec)
    assert "24 cells of fewer than 20 runs" in subtitle(spec)
    assert [row["value"] for row in rows[:-1]] == pytest.approx(week["p95_ms"].to_list(), rel=DRAWN)
    assert [float(row["text"]) for row in rows[:-1]] == [float(two_digits(ms / 60_000)) for ms in week["p95_ms"]]
    assert (rows[-1]["text"], rows[-1]["n"], rows[-1]["shade"]) == (None, 0, None)
    # An outline for each cell, and colour for those that have enough runs.
    assert marks(chart)["rect"] == 168 + 167 - 24
    assert marks(chart)["text"] == 167


def test_rates_of_the_week_are_percent(dump, polls):
    hours = pl.DataFrame({"weekday": range(1, 8)}).join(pl.DataFrame({"hour": range(24)}), how="cross").cast(pl.Int64)
    table = hours.join(js.retry_rates(dump.jobs), how="cross").with_columns(
        failure_rate=pl.when(pl.col("hour") == 5).then(0.0).otherwise(0.1234)
    )
    rows = values(draw("retry_rates", table))
    assert {row["text"] for row in rows} == {0, 12}
    assert "NaN" not in vl_convert.vegalite_to_svg(js.charts.retry_rates(table).to_json())
    unknown = hours.join(js.retry_rates(polls.jobs), how="cross")
    spec = draw("retry_rates", unknown)
    assert "rates cannot be estimated" in subtitle(spec)
    assert {(row["shade"], row["text"]) for row in values(spec)} == {(None, unknown["n_failed"][0])}


def test_a_week_of_nothing_is_empty_cells(week):
    spec = draw("queue_latency", week.head(0))
    assert "n = 0" in subtitle(spec)
    assert len(values(spec)) == 168
    assert "NaN" not in vl_convert.vegalite_to_svg(json.dumps(spec))
    lost = week.head(2).with_columns(weekday=pl.Series([None, 1], dtype=pl.Int64))
    assert "100 at no known hour" in subtitle(draw("queue_latency", lost))
