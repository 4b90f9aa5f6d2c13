"""Are the objectives met, how much of their budgets is left, and how fast are they burning?"""

from datetime import datetime, timedelta
from statistics import NormalDist
from typing import Any, TypeVar

import narwhals as nw
import polars as pl

from jobstats.analysis.asking import (
    STARTED,
    TOLD,
    WAITING,
    as_of,
    ask,
    at_ms,
    collected,
    flags,
    opened,
    outcomes_are_seen,
    rate,
    returned,
)
from jobstats.analysis.freshness import freshness
from jobstats.errors import ArgumentError
from jobstats.moments import UNITS, Moment, epoch_ms, instant, length_ms
from jobstats.objectives import Objective, Objectives, as_objectives

Frame = TypeVar("Frame")
ALERTS = (
    ("1h", "5m", 0.02, "page"),
    ("6h", "30m", 0.05, "page"),
    ("1d", "2h", 0.1, "ticket"),
    ("3d", "6h", 0.1, "ticket"),
)
"""Long window, short window, share of the budget that is gone when they alert, and how urgent that is."""
LASTS = (10, 30, 100)
"""Windows counted in runs, for what runs too seldom to fill an hour."""
COUNTS = ("n", "n_good", "n_bad", "n_excluded")
LONG = tuple(long for long, *_ in ALERTS)
SPANS = (*LONG, *(short for _, short, *_ in ALERTS if short not in LONG))
MEASURES = (
    *("attainment", "attainment_low", "attainment_high", "budget_runs", "budget_left"),
    *(f"burn_{span}" for span in (*LONG, *(f"last_{k}" for k in LASTS))),
)
SCHEMA = pl.Schema(
    {
        **dict.fromkeys(("objective", "kind", "by", "group", "verdict", "reason", "alert"), pl.String),
        **dict.fromkeys(("target", *MEASURES), pl.Float64),
        **dict.fromkeys(COUNTS, pl.Int64),
    }
)
DUE = ("eligible_at", "created_at")
_NO_CLOCK = "budgets burn over hours and days, so an objective is of all hours"
NONE = "(none)"
"""The group of what has no value."""


