"""Jobs tables made column by column, and what a plain count of every millisecond says of them."""

from datetime import datetime
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl

from jobstats.table import SCHEMA

from ..factories import T0


def at(ms: int | None) -> datetime | None:
    """A moment so many milliseconds after T0."""
    return None if ms is None else pl.Series([T0 + ms]).cast(SCHEMA["created_at"])[0]


def table(*runs: dict[str, Any]) -> pl.DataFrame:
    """A jobs table of runs with instants given in milliseconds after T0; what is not said is null or false."""
    flags = {"is_latest": True, "is_ended": False, "is_retried": False, "is_rerun_suspected": False}
    rows = [
        {name: at(value) if name.endswith("_at") else value for name, value in (flags | run).items()} for run in runs
    ]
    return pl.DataFrame(rows, schema=SCHEMA)


def waited(eligible: int, started: int, observed: int = 10_000, **more: Any) -> dict[str, Any]:
    """A run whose wait is known."""
    started_at = {"started_at": started, "processed_at": started}
    return {"eligible_at": eligible, **started_at, "observed_at": observed, "queue_latency_quality": "exact"} | more


def waiting(eligible: int, observed: int, **more: Any) -> dict[str, Any]:
    """A run that was not started when last seen."""
    return {"eligible_at": eligible, "observed_at": observed, "queue_latency_quality": "unknown"} | more


def ran(processed: int, finished: int | None, observed: int = 10_000, **more: Any) -> dict[str, Any]:
    """A run of one attempt."""
    state = {"state": "active" if finished is None else "completed", "is_ended": finished is not None}
    return (
        {"started_at": processed, "processed_at": processed, "finished_at": finished, "observed_at": observed}
        | state
        | more
    )


def swept(spans: list[tuple[int, int]], edges: list[int], start: int, end: int) -> list[dict[str, Any]]:
    """The level in the windows between edges, by counting it in every millisecond.

    Args:
        spans: From when to when each run was there.
        edges: Where windows start and end.
        start: Where what is asked for and covered starts.
        end: Where it ends.
    """
    answer = []
    for window in pairwise(edges):
        first, last = max(window[0], start), min(window[1], end)
        if first >= last:
            answer.append({"max": None, "mean": None, "at_start": None, "at_end": None, "oldest": None, "covered": 0})
            continue
        level = np.zeros(last - first, dtype=int)
        for came, left in spans:
            level[max(came - first, 0) : max(left - first, 0)] += 1
        oldest = min((came for came, left in spans if came < last <= left), default=None)
        answer.append(
            {
                "max": level.max(),
                "mean": level.mean(),
                "at_start": sum(came < first <= left for came, left in spans),
                "at_end": sum(came < last <= left for came, left in spans),
                "oldest": None if oldest is None else last - oldest,
                "covered": last - first,
            }
        )
    return answer
