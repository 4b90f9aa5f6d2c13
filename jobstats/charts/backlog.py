"""Backlog drawn: how many runs waited, at most and on average, in each window or by group."""

from typing import Any

import altair as alt

from jobstats.analysis.backlog import QUEUE
from jobstats.charts.levels import Kind, drawn

_KIND = Kind(
    function="backlog",
    what="Runs waiting",
    place=QUEUE,
    entered="runs became due",
    left="started",
    notes={"n_unseen": "{n} not seen to start", "n_unknown": "{n} of unknown wait, which the level lacks"},
)


def backlog(table: Any, *, tz: str = "UTC") -> alt.TopLevelMixin:
    """The table of :func:`jobstats.backlog` as a chart: peak and mean of each window if it has any, or of each group.

    Raises:
        ArgumentError: It is another table, or there is no such time zone.
    """
    return drawn(table, _KIND, tz)
