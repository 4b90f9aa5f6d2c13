"""How far back a report looks: all that bears on its period, and of what is older only what must not be forgotten.

Times are concluded from the other runs of a schedule, those around a run. A store of years holds far more, and to
conclude all of it every night would take minutes for the same figures. So observations from before the period and four
weeks, or as much as its objectives ask for, are left out, but for these, which later answers rest on:

* the last success of each connector, and the failures since then: how long it has been failing, and since when;
* a run of each text of failure: a cause that was seen before is not new;
* the first runs of each schedule that is still seen: they tell by how much a server shifts its intervals.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import polars as pl

from jobstats.histories import exported
from jobstats.moments import UNITS
from jobstats.objectives import Objective

_LEAST = timedelta(days=28)
_CONNECTOR = ["org_id", "connector", "connector_id"]
_FIRST_RUNS = 3
FIRST_YEAR = 1971
"""No job is older, and time can be counted back from here."""


class Reach(NamedTuple):
    """Observations that bear on a report; ``since`` is when they begin, null where all of them do."""

    jobs: pl.LazyFrame
    since: datetime | None


def reach(jobs: pl.LazyFrame, begin: datetime | None, end: datetime | None, objectives: Sequence[Objective]) -> Reach:
    """What bears on the period [begin, end) and on objectives that are judged at its end."""
    records = exported(jobs)
    if begin is None or end is None or begin.year < FIRST_YEAR:
        return Reach(records, None)
    asked = max((objective.window_ms for objective in objectives if objective.kind != "fresh"), default=0)
    earliest = min(begin - max(_LEAST, 2 * (end - begin)), end - timedelta(milliseconds=asked + UNITS["d"]))
    is_old = (pl.col("observed_at") < earliest).fill_null(value=False)
    older = records.filter(is_old)
    if not older.select(pl.len()).collect(engine="streaming").item():
        return Reach(records, None)
    recent = records.filter(~is_old)
    return Reach(pl.concat([recent, _remembered(older, recent).lazy()]), earliest)


def _remembered(older: pl.LazyFrame, recent: pl.LazyFrame) -> pl.DataFrame:
    completed, failed = (older.filter(pl.col("state") == state) for state in ("completed", "failed"))
    ended = pl.coalesce("finished_at", "processed_at", "created_at")
    # Collected at once: a plan that reads all rows twice would keep them between.
    last = completed.group_by(_CONNECTOR).agg(_last=ended.max()).collect(engine="streaming").lazy()
    parts = [
        completed.join(last, on=_CONNECTOR, nulls_equal=True).filter(ended == pl.col("_last")).drop("_last"),
        failed.join(last, on=_CONNECTOR, how="left", nulls_equal=True)
        .filter(pl.col("_last").is_null() | (ended > pl.col("_last")))
        .drop("_last"),
        failed.group_by("failed_reason").agg(pl.all().first()).select(older.collect_schema().names()),
        _first_runs(older, recent),
    ]
    found = [part.collect(engine="streaming") for part in parts]
    return pl.concat(found).unique(maintain_order=True)


def _first_runs(older: pl.LazyFrame, recent: pl.LazyFrame) -> pl.LazyFrame:
    key = pl.col("job_id").str.extract(r"^(repeat:.*):\d+$")
    seen = recent.select(_key=key, _org="org_id").drop_nulls("_key").unique().collect(engine="streaming").lazy()
    keyed = older.filter(pl.col("schedule_every_ms").is_not_null()).with_columns(_key=key, _org="org_id")
    runs = keyed.join(seen, on=["_key", "_org"], how="semi", nulls_equal=True)
    firsts = runs.group_by("_key", "_org").agg(_until=pl.col("created_at").unique().bottom_k(_FIRST_RUNS).max())
    firsts = firsts.collect(engine="streaming").lazy()
    shown = runs.join(firsts, on=["_key", "_org"], nulls_equal=True).filter(pl.col("created_at") <= pl.col("_until"))
    return shown.drop("_key", "_org", "_until")
