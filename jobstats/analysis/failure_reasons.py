"""Why do runs fail, which errors does a retry overcome, and what is new?"""

from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import narwhals as nw
import polars as pl

from jobstats.analysis.asking import STARTED, Asked, By, answered, ask, at_ms, collected, flags, held, plain, returned
from jobstats.analysis.drift import compared
from jobstats.errors import ArgumentError
from jobstats.moments import UNITS, Moment, epoch_ms, length_ms
from jobstats.reasons import Rules, classify, redact, ruleset
from jobstats.reasons.catalog import Catalog, first_known

Frame = TypeVar("Frame")
CAUSE = "cause_id"
COUNTS = ("n", "n_recovered", "n_retrying", "n_connectors", "n_orgs", "n_connector_days", "n_templates")
SEEN = ("first_seen_at", "last_seen_at")
TEXTS = ("connectors", "template", "example", "cause_id", "template_id", "rule_id")
CHANGES = ("change", "ratio", "q_value", "n_before", "n_connector_days_before")
_AT = ("finished_at", "processed_at", "created_at")
_CONNECTOR = ("connector", "connector_id", "org_id")
_SUMS = COUNTS[:3]
_KINDS = 3
"""Kinds of connectors that are named."""
_NOW, _BEFORE, _LONG_AGO = 2, 1, 0


class _Windows(NamedTuple):
    asked: Asked
    since_ms: int | None
    """Where the window begins, in which reasons are counted, if it is compared with the one before."""
    before_ms: int


def failure_reasons(
    jobs: Frame,
    *,
    by: By = None,
    every: str | None = None,
    since: Moment = None,
    until: Moment = None,
    baseline: str | None = None,
    rules: Rules = None,
    catalog: Catalog | None = None,
) -> Frame:
    """Causes of the last errors of failed runs, most frequent first, with the errors that a retry overcame apart.

    ``failedReason`` is the last error a run met and survives a later success, so it is counted as a failure only for
    runs that failed for good; completed runs that carry one are ``n_recovered``, and those that are to be tried again
    or are at it ``n_retrying``. Texts are redacted and what differs from run to run is masked
    (:mod:`jobstats.reasons`): no raw text leaves the jobs table.

    On an unmodified server a job only hands a sync event on, so these are errors of queueing and handing on, not of
    the crawl itself, which runs later and elsewhere.

    With ``baseline`` each cause is compared with the window before ``since``, by failed runs and by the connectors and
    days that saw it (:mod:`jobstats.analysis.drift`). Its ``change`` is ``new`` (not seen before, ever), ``rising``,
    ``falling``, ``vanished``, ``burst`` (more failed runs, but of so few connectors and days that it may be one
    outage), ``steady`` (about as often), ``unclear`` (another rate, which may be chance), or ``few`` (too few to tell).
    It is null where a window holds no runs.

    Args:
        jobs: A jobs table: Polars, DuckDB or Spark.
        by: Column or columns to group by; ``hour`` and ``weekday`` are those of a run's time, in UTC.
        every: Length of time windows, such as ``"1h"``, ``"1d"``, ``"1w"``; weeks start on Monday, days at 0:00 UTC.
        since: Only runs that ended at or after this; a datetime, ISO text or an age such as ``"7d"``.
        until: Only runs that ended before this.
        baseline: Length of the window before ``since`` to compare with, such as ``"28d"``.
        rules: A file of rules on top of the shipped ones, or a set: see :func:`jobstats.reasons.ruleset`.
        catalog: Reasons known from earlier data (:func:`jobstats.reasons.read_catalog`): these are not new, whichever
            group saw them.

    Returns:
        ``by`` columns, ``bucket`` (UTC start, with ``every``), ``cause``, ``category``, ``share`` (of the failed runs
        in its group and window; null where none failed), ``n`` (failed runs), ``n_recovered`` (completed runs),
        ``n_retrying`` (neither), ``n_connectors``, ``n_orgs``, ``n_connector_days``, ``n_templates`` (of the failed
        runs), ``first_seen_at``, ``last_seen_at`` (of all of them), ``connectors`` (the kinds that failed most),
        ``template`` and ``example`` (the most frequent one of the cause, and a whole masked text of it), ``cause_id``,
        ``template_id``, ``rule_id``. With ``baseline`` also ``change``, ``ratio`` (of the failures per run, to the
        baseline's), ``q_value``, ``n_before``, ``n_connector_days_before``; ``first_seen_at`` is then the first time
        ever. Sorted by group and bucket, then most failures first. With ``every``, each cause of a group has a row in
        every window. A run whose end was seen without its time (a torn record) counts at its last start.

    Raises:
        ArgumentError: A column, time, length or rule that does not exist, or a baseline without ``since``.
        TableError: ``jobs`` is not a jobs table.

    >>> import jobstats as js
    >>> jobs, rejects = js.load("data/dump")
    >>> failure_reasons(jobs).select("cause", "category", "n", "n_recovered").row(0)
    ('HTTP 429', 'rate_limit', 18, 8)
    """
    known = ruleset(rules)
    if catalog is not None and (baseline is None or not isinstance(catalog, Catalog)):
        raise ArgumentError("catalog is what read_catalog returns, and tells what is new against a baseline; pass both")
    failed = nw.col("state") == "failed"
    has_reason = ~nw.col("failed_reason").is_null()
    recovered = (nw.col("state") == "completed") & has_reason
    retrying = ~nw.col("is_ended") & has_reason
    windows = _windows(
        jobs, failed | recovered | retrying, by=by, every=every, since=since, until=until, baseline=baseline
    )
    asked = windows.asked
    runs = asked.runs.with_columns(
        *flags({"n": failed, "n_recovered": recovered, "n_retrying": retrying}),
        _day=at_ms(asked.runs) // UNITS["d"],
        _period=_period(windows),
    )
    # Grouped by connector and day too, so that the few causes of many texts can still count distinct ones.
    cells = [*dict.fromkeys([*asked.keys, "failed_reason", *_CONNECTOR, "_day", "_period"])]
    runs = held(runs, [*cells, *_SUMS, "_at"])
    found = collected(
        runs.group_by(cells).agg(
            nw.col(*_SUMS).sum(),
            nw.col("_at").min().alias("first_seen_at"),
            nw.col("_at").max().alias("last_seen_at"),
        ),
        is_plain=False,
    ).with_columns(pl.col(_SUMS).cast(pl.Int64))
    texts = found.group_by("failed_reason").agg(weight=pl.sum_horizontal(pl.col(_SUMS).sum()))
    texts = texts.hstack(classify(texts["failed_reason"].cast(pl.String), rules=known))
    ids = texts.select("failed_reason", CAUSE, "template_id")
    found = found.join(ids, on="failed_reason", nulls_equal=True)
    counted = plain(_counted(found, asked.keys))
    texts = texts.with_columns(pl.col("failed_reason").cast(pl.String))
    if windows.since_ms is None:
        return returned(_ranked(asked, counted, _described(texts, known), ()), jobs)
    exposed = _exposed(jobs, windows, by, asked)
    counted = _changed(
        counted, found, exposed, asked.keys, first_known(catalog, texts, CAUSE, rules=known), windows.since_ms
    )
    return returned(_ranked(asked, counted, _described(texts, known), CHANGES), jobs)


