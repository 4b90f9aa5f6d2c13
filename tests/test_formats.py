import polars as pl

import jobstats as js
from jobstats.formats import causes, causes_counted, table


def test_the_table_of_causes_fits_a_terminal(dump):
    reasons = js.failure_reasons(dump.jobs, by="connector")
    whole = causes(reasons)
    assert whole.columns == ["connector", "cause", "category", "n", "share", "n_recovered", "n_retrying", "connectors", "last_seen_at"]  # fmt: skip
    assert whole.filter(pl.col("n") + pl.col("n_retrying") == 0).is_empty()
    assert whole["n"].sum() == 122
    narrow = causes(reasons, width=120)
    assert max(map(len, table(narrow).splitlines())) <= 120
    assert set(whole.columns) > set(narrow.columns) >= {"connector", "cause", "n", "share"}


def test_what_causes_add_up_to(dump):
    assert (
        causes_counted(js.failure_reasons(dump.jobs))
        == "122 failed runs, 154 recovered after an error, 14 to be tried again"
    )
    assert causes_counted(js.failure_reasons(dump.jobs, since="2m", baseline="3m")).endswith("; no clear change")
    lone = js.failure_reasons(dump.jobs, since="2026-11-01", baseline="3d")
    assert causes_counted(lone).endswith("nothing to compare with: one of the windows holds no runs")
    assert causes(dump.jobs.head(0).pipe(js.failure_reasons)).is_empty()
