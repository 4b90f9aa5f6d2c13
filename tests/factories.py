"""Small records and job tables whose numbers can be worked out in one's head."""

from typing import Any

import polars as pl

import jobstats as js

T0 = 1_795_443_000_000
"""2026-11-23 14:10:00 UTC, on the minute."""
KEY = "0123456789abcdef0123456789abcdef"


def record(**changes: Any) -> dict[str, Any]:
    """A completed first attempt of a minutely schedule, due at T0, started 250 ms later, done after 1 s more."""
    data = {
        "connector": "Drive",
        "connectorId": "c1",
        "orgId": "o1",
        "userId": "u1",
        "timestamp": "2026-11-23T14:00:00.000Z",
        "scheduleConfig": {"scheduleType": "custom", "cronExpression": "* * * * *"},
    }
    whole = {
        "id": f"repeat:{KEY}:{T0}",
        "name": "crawl-drive-c1",
        "data": data | changes.pop("data", {}),
        "progress": 100,
        "delay": 0,
        "timestamp": T0 - 60_000,
        "attemptsMade": 1,
        "processedOn": T0 + 250,
        "finishedOn": T0 + 1_250,
        "state": "completed",
    }
    return {key: value for key, value in (whole | changes).items() if value is not ...}


def jobs(*records: dict[str, Any]) -> pl.DataFrame:
    """The jobs table of records that must all be good."""
    table, rejects = js.load(list(records))
    assert rejects.is_empty(), rejects["reason"].to_list()
    return table


def iteration(n: int, **changes: Any) -> dict[str, Any]:
    """Run n of a minutely schedule: due at T0 + n minutes, made when the run before it was picked up."""
    due = T0 + n * 60_000
    usual = {
        "id": f"repeat:{KEY}:{due}",
        "timestamp": due - 59_750,
        "processedOn": due + 250,
        "finishedOn": due + 1_250,
    }
    return record(**(usual | changes))


def immediate(name: str, wait: int = 500, **changes: Any) -> dict[str, Any]:
    """A run without a schedule's id: due when created, started ``wait`` ms later, done after 1 s more."""
    usual = {"id": name, "timestamp": T0, "processedOn": T0 + wait, "finishedOn": T0 + wait + 1_000}
    return record(**(usual | changes))
