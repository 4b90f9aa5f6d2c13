"""When was a record seen, and how far does a file reach whose time nobody told?"""

from typing import Any

import narwhals as nw
import polars as pl

from jobstats.analysis.asking import collected

_EVENTS = ("created_at", "processed_at", "finished_at")
IS_TOLD = ~nw.col("observed_at").is_null() & (nw.coalesce("observed_at_source", nw.lit("")) != "file_mtime")
"""The caller or the name of the file says when the record was seen."""


def reach(frame: Any, name: str) -> pl.DataFrame:
    """Of each ``source`` whose time nobody told, the newest that happened in it, as the column ``name``.

    A file may have been written or copied long after its records were read, so its modification time says nothing of
    them: only what happened in it is known to be in the past.
    """
    untold = collected(frame.filter(~IS_TOLD).group_by("source").agg(nw.col(*_EVENTS).max()))
    return untold.select("source", pl.max_horizontal(_EVENTS).alias(name))
