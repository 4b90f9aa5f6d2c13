"""Concurrency drawn: how many runs ran at once, at most and on average, in each window or by group."""

from typing import Any

import altair as alt

from jobstats.analysis.concurrency import WORKERS
from jobstats.charts.levels import Kind, drawn

_KIND = Kind(
    function="concurrency",
    what="Runs at work",
    place=WORKERS,
    entered="runs started",
    left="ended",
    notes={
        "n_retried": "{n} a later attempt, the earlier ones not in the level",
        "n_unseen": "{n} not seen to end",
        "n_unknown": "{n} ran at a time not known, which the level lacks",
    },
)


def concurrency(table: Any, *, tz: str = "UTC") -> alt.TopLevelMixin:
    """The table of :func:`jobstats.concurrency` as a chart: peak and mean of each window if it has any, or of groups.

    Raises:
        ArgumentError: It is another table, or there is no such time zone.
    """
    return drawn(table, _KIND, tz)
