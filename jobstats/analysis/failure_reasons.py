"""Why do runs fail, and which errors does a retry overcome?"""

from typing import TypeVar

import narwhals as nw
import polars as pl

from jobstats.analysis.asking import Asked, By, answered, ask, collected, flags, returned
from jobstats.moments import Moment
from jobstats.reasons import classify

Frame = TypeVar("Frame")
TEMPLATE = "template"
COUNTS = ("n", "n_recovered", "n_connectors", "n_orgs", "first_seen_at", "last_seen_at")


def failure_reasons(
    jobs: Frame,
    *,
    by: By = None,
    every: str | None = None,
    since: Moment = None,
    until: Moment = None,
) -> Frame:
    """Templates of the last errors of failed runs, most frequent first, with the errors that a retry overcame apart.

    ``failedReason`` is the last error a run met and survives a later success, so it is counted as a failure only for
    runs that failed for good; completed runs that carry one are ``n_recovered``. Texts are redacted and what differs
    from run to run is masked (:mod:`jobstats.reasons`): no raw text leaves the jobs table.

    On an unmodified server a job only hands a sync event on, so these are errors of queueing and handing on, not of
    the crawl itself, which runs later and elsewhere.

    Args:
        jobs: A jobs table: Polars, DuckDB or Spark.
        by: Column or columns to group by.
        every: Length of time windows, such as ``"1h"``, ``"1d"``, ``"1w"``; weeks start on Monday, days at 0:00 UTC.
        since: Only runs that ended at or after this; a datetime, ISO text or an age such as ``"7d"``.
        until: Only runs that ended before this.

    Returns:
        ``by`` columns, ``bucket`` (UTC start, with ``every``), ``template``, ``share`` (of the failed runs in its
        group and window; null where none failed), ``n`` (failed runs), ``n_recovered``, ``n_connectors``, ``n_orgs``
        (of the failed runs), ``first_seen_at``, ``last_seen_at`` (failed or recovered). Sorted by group and bucket,
        then most failures first. With ``every``, each template of a group has a row in every window. A run whose end
        was seen without its time (a torn record) counts at its last start.

    Raises:
        ArgumentError: A column, time or length that does not exist.
        TableError: ``jobs`` is not a jobs table.

    >>> import jobstats as js
    >>> jobs, rejects = js.load("data/dump")
    >>> failure_reasons(jobs).select("template", "n", "n_recovered").row(0)
    ('Request failed with status code 429', 18, 8)
    """
    failed = nw.col("state") == "failed"
    recovered = (nw.col("state") == "completed") & ~nw.col("failed_reason").is_null()
    at = ("finished_at", "processed_at", "created_at")
    asked = ask(
        jobs,
        where=failed | recovered,
        at=at,
        taken=(TEMPLATE, "share", *COUNTS),
        by=by,
        every=every,
        since=since,
        until=until,
    )
    # Grouped by connector too, so that the few templates of many texts can still count distinct connectors.
    texts = (
        asked.runs.with_columns(*flags({"n": failed, "n_recovered": ~failed}))
        .group_by(list(dict.fromkeys([*asked.keys, "failed_reason", "connector", "connector_id", "org_id"])))
        .agg(
            nw.col("n", "n_recovered").sum(),
            nw.col("_at").min().alias("first_seen_at"),
            nw.col("_at").max().alias("last_seen_at"),
        )
    )
    found = collected(texts)
    found = found.with_columns(classify(found["failed_reason"]))
    counted = found.group_by([*asked.keys, TEMPLATE]).agg(
        pl.col("n", "n_recovered").sum(),
        n_connectors=pl.struct("connector", "connector_id", "org_id").filter(pl.col("n") > 0).n_unique(),
        n_orgs=pl.col("org_id").filter(pl.col("n") > 0).n_unique(),
        first_seen_at=pl.col("first_seen_at").min(),
        last_seen_at=pl.col("last_seen_at").max(),
    )
    return returned(_ranked(asked, counted), jobs)


def _ranked(asked: Asked, counted: pl.DataFrame) -> pl.DataFrame:
    groups = asked._replace(by=[*asked.by, TEMPLATE], keys=[*asked.keys, TEMPLATE])
    table = answered(groups, counted).with_columns(pl.col(COUNTS[:4]).cast(pl.Int64))
    within = asked.shown
    failures = pl.col("n").sum().over(within) if within else pl.col("n").sum()
    return (
        table.with_columns(share=pl.when(failures > 0).then(pl.col("n") / failures))
        .select(*within, TEMPLATE, "share", *COUNTS)
        .sort(
            *within,
            "n",
            "n_recovered",
            TEMPLATE,
            descending=[False] * len(within) + [True, True, False],
            nulls_last=True,
        )
    )
