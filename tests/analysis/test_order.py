"""Quantiles by one sort against numpy and against another engine, whatever the keys and lengths."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jobstats as js

from ..factories import immediate, jobs

QUANTILES = [0, 0.25, 0.5, 0.95, 1]
OWN = pl.Categorical(pl.Categories("teams", namespace="jobstats"))
KEYS = {
    "flags": pl.Series([True, False, None, True]),
    "numbers": pl.Series([-5, 2**62, None, -5]),
    "words": pl.Series(["b", "a", None, "b"]),
    "own": pl.Series(["b", "a", None, "b"]).cast(OWN),
    "levels": pl.Series(["b", "a", None, "b"]).cast(pl.Enum(["b", "a"])),
    "shares": pl.Series([0.5, 1.5, None, 0.5]),
    "days": pl.Series([1, 2, None, 1]).cast(pl.Date),
    "wide": pl.Series([2**63, 1, None, 2**63], dtype=pl.UInt64),
}


def waits(lengths: list[int | None]) -> pl.DataFrame:
    """Runs with these waits, all called exact."""
    table = jobs(*(immediate(str(number)) for number in range(len(lengths))))
    return table.with_columns(queue_latency_ms=pl.Series(lengths, dtype=pl.Int64))


@given(st.lists(st.integers(-(2**62), 2**62) | st.integers(0, 50), min_size=1, max_size=40), st.data())
@settings(max_examples=30)
def test_numpy_agrees_in_every_group(lengths, data):
    groups = data.draw(st.lists(st.sampled_from([-3, 0, 7]), min_size=len(lengths), max_size=len(lengths)))
    table = waits(lengths).with_columns(team=pl.Series(groups))
    answer = js.queue_latency(table, by="team", q=QUANTILES)
    assert answer["team"].to_list() == sorted(set(groups))
    for row in answer.iter_rows(named=True):
        own = np.array([ms for ms, group in zip(lengths, groups, strict=True) if group == row["team"]], dtype=float)
        found = [row[name] for name in ("p0_ms", "p25_ms", "p50_ms", "p95_ms", "p100_ms", "max_ms")]
        assert found == pytest.approx([*np.quantile(own, QUANTILES), own.max()], rel=1e-9, abs=1e-6)
        assert row["n"] == len(own)


@pytest.mark.parametrize("name", KEYS)
def test_keys_of_every_type_come_back_as_they_were(name):
    table = waits([100, 200, 400, 300]).with_columns(KEYS[name].alias("team"))
    answer = js.queue_latency(table, by="team", q=[0, 1])
    assert answer.schema["team"] == KEYS[name].dtype
    assert {answer.schema[column] for column in ("p0_ms", "p100_ms")} == {pl.Float64}
    rows = {row[0]: row[1:3] for row in answer.select("team", "p0_ms", "p100_ms").iter_rows()}
    assert rows == {KEYS[name][0]: (100, 300), KEYS[name][1]: (200, 200), None: (400, 400)}


def test_lengths_that_are_missing_are_in_no_quantile(engine, as_polars):
    table = waits([None, 100, 300, None]).with_columns(team=pl.Series(["a", "a", "a", "b"]))
    answer = as_polars(js.queue_latency(engine(table), by="team", q=[0, 0.5, 1]))
    assert answer.select("team", "p0_ms", "p50_ms", "p100_ms", "max_ms", "n").rows() == [
        ("a", 100, 200, 300, 300, 3),
        ("b", None, None, None, None, 1),
    ]
    assert js.queue_latency(waits([None]), q=0.5).select("p50_ms", "n").row(0) == (None, 1)


def test_texts_that_are_numbers_already_are_texts_all_the_same(dump):
    coded = dump.jobs.lazy().with_columns(pl.col("failed_reason").cast(pl.Categorical))
    assert js.failure_reasons(coded).collect().equals(js.failure_reasons(dump.jobs))
