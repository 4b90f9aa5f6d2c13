"""The key figures of a report, and the scorecard of its connectors."""

from collections import Counter
from statistics import NormalDist
from typing import Any

import polars as pl

from jobstats.analysis.contrast import wilson
from jobstats.analysis.queue_latency import queue_latency
from jobstats.analysis.retry_rates import retry_rates
from jobstats.report.cells import tabled
from jobstats.report.exhibits import Asking
from jobstats.report.model import Figure, ObjectiveResult, Scorecard, Status
from jobstats.report.sentences import IS_STALE, STATE, counted
from jobstats.wording import duration, percent

_CONFIDENCE = 0.95
_VERDICTS: dict[str, Status] = {
    "breached": "bad",
    "at risk": "caution",
    "not enough data": "unknown",
    "met": "good",
}
_MOST_TREND = 30


def status_of(verdict: str) -> Status:
    """What an objective's verdict is for a reader."""
    return _VERDICTS[verdict]


def figures(
    asking: Asking, frames: dict[str, pl.DataFrame], objectives: tuple[ObjectiveResult, ...]
) -> tuple[Figure, ...]:
    """The objectives of all runs together, then latency, retries, failures, punctuality and freshness."""
    rates = retry_rates(asking.recent, **asking.window).collect().row(0, named=True)
    return (
        *(_objective(results) for results in _by_objective(objectives)),
        _latency(asking, 0.5, "Queue latency, median"),
        _latency(asking, 0.95, "Queue latency, p95"),
        _rate("Retried runs", "retry_rate", rates["n_retried"], rates),
        _rate("Failed runs", "failure_rate", rates["n_failed"], rates),
        *_punctuality(frames["schedules"]),
        _fresh(frames["freshness"]),
        _stuck(frames["stuck"]),
    )


def _by_objective(results: tuple[ObjectiveResult, ...]) -> list[list[ObjectiveResult]]:
    found: dict[str, list[ObjectiveResult]] = {}
    for result in results:
        found.setdefault(result.objective, []).append(result)
    return list(found.values())


def _objective(results: list[ObjectiveResult]) -> Figure:
    """An objective of all runs together is a share; one of groups, how many of them meet it."""
    if len(results) == 1 and results[0].group == "(all)":
        return _whole(results[0])
    counts: Counter[str] = Counter(result.verdict for result in results)
    worst = next(verdict for verdict in _VERDICTS if counts[verdict])
    words = ", ".join(f"{counts[verdict]:,} {verdict}" for verdict in _VERDICTS if counts[verdict])
    return Figure(
        id=f"objective:{results[0].objective}",
        name=results[0].objective,
        kind="count",
        value=counts["met"],
        n=len(results),
        text=f"{counts['met']:,} of {len(results):,}",
        detail=f"groups meet it: {words}",
        target=f"at least {percent(results[0].target)} in each",
        status=status_of(worst),
    )


def _whole(result: ObjectiveResult) -> Figure:
    reason = f"{result.reason}, " if result.reason else ""
    return Figure(
        id=f"objective:{result.objective}",
        name=result.objective,
        kind="rate",
        value=result.attainment,
        low=result.attainment_low,
        high=result.attainment_high,
        n=result.n,
        text=percent(result.attainment),
        detail=f"{result.verdict}: {reason}{_interval(result.attainment_low, result.attainment_high)}n = {result.n:,}",
        target=f"at least {percent(result.target)}",
        status=status_of(result.verdict),
    )


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{percent(low)} to {percent(high)}, "


def _latency(asking: Asking, q: float, name: str) -> Figure:
    """A quantile, with the waits at the ends of Wilson's interval of its share (Woodruff 1952)."""
    column = f"p{q * 100:.10g}_ms"
    row = queue_latency(asking.recent, q=q, **asking.window).collect().row(0, named=True)
    value, n = row[column], row["n"]
    low = high = None
    if n:
        ends = wilson(q, n, NormalDist().inv_cdf((1 + _CONFIDENCE) / 2))
        low, high = queue_latency(asking.recent, q=ends, **asking.window).collect().row(0)[:2]
    interval = f"{duration(low)} to {duration(high)}, " if n else ""
    return Figure(
        id=f"queue_latency_{column}",
        name=name,
        kind="duration",
        value=value,
        low=low,
        high=high,
        n=n,
        text=duration(value),
        detail=f"{interval}n = {n:,}, {row['n_excluded']:,} left out, {row['n_waiting']:,} still waiting",
    )