def slo(jobs: Frame, objectives: Objectives, *, until: Moment = None, confidence: float = 0.95) -> Frame:
    """Attainment, error budget and burn rate of service level objectives, with a verdict on each group.

    After Beyer, B. et al. (2018), The Site Reliability Workbook, ch. 5: attainment is the share of good events; the
    error budget is (1 - target) of the events; the burn rate is the share of bad events by that of the budget, so
    that at 1 the budget lasts exactly the window. Events are connectors (``fresh``), or the runs that had to start by
    (``start``), or ended (``success``), in the window before ``until``.

    * ``start``: good when the wait, or a bound that it cannot exceed, is at most ``within``; bad when the exact wait
      is longer, or the run was seen due and not started for longer. Excluded: waits not known, and runs that still
      had time when last seen. A run that was due less than ``within`` ago is not judged yet, even if it has started:
      those that are late are not known to be, and the newest windows would look good.
    * ``success``: good when completed, or when a :func:`jobstats.history` rules failure out; bad when failed.
      Excluded: runs that started, and whose end is not known.
    * ``fresh``: good when fresh, bad when stale or never; excluded when unknown or pending. What is paused, disabled
      or unscheduled has no objective (:func:`jobstats.freshness`).

    *Alerts* are the workbook's: the burn rate of a long and a short window both reach a threshold, 2 % of the budget
    in 1 h (and 5 m), 5 % in 6 h (and 30 m) for a ``page``; 10 % in 1 d (and 2 h) or in 3 d (and 6 h) for a
    ``ticket``. For 30 days these are burn rates of 14.4, 6, 3 and 1, for other windows in proportion, but never below
    1. A crawl a day does not fill an hour, and one failure in it would page: a burn rate is known only where its
    window holds ``min_n`` runs, and alerts take at least two bad runs, and more than chance gives at the target
    (score test with continuity correction, at ``confidence``). What runs seldom has the windows of the last 10, 30 and
    100 runs: one with more bad runs than chance gives is a ``ticket``.

    *Verdicts*, the first that holds: ``not enough data`` (fewer than ``min_n`` events, more excluded than known, or
    completed runs are not in the data; ``reason`` says which), ``breached`` (attainment below target: the budget is
    overspent; where ``attainment_high`` is not below, chance may be why), ``at risk`` (attained, and an alert is on),
    ``met``. No events are never a met objective.

    Args:
        jobs: A jobs table: Polars, DuckDB or Spark.
        objectives: A TOML file (:func:`jobstats.objectives.read_objectives`), an `Objective`, or a list of them.
        until: Judge at this moment; a datetime, ISO text or an age such as ``"7d"``; the newest observation by default.
        confidence: Level of the intervals and of the alerts.

    Returns:
        ``objective``, ``kind``, ``by`` (names of the grouping columns), ``group`` (their values; ``(all)`` without
        any), ``verdict``, ``reason`` (of not enough data, else null), ``alert`` (``page``, ``ticket``, or null: no
        alert, or too few runs to tell), ``target``, ``attainment`` with its Wilson interval ``attainment_low`` and
        ``attainment_high``, ``budget_runs`` (bad events that the target allows), ``budget_left`` (share of it, negative
        when overspent; null where none is allowed), ``burn_1h`` … ``burn_3d`` and ``burn_last_10`` … (null where their
        window holds too few runs), ``n`` (good and bad), ``n_good``, ``n_bad``, ``n_excluded``. A group that has runs,
        but none in the window, has a row. Sorted by objective, in the order given, and group.

    Raises:
        ArgumentError: A file, objective, column, time or level that does not exist.
        TableError: ``jobs`` is not a jobs table.

    >>> import jobstats as js
    >>> jobs, rejects = js.load("data/dump")
    >>> started = js.Objective(name="Runs start in time", kind="start", target=0.95, within="10s")
    >>> slo(jobs, started).select("verdict", "attainment", "n", "n_bad", "n_excluded").row(0)
    ('breached', 0.8918161434977578, 1784, 193, 24)
    """
    asked = as_objectives(objectives)
    frame = opened(jobs)
    moment = instant(until, "until", lambda: as_of(frame)) or as_of(frame)
    is_known = not any(objective.kind == "success" for objective in asked) or outcomes_are_seen(jobs)
    answers = [pl.DataFrame(schema=SCHEMA)]
    for objective in asked:
        try:
            count = _connectors if objective.kind == "fresh" else _runs
            counts = count(frame, objective, moment)
        except ArgumentError as error:
            raise ArgumentError(f"objective {objective.name!r}: {error}") from error
        answers.append(_judged(counts, objective, is_known or objective.kind != "success", confidence))
    return returned(pl.concat(answers), jobs)


def threshold(objective: Objective, long: str, share: float) -> float:
    """The burn rate at which this share of the budget is gone within the long window.

    >>> threshold(Objective(name="Crawls succeed", kind="success", target=0.99, window="30d"), "1h", 0.02)
    14.4
    """
    return max(1.0, share * objective.window_ms / length_ms(long, "long"))


# ---- good and bad, on the caller's engine ----------------------------------------------------------------------------


def _runs(frame: Any, objective: Objective, moment: datetime | None) -> pl.DataFrame:
    """Good and bad runs of each group, in every window."""
    at, good, bad, excluded = _starts(objective) if objective.kind == "start" else _ends(frame)
    # What starts at once is known to be good before what waits is known to be bad, so neither counts before its time.
    now = (0 if moment is None else epoch_ms(moment)) - (length_ms(str(objective.within), "within") if at is DUE else 0)
    kinds = nw.col("connector").is_in(objective.connector) if objective.connector else ~nw.col("created_at").is_null()
    asked = ask(
        frame, where=kinds, at=at, taken=COUNTS, by=objective.by, every=None, since=None, until=None, no_clock=_NO_CLOCK
    )
    runs = asked.runs.with_columns(_ago=now - at_ms(asked.runs))
    is_within = (nw.col("_ago") >= 0) & (nw.col("_ago") < objective.window_ms)
    runs = runs.select(
        *(nw.col(key).cast(nw.String).fill_null(NONE).alias(key) for key in asked.keys),
        *flags({name: is_within & kind for name, kind in (("n_good", good), ("n_bad", bad), ("n_excluded", excluded))}),
        _ago=nw.col("_ago"),
    ).with_columns(n=nw.col("n_good") + nw.col("n_bad"))
    spans = {span: nw.col("_ago") < length_ms(span, "span") for span in SPANS}
    parts = {f"{name}_{span}": (nw.col(name) == 1) & is_in for span, is_in in spans.items() for name in ("n", "n_bad")}
    sums = (*COUNTS, *parts)
    counts = collected(runs.with_columns(*flags(parts)).group_by(asked.keys).agg(nw.col(*sums).sum()))
    return counts.join(_last(runs, asked.keys), on=asked.keys, how="left")


