"""What a report says, before it is a page: the same for every format."""

from datetime import datetime
from typing import Any, Literal, TypedDict

import narwhals as nw
import polars as pl
from pydantic import BaseModel, ConfigDict

from jobstats.analysis.asking import STARTED, as_of, ask, collected, opened
from jobstats.analysis.failure_reasons import failure_reasons
from jobstats.analysis.quality import quality
from jobstats.analysis.queue_latency import queue_latency
from jobstats.analysis.retry_rates import retry_rates
from jobstats.history import history, is_history
from jobstats.moments import Moment, length_ms
from jobstats.reasons import Rules, ruleset
from jobstats.wording import duration, percent, plural, safe

_LENGTHS = ("1m", "5m", "15m", "1h", "6h", "1d", "1w")
_WINDOWS = 90
_ENOUGH = 59
"""Runs a connector needs before a bound on its p95 can be given: 0.95⁵⁹ < 0.05."""


class Figure(BaseModel):
    """One number to remember, with what it was counted on."""

    model_config = ConfigDict(frozen=True)

    name: str
    value: str
    detail: str


class Finding(BaseModel):
    """One limit of the data."""

    model_config = ConfigDict(frozen=True)

    severity: Literal["error", "warning", "note"]
    message: str


class Tables(BaseModel):
    """The result tables that the charts of a report draw."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    latency: pl.DataFrame
    latency_over_time: pl.DataFrame
    retries: pl.DataFrame
    retries_over_time: pl.DataFrame
    reasons: pl.DataFrame


class Report(BaseModel):
    """Everything a report says. Times are those of the data, so the same data gives the same report."""

    model_config = ConfigDict(frozen=True)

    first: datetime | None
    last: datetime | None
    observed: datetime | None
    every: str
    population: str
    figures: list[Figure]
    headlines: list[str]
    findings: list[Finding]
    tables: Tables


class _Window(TypedDict):
    since: datetime | None
    until: datetime | None


def build(
    jobs: pl.DataFrame | pl.LazyFrame,
    rejects: pl.DataFrame,
    *,
    since: Moment = None,
    until: Moment = None,
    rules: Rules = None,
) -> Report:
    """All analyses of a report for the runs in [since, until); what the data can tell is told of all of it.

    Args:
        jobs: Observations, or a history.
        rejects: What was refused of them.
        since: Only runs at or after this.
        until: Only runs before this.
        rules: Rules of failure reasons.

    Raises:
        ArgumentError: A time that cannot be read, or a rule that is wrong.
    """
    rules = ruleset(rules)
    findings = quality(jobs, rejects, rules=rules)
    if not is_history(jobs):
        jobs = history(jobs.lazy()).collect()
        inferred = quality(jobs, rules=rules).filter(pl.col("check") == "ends_inferred")
        findings = pl.concat([findings, inferred])
    jobs = jobs.lazy().collect()
    first, last, window = _span(jobs, since, until)
    begin, end = _happened(jobs)
    every = _every(window["since"] or begin, window["until"] or end)
    latency, retries = queue_latency(jobs, **window), retry_rates(jobs, **window)
    tables = Tables(
        latency=queue_latency(jobs, by="connector", **window),
        latency_over_time=queue_latency(jobs, every=every, **window),
        retries=retry_rates(jobs, by="connector", **window),
        retries_over_time=retry_rates(jobs, every=every, **window),
        reasons=failure_reasons(jobs, rules=rules, **window),
    )
    return Report(
        first=first,
        last=last,
        observed=as_of(opened(jobs)),
        every=every,
        population=_population(jobs),
        figures=_figures(latency.row(0, named=True), retries.row(0, named=True)),
        headlines=_headlines(tables),
        findings=[Finding(severity=row["severity"], message=safe(row["message"], 500)) for row in findings.to_dicts()],
        tables=tables,
    )


def _span(jobs: pl.DataFrame, since: Moment, until: Moment) -> tuple[datetime | None, datetime | None, _Window]:
    """When the first run that started became eligible and when the last one did; and the window as two instants."""
    at = ("eligible_at", "created_at")
    asked = ask(jobs, where=STARTED, at=at, taken=(), by=None, every=None, since=since, until=until)
    first, last = collected(asked.runs.select(first=nw.col("_at").min(), last=nw.col("_at").max())).row(0)
    return first, last, _Window(since=asked.since, until=asked.until)


def _happened(jobs: pl.DataFrame) -> tuple[datetime | None, datetime | None]:
    """The first and the last time by which any table of a report cuts its windows."""
    ran = jobs.filter("is_latest", pl.col("started_at").is_not_null() | pl.col("is_ended"))
    moments = pl.concat([ran[name] for name in ("eligible_at", "started_at", "finished_at")])
    return moments.min(), moments.max()  # type: ignore[return-value]


def _every(first: datetime | None, last: datetime | None) -> str:
    """The shortest usual window that cuts the span into a readable number of pieces."""
    span_ms = (last - first).total_seconds() * 1000 if first and last else 0
    return next((length for length in _LENGTHS if span_ms / length_ms(length, "every") <= _WINDOWS), _LENGTHS[-1])


def _population(history: pl.DataFrame) -> str:
    runs = history.filter(pl.col("state") != "paused")
    connectors = runs.select("org_id", "connector", "connector_id").unique().height
    records = f"{plural(int(runs['n_observations'].sum()), 'observation')} of {plural(len(runs), 'run')}"
    if paused := len(history) - len(runs):
        records += f" (and {plural(paused, 'paused job')})"
    kinds = plural(runs["connector"].n_unique(), "kind")
    return (
        f"{records}: {plural(connectors, 'connector')} of {kinds}, {plural(runs['org_id'].n_unique(), 'organisation')}"
    )


def _figures(latency: dict[str, Any], retries: dict[str, Any]) -> list[Figure]:
    waits = f"n = {latency['n']:,}, {latency['n_excluded']:,} left out, {latency['n_waiting']:,} still waiting"
    return [
        Figure(name="Queue latency, median", value=duration(latency["p50_ms"]), detail=waits),
        Figure(name="Queue latency, p95", value=duration(latency["p95_ms"]), detail=waits),
        _rate("Retried runs", "retry_rate", retries["n_retried"], retries),
        _rate("Failed runs", "failure_rate", retries["n_failed"], retries),
    ]


def _rate(words: str, name: str, count: int, retries: dict[str, Any]) -> Figure:
    n_unseen, n_open = retries["n_ended_unseen"], retries["n_open"]
    unseen = f"{n_open:,} started, end not seen" + (f" ({n_unseen:,} have ended)" if n_unseen else "")
    least, most = retries[f"{name}_min"], retries[f"{name}_max"]
    if least is None:
        return Figure(name=words, value="–", detail="no runs started or ended")
    if retries[name] is None and retries["n"] + n_open:
        bounds = f"{percent(least)} to {percent(most)}"
        return Figure(name=words, value=bounds, detail=f"bounds, not an estimate: {count:,} seen, {unseen}")
    interval = f"{percent(retries[f'{name}_low'])} to {percent(retries[f'{name}_high'])}, " if retries["n"] else ""
    return Figure(name=words, value=percent(retries[name]), detail=f"{interval}n = {retries['n']:,} ended, {unseen}")


def _headlines(tables: Tables) -> list[str]:
    """The worst of each section, in a sentence."""
    slow = tables.latency.filter(pl.col("n") >= _ENOUGH).sort("p95_ms", "connector", descending=[True, False])
    failing = tables.retries.filter(pl.col("failure_rate_low") > 0).sort(
        "failure_rate_low", "connector", descending=[True, False]
    )
    frequent = tables.reasons.filter(pl.col("n") > 0)
    return [
        *(_slowest(row) for row in slow.head(1).to_dicts()),
        *(_most_failing(row) for row in failing.head(1).to_dicts()),
        *(_most_frequent(row) for row in frequent.head(1).to_dicts()),
    ]


def _slowest(row: dict[str, Any]) -> str:
    waited = f"5 % of its runs waited {duration(row['p95_ms'])} or longer"
    of = f"of connectors with {_ENOUGH} runs or more"
    return f"Slowest to start, {of}: {safe(row['connector'])}, {waited} (n = {row['n']:,})."


def _most_failing(row: dict[str, Any]) -> str:
    interval = f"{percent(row['failure_rate_low'])} to {percent(row['failure_rate_high'])}"
    rate = f"{percent(row['failure_rate'])} of {plural(row['n'], 'ended run')}"
    return f"Fails most: {safe(row['connector'])}, {rate} ({interval})."


def _most_frequent(row: dict[str, Any]) -> str:
    counts = f"{plural(row['n'], 'failed run')}, {plural(row['n_connectors'], 'connector')}"
    return f"Most frequent cause of failure: {safe(row['cause'])} ({counts})."