def _rate(words: str, name: str, count: int, row: dict[str, Any]) -> Figure:
    n, n_open, n_unseen = row["n"], row["n_open"], row["n_ended_unseen"]
    unseen = f"{n_open:,} started, end not seen" + (f" ({n_unseen:,} have ended)" if n_unseen else "")
    least, most = row[f"{name}_min"], row[f"{name}_max"]
    is_bounds = row[name] is None and least is not None and n + n_open > 0
    if least is None:
        text, detail = "–", "no runs started or ended"
    elif is_bounds:
        text = f"{percent(least)} to {percent(most)}"
        detail = f"bounds, not an estimate: {count:,} of {n:,} ended, {unseen}"
    else:
        text = percent(row[name])
        detail = f"{_interval(row[f'{name}_low'], row[f'{name}_high'])}n = {n:,} ended, {unseen}"
    return Figure(
        id=name,
        name=words,
        kind="rate",
        value=row[name],
        low=least if is_bounds else row[f"{name}_low"],
        high=most if is_bounds else row[f"{name}_high"],
        is_bounds=is_bounds,
        n=n,
        text=text,
        detail=detail,
    )


def _punctuality(schedules: pl.DataFrame) -> tuple[Figure, ...]:
    n, on_time, expected = (int(schedules[name].sum()) for name in ("n", "n_on_time", "n_expected"))
    if not expected:
        return ()
    low, high = wilson(on_time / n, n, NormalDist().inv_cdf((1 + _CONFIDENCE) / 2)) if n else (None, None)
    share = on_time / n if n else None
    return (
        Figure(
            id="on_time_rate",
            name="Fires on time",
            kind="rate",
            value=share,
            low=low,
            high=high,
            n=n,
            text=percent(share),
            detail=f"{_interval(low, high)}n = {n:,} of {expected:,} expected",
        ),
    )


def _fresh(freshness: pl.DataFrame) -> Figure:
    stale = freshness.filter(IS_STALE).height
    words = counted(freshness.filter(~IS_STALE), STATE)
    return Figure(
        id="stale_connectors",
        name="Stale connectors",
        kind="count",
        value=stale,
        n=len(freshness),
        text=f"{stale:,}",
        detail=f"of {len(freshness):,}; {words or 'no other'}",
    )


def _stuck(stuck: pl.DataFrame) -> Figure:
    judged = stuck.filter(pl.col("kind") != "unjudged")
    return Figure(
        id="stuck_runs",
        name="Stuck runs",
        kind="count",
        value=len(judged),
        n=len(judged),
        text=f"{len(judged):,}",
        detail=f"{len(stuck) - len(judged):,} more cannot be judged",
    )


# ---- the scorecard ---------------------------------------------------------------------------------------------------

_COLUMNS = (
    *("connector", "n", "failure_rate", "failure_rate_low", "failure_rate_high", "n_failed", "retry_rate"),
    *("p50_ms", "p95_ms", "on_time_rate", "n_connectors", "n_stale"),
)


def scorecard(asking: Asking, frames: dict[str, pl.DataFrame]) -> Scorecard:
    """A row a kind of connector: its runs, rates, waits, punctuality, stale instances; worst first."""
    rates = frames["rates"].select(
        "connector", "n", *(name for name in _COLUMNS if "rate" in name and "on" not in name), "n_failed"
    )
    waits = frames["latency"].select("connector", "p50_ms", "p95_ms")
    punctual = frames["schedules"].select("connector", "on_time_rate")
    instances = (
        frames["freshness"]
        .group_by("connector")
        .agg(
            n_connectors=pl.len().cast(pl.Int64),
            n_stale=IS_STALE.sum().cast(pl.Int64),
        )
    )
    table = rates
    for part in (waits, punctual, instances):
        table = table.join(part, on="connector", how="full", coalesce=True, nulls_equal=True)
    table = table.with_columns(pl.col("n", "n_failed", "n_connectors", "n_stale").fill_null(0))
    worst = ("failure_rate_low", "n_failed", "n_stale", "p95_ms")
    table = table.sort(*worst, "connector", descending=[*(True for _ in worst), False], nulls_last=True)
    shown = tabled(table, _COLUMNS)
    return Scorecard(
        table=shown, trends=_trends(asking, [row["connector"] for row in table.head(len(shown.rows)).to_dicts()])
    )


def _trends(asking: Asking, connectors: list[str | None]) -> tuple[tuple[float | None, ...], ...]:
    """Of each connector its failure rates through the period; where they cannot be estimated, its failures."""
    shown = asking.recent.filter(pl.col("connector").is_in(connectors, nulls_equal=True))
    table = retry_rates(shown, by="connector", every=asking.every, **asking.shown).collect()
    is_estimable = bool(table["is_estimable"].all())
    column = pl.col("failure_rate" if is_estimable else "n_failed").cast(pl.Float64)
    found = dict(table.group_by("connector", maintain_order=True).agg(column).rows())
    return tuple(tuple(found.get(connector, ())[-_MOST_TREND * 3 :]) for connector in connectors)
