"""Turnaround drawn: a ladder of quantiles by group, bands over time, distributions, or a heat map of the week."""

from typing import Any

import altair as alt

from jobstats.analysis.turnaround import LENGTHS
from jobstats.charts.durations import Kind, drawn

_KIND = Kind("turnaround", "Turnaround", LENGTHS, known="runs from due to end", open="not seen to end")


def turnaround(table: Any, *, tz: str = "UTC", target_ms: float | None = None) -> alt.TopLevelMixin:
    """The table of :func:`jobstats.turnaround` as a chart, drawn as :func:`jobstats.charts.queue_latency` is.

    Args:
        table: The result table.
        tz: The time zone of the axis of time.
        target_ms: An objective to draw as a dashed rule.

    Raises:
        ArgumentError: It is another table, there is no such time zone, or the objective is not above 0.
    """
    return drawn(table, _KIND, tz, target_ms)