def _windows(jobs: Any, where: Any, *, since: Moment, until: Moment, baseline: str | None, **asking: Any) -> _Windows:
    taken = ("cause", "category", "share", *COUNTS, *SEEN, *TEXTS, *CHANGES)
    asked = ask(jobs, where=where, at=_AT, taken=taken, since=since, until=until, **asking)
    if baseline is None:
        return _Windows(asked, None, 0)
    if asking["every"] is not None:
        raise ArgumentError("baseline compares two windows, and every cuts one into many; pass one of them")
    length = length_ms(baseline, "baseline")
    if since is None:
        raise ArgumentError("baseline needs since: where the window begins that is compared with the time before it")
    if asked.since is None:
        return _Windows(asked, 0, -length)  # an age of no data: there is nothing to compare
    since_ms = epoch_ms(asked.since)
    ever = ask(jobs, where=where, at=_AT, taken=taken, since=None, until=asked.until, **asking)
    return _Windows(ever._replace(since=asked.since), since_ms, since_ms - length)


def _period(windows: _Windows) -> Any:
    if windows.since_ms is None:
        return nw.lit(_NOW)
    at = at_ms(windows.asked.runs)
    return (
        nw.when(at >= windows.since_ms)
        .then(_NOW)
        .otherwise(nw.when(at >= windows.before_ms).then(_BEFORE).otherwise(_LONG_AGO))
    )


