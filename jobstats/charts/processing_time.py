"""Processing time drawn: a ladder of quantiles by group, bands over time, distributions, or a heat map of the week."""

from typing import Any

import altair as alt

from jobstats.analysis.processing_time import LENGTHS
from jobstats.charts.durations import Kind, drawn

_KIND = Kind("processing_time", "Processing time", LENGTHS, known="runs, their last attempts", open="still running")


def processing_time(table: Any, *, tz: str = "UTC", target_ms: float | None = None) -> alt.TopLevelMixin:
    """The table of :func:`jobstats.processing_time` as a chart, drawn as :func:`jobstats.charts.queue_latency` is.

    Args:
        table: The result table.
        tz: The time zone of the axis of time.
        target_ms: An objective to draw as a dashed rule.

    Raises:
        ArgumentError: It is another table, there is no such time zone, or the objective is not above 0.
    """
    return drawn(table, _KIND, tz, target_ms)