def _starts(objective: Objective) -> tuple[Any, ...]:
    within = length_ms(str(objective.within), "within")
    wait, is_exact = nw.col("queue_latency_ms"), nw.col("queue_latency_quality") == "exact"
    is_due = nw.col("eligible_source") != "id_suffix_lower_bound"
    # No quality understates a wait: what is not exact is a bound that it cannot exceed.
    good = STARTED & ~wait.is_null() & (wait <= within)
    late = STARTED & ~wait.is_null() & is_exact & (wait > within)
    has_waited = nw.col("observed_at") > nw.col("eligible_at") + nw.lit(timedelta(milliseconds=within))
    bad = late | (WAITING & is_due & TOLD & has_waited)
    return DUE, good, bad, (STARTED | WAITING) & ~good & ~bad


def _ends(frame: Any) -> tuple[Any, ...]:
    completed, failed = nw.col("state") == "completed", nw.col("state") == "failed"
    at: tuple[str, ...] = ("finished_at", "processed_at", "started_at", "created_at")
    if "ended_before_at" in frame.collect_schema().names():
        unseen = ~nw.col("is_ended") & ~nw.col("ended_before_at").is_null()
        completed = completed | (unseen & nw.col("is_failure_ruled_out"))
        at = (at[0], "ended_after_at", *at[1:])
    return at, completed, failed, STARTED & ~completed & ~failed


def _last(runs: Any, keys: list[str]) -> pl.DataFrame:
    """The newest runs of each group, in windows counted in runs."""
    known = runs.filter(nw.col("n") == 1).select(*keys, "_ago", "n_bad", "n_good")
    # The newest runs of busy groups lie in the last day; only quiet groups are looked at beyond it.
    is_new = nw.col("_ago") < UNITS["d"]
    busy = known.with_columns(*flags({"_new": is_new})).group_by(keys).agg(nw.col("_new").sum())
    newest = known.join(busy, on=keys).filter(is_new | (nw.col("_new") < max(LASTS)))
    placed = newest.with_columns(_place=nw.col("_ago").cum_count().over(*keys, order_by=["_ago", "n_good"]))
    parts = {f"n_last_{k}": nw.col("_place") <= k for k in LASTS}
    bad = {f"n_bad_last_{k}": (nw.col("_place") <= k) & (nw.col("n_bad") == 1) for k in LASTS}
    return collected(placed.with_columns(*flags(parts | bad)).group_by(keys).agg(nw.col(*parts, *bad).sum()))


def _connectors(frame: Any, objective: Objective, moment: datetime | None) -> pl.DataFrame:
    """Fresh connectors of each group, and those that are not."""
    within = 2 if objective.within is None else objective.within
    table = collected(nw.from_native(freshness(frame.to_native(), until=moment, within=within)).lazy())
    if objective.connector:
        table = table.filter(pl.col("connector").is_in(objective.connector))
    good, bad, excluded = (
        pl.col("status").is_in(names) for names in (["fresh"], ["stale", "never"], ["unknown", "pending"])
    )
    keys = list(objective.by) or ["_all"]
    return (
        table.with_columns(_all=pl.lit("0"), n_good=good, n_bad=bad, n=good | bad, n_excluded=excluded)
        .group_by(pl.col(keys).fill_null(NONE))
        .agg(pl.col(COUNTS).sum())
    )


# ---- what it comes to ------------------------------------------------------------------------------------------------