def _counted(found: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    is_now, has_failed = pl.col("_period") == _NOW, pl.col("n") > 0
    seen = found.group_by([*keys, CAUSE]).agg(
        pl.col(_SUMS).filter(is_now).sum(),
        n_connectors=pl.struct(_CONNECTOR).filter(is_now, has_failed).n_unique(),
        n_orgs=pl.col("org_id").filter(is_now, has_failed).drop_nulls().n_unique(),
        n_connector_days=pl.struct(*_CONNECTOR, "_day").filter(is_now, has_failed).n_unique(),
        n_templates=pl.col("template_id").filter(is_now, has_failed).n_unique(),
        first_seen_at=pl.col("first_seen_at").min(),
        last_seen_at=pl.col("last_seen_at").max(),
    )
    kinds = _kinds(found.filter(is_now, has_failed), [*keys, CAUSE])
    counts = seen.with_columns(pl.col(COUNTS).cast(pl.Int64))
    return counts.join(kinds, on=[*keys, CAUSE], how="left", nulls_equal=True)


def _kinds(failed: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """The kinds of connectors that failed most, with their failed runs, in words."""
    most = failed.group_by([*keys, pl.col("connector").alias("_kind")]).agg(pl.col("n").sum())
    words = pl.format("{} {}", pl.col("_kind").fill_null("(none)"), "n")
    return (
        most.sort("n", "_kind", descending=[True, False], nulls_last=True)
        .group_by(keys, maintain_order=True)
        .agg(words.head(_KINDS).str.join(", ") + pl.when(pl.len() > _KINDS).then(pl.lit(", …")).otherwise(pl.lit("")))
        .rename({"_kind": "connectors"})
    )


def _exposed(jobs: Any, windows: _Windows, by: By, asked: Asked) -> pl.DataFrame:
    """How many runs, and how many connectors on how many days, each window could have seen fail."""
    at = (*_AT[:1], "started_at", *_AT[1:])
    length = timedelta(milliseconds=(windows.since_ms or 0) - windows.before_ms)
    since = None if asked.since is None else asked.since - length
    all_runs = ask(
        jobs,
        where=STARTED | nw.col("is_ended"),
        at=at,
        taken=(),
        by=by,
        every=None,
        since=since,
        until=asked.until,
    )
    counted = all_runs.runs.with_columns(
        _day=at_ms(all_runs.runs) // UNITS["d"], _period=_period(windows._replace(asked=all_runs)), _runs=nw.lit(1)
    )
    cells = collected(
        counted.group_by([*dict.fromkeys([*asked.keys, *_CONNECTOR, "_day", "_period"])]).agg(nw.col("_runs").sum())
    )
    is_now, runs = pl.col("_period") == _NOW, pl.col("_runs").cast(pl.Int64)
    return cells.group_by(asked.keys).agg(
        runs0=runs.filter(~is_now).sum(),
        runs1=runs.filter(is_now).sum(),
        days0=(~is_now).sum(),
        days1=is_now.sum(),
    )


def _changed(
    counted: pl.DataFrame,
    found: pl.DataFrame,
    exposed: pl.DataFrame,
    keys: list[str],
    earlier: pl.DataFrame,
    since_ms: int,
) -> pl.DataFrame:
    """With the verdict on each cause, and without those that neither window has seen fail or recover."""
    has_failed, was = pl.col("n") > 0, pl.col("_period") == _BEFORE
    before = plain(
        found.group_by([*keys, CAUSE]).agg(
            n_before=pl.col("n").filter(was).sum().cast(pl.Int64),
            n_connector_days_before=pl.struct(*_CONNECTOR, "_day").filter(was, has_failed).n_unique().cast(pl.Int64),
            is_recent=(pl.col("_period") != _LONG_AGO).any(),
        )
    )
    since = pl.lit(since_ms).cast(pl.Datetime("ms")).dt.replace_time_zone("UTC")
    table = (
        counted.join(before, on=[*keys, CAUSE], nulls_equal=True)
        .filter("is_recent")
        .join(exposed, on=keys, how="left", nulls_equal=True)
        .join(earlier, on=CAUSE, how="left")
        .with_columns(pl.col("runs0", "runs1", "days0", "days1").fill_null(0))
        .with_columns(first_seen_at=pl.min_horizontal("first_seen_at", "known_at"))
        .sort(*keys, CAUSE, nulls_last=True)
    )
    verdicts = compared(
        table.select(
            "runs0",
            "runs1",
            "days0",
            "days1",
            x0="n_before",
            x1="n",
            c0="n_connector_days_before",
            c1="n_connector_days",
            is_old=pl.col("first_seen_at") < since,
        )
    )
    return table.hstack(verdicts.select("change", "ratio", "q_value")).select(*counted.columns, *CHANGES)


def _described(texts: pl.DataFrame, rules: Any) -> pl.DataFrame:
    """For each cause its words: those of its most frequent template, and of that the most frequent text."""
    shown = [CAUSE, "cause", "category", "template", "template_id", "rule_id"]
    texts = texts.with_columns(of_template=pl.col("weight").sum().over(CAUSE, "template_id"))
    first = texts.sort(
        CAUSE,
        "of_template",
        "weight",
        pl.col("template").str.len_chars(),
        "template",
        pl.col("failed_reason").str.len_chars(),
        "failed_reason",
        descending=[False, True, True, False, False, False, False],
        nulls_last=True,
    ).unique(CAUSE, keep="first", maintain_order=True)
    example = redact(first["failed_reason"], rules=rules)
    return first.select(*shown).with_columns(example=example)


def _ranked(asked: Asked, counted: pl.DataFrame, described: pl.DataFrame, changes: tuple[str, ...]) -> pl.DataFrame:
    groups = asked._replace(by=[*asked.by, CAUSE], keys=[*asked.keys, CAUSE])
    table = answered(groups, counted).join(described, on=CAUSE)
    within = asked.shown
    failures = pl.col("n").sum().over(within) if within else pl.col("n").sum()
    return (
        table.with_columns(share=pl.when(failures > 0).then(pl.col("n") / failures))
        .select(*within, "cause", "category", *changes, "share", *COUNTS, *SEEN, *TEXTS)
        .sort(
            *within,
            "n",
            "n_recovered",
            *changes[3:4],
            "cause",
            CAUSE,
            descending=[False] * len(within) + [True, True, *[True for _ in changes[3:4]], False, False],
            nulls_last=True,
        )
    )