def _judged(counts: pl.DataFrame, objective: Objective, is_known: bool, confidence: float) -> pl.DataFrame:
    """The rows of one objective."""
    what = "connectors" if objective.kind == "fresh" else "runs"
    n, budget = pl.col("n"), round(1 - objective.target, 12)
    shares = (*rate("n_good", "n", "attainment", confidence), *_burns(objective, budget))
    table = _whole(counts, objective).with_columns(*shares)
    table = table.with_columns(
        _alert=_alert(objective, budget, confidence),
        budget_runs=budget * n,
        budget_left=pl.when(budget * n > 0).then(1 - pl.col("n_bad") / (budget * n)),
        reason=pl.when(not is_known)
        .then(pl.lit("completed runs are not in the data"))
        .when(n < objective.enough)
        .then(pl.lit(f"fewer than {objective.enough} {what}"))
        .when(pl.col("n_excluded") > n)
        .then(pl.lit(f"more {what} unknown than known")),
        objective=pl.lit(objective.name),
        kind=pl.lit(objective.kind),
        by=pl.lit(", ".join(objective.by)),
        target=pl.lit(objective.target),
    )
    table = table.with_columns(alert=pl.when(pl.col("reason").is_null()).then("_alert"))
    verdict = (
        pl.when(pl.col("reason").is_not_null())
        .then(pl.lit("not enough data"))
        .when(pl.col("attainment") < objective.target)
        .then(pl.lit("breached"))
        .when(pl.col("alert").is_not_null())
        .then(pl.lit("at risk"))
        .otherwise(pl.lit("met"))
    )
    if not is_known:
        table = table.with_columns(pl.lit(None).alias(name) for name in MEASURES)
    return table.with_columns(verdict=verdict).select(SCHEMA.names()).cast(SCHEMA).sort("group")


def _whole(counts: pl.DataFrame, objective: Objective) -> pl.DataFrame:
    """With a name for each group, a row where there is none, and every count."""
    keys = list(objective.by)
    if counts.is_empty():
        counts = pl.DataFrame(dict.fromkeys(keys, NONE) or {"_all": "0"})
    names = [
        *COUNTS,
        *(f"{name}_{span}" for span in (*SPANS, *(f"last_{k}" for k in LASTS)) for name in ("n", "n_bad")),
    ]
    lacking = [pl.lit(0).alias(name) for name in names if name not in counts.columns]
    group = pl.concat_str(keys, separator=", ") if keys else pl.lit("(all)")
    return counts.with_columns(*lacking, group=group).with_columns(pl.col(names).fill_null(0).cast(pl.Int64))


def _burns(objective: Objective, budget: float) -> list[pl.Expr]:
    spans = {f"burn_{span}": (span, objective.enough) for span in LONG} | {
        f"burn_last_{k}": (f"last_{k}", k) for k in LASTS
    }
    return [
        pl.when(pl.col(f"n_{span}") >= least, budget > 0).then(_burn(span, budget)).alias(name)
        for name, (span, least) in spans.items()
    ]


def _burn(span: str, budget: float) -> pl.Expr:
    # Of no runs the share is NaN, which Polars holds to be above every threshold.
    n = pl.col(f"n_{span}")
    return pl.when(n > 0).then(pl.col(f"n_bad_{span}") / n / (budget or 1))


def _alert(objective: Objective, budget: float, confidence: float) -> pl.Expr:
    """The most urgent alert that is on."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)

    def is_more_than_chance(span: str) -> pl.Expr:
        n, bad = pl.col(f"n_{span}"), pl.col(f"n_bad_{span}")
        return (bad >= 2) & (bad - 0.5 - n * budget >= z * (n * budget * (1 - budget)).sqrt())

    alerts = [
        (
            pl.col(f"burn_{long}").is_not_null()
            & is_more_than_chance(long)
            & (_burn(long, budget) >= threshold(objective, long, share))
            & (_burn(short, budget) >= threshold(objective, long, share)),
            urgency,
        )
        for long, short, share, urgency in ALERTS
        if length_ms(long, "long") < objective.window_ms
    ]
    alerts += [(pl.col(f"burn_last_{k}").is_not_null() & is_more_than_chance(f"last_{k}"), "ticket") for k in LASTS]
    alert = pl.lit(None, pl.String)
    for is_on, urgency in reversed(alerts):
        alert = pl.when(is_on.fill_null(False)).then(pl.lit(urgency)).otherwise(alert)
    return alert if objective.kind != "fresh" else pl.lit(None, pl.String)
