"""How long ago did each connector last succeed, and is that too long?"""

from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import narwhals as nw
import polars as pl

from jobstats.analysis.asking import alike, as_of, at_ms, coded, collected, flags, is_estimable, opened, returned
from jobstats.errors import ArgumentError
from jobstats.firing import fire_times
from jobstats.moments import UNITS, Moment, epoch_ms, instant, length_ms
from jobstats.reasons import Rules, classify, ruleset
from jobstats.timing import RERUN_MS

Frame = TypeVar("Frame")
CONNECTOR = ("org_id", "connector", "connector_id")
"""What makes an instance of a connector."""
COLUMNS = (
    *CONNECTOR,
    *("status", "last_success_at", "last_success_source", "age_ms", "period_ms", "age_periods"),
    *("last_start_at", "last_failure_at", "cause", "failing_since_at", "mttr_ms", "mtbf_ms"),
    *("n_failing", "n_outages", "n_open_outages"),
    *("n", "n_completed", "n_failed", "n_open", "n_ended_unseen", "n_unsettled"),
)
PICKED_MS = 2_000
"""A schedule's first run is created within a second of the request; every other one when the run before it starts."""

_NONE = "\ue000"
"""Stands for null in keys that are joined, where null would equal nothing. A private character: no id holds it."""
_SCHEDULE = ("schedule_cron", "schedule_timezone", "schedule_every_ms", "schedule_enabled", "_is_paused")
_TIMES = ("created_at", "eligible_at", "started_at", "requested_at", "observed_at", "ended_at")
_UNSEEN = ("ended_after_at", "ended_before_at")
_TALLIES = ("n_completed", "n_failed", "n_open", "n_ended_unseen")
_LATEST = ("_seen_ok", "_inferred_ok", "_latest_ok", "_failed", "_started", "_picked", "_recurred")
_SINCE = ("_loose", "_picks", "_starts", "n_failing")
"""What runs are counted since the last success of their connector."""
_FAR = 2**60
"""Longer ago than any time."""
_LAST_INT64 = 2**63 - 1
_NO = nw.lit(0) == 1


class _Limit(NamedTuple):
    periods: float | None
    ms: int | None


def freshness(jobs: Frame, *, until: Moment = None, within: float | str = 2, rules: Rules = None) -> Frame:
    """Time since the last success of each connector, judged by its own schedule, with its failing streak and outages.

    Age is the time from the end of the last run that succeeded to the newest observation, as dbt's source freshness
    and Dagster's freshness policies measure it, and a connector is *stale* when that is longer than ``within``. By
    default these are two periods of its own schedule: a healthy connector is up to one period old, and its next run
    also waits and takes its time, so that one period would call everything stale now and then. The period is the
    longest time between two fires, for a schedule of Mondays and Thursdays four days.

    *An outage* is a maximal row of failed runs, in the order of their ends (of ends in the same millisecond a success
    counts as the later). Time to recover is from its first failure to the first success after it; an outage that is
    still open has none and is only counted. Time between failures is operating time by outages: the time from the
    first end known to the last, outside outages, by their number (total time on test: Epstein, B. & Sobel, M. (1953),
    Life testing).

    Success can be told of runs seen completed, and of runs of a :func:`jobstats.history` that ended unseen with
    failure ruled out. Where a run since the last success was due and not seen since, or must have started and left no
    record, as completed ones do on today's server, it may have succeeded: such a connector is ``unknown``, neither
    ``stale`` nor ``never``.

    Args:
        jobs: A jobs table: Polars, DuckDB or Spark.
        until: Judge as of this moment, by what had happened by then; a datetime, ISO text or an age such as ``"7d"``.
            The newest observation by default. There is no ``since``: a success counts however long ago it was.
        within: How old is not too old: a number of periods, or a length such as ``"26h"``.
        rules: A file of rules for ``cause`` on top of the shipped ones, or a set.

    Returns:
        ``org_id``, ``connector``, ``connector_id``, ``status``, ``last_success_at``, ``last_success_source``
        (``seen``, or ``inferred`` from a history: no later than it was), ``age_ms``, ``period_ms`` (null for one-time
        schedules and crons that cannot be read), ``age_periods`` (their ratio, to sort the worst first across
        schedules), ``last_start_at``, ``last_failure_at``, ``cause`` (of that failure), ``failing_since_at`` (first
        failure of the streak), ``mttr_ms`` (mean over closed outages, else null), ``mtbf_ms`` (null without an
        outage), ``n_failing`` (failed runs since the last success), ``n_outages``, ``n_open_outages``, ``n`` (ended
        runs), ``n_completed``, ``n_failed``, ``n_open`` (started, end not seen), ``n_ended_unseen`` (those of them
        that a history says have ended), ``n_unsettled`` (runs since the last success that may have succeeded).
        Sorted by organisation and connector.

        ``status`` is ``paused`` or ``disabled`` if the connector's newest record is. Otherwise, with a success, it is
        ``unscheduled`` (nothing says how old is too old), ``fresh``, ``stale``, or ``unknown`` (it may have succeeded
        since); without one, ``pending`` (none has failed, and none has been due for longer than ``within``),
        ``unknown`` (one may have succeeded unseen, or completed runs are not in the data) or ``never``.

    Raises:
        ArgumentError: A time, length or rule that does not exist.
        TableError: ``jobs`` is not a jobs table.

    >>> import jobstats as js
    >>> jobs, rejects = js.load("data/dump")
    >>> freshness(jobs).sort("n_failing", descending=True).select("connector", "status", "n_failing", "cause").row(0)
    ('Dropbox', 'never', 10, 'HTTP 429')
    """
    limit, known = _limit(within), ruleset(rules)
    frame = opened(jobs)
    moment = instant(until, "until", lambda: as_of(frame)) or as_of(frame)
    now = 0 if moment is None else epoch_ms(moment)
    runs = _runs(frame, now)
    table = _tallied(runs)
    since = _since(runs, table, now)
    for part in (_unsettled(since), _outages(since, now)):
        table = table.join(part, on="_id", how="left")
    table = table.join(_causes(runs, table, known), on=CONNECTOR, how="left")
    return returned(_judged(_measured(table, now), limit, now), jobs)


def _limit(within: float | str) -> _Limit:
    if isinstance(within, str):
        return _Limit(None, length_ms(within, "within"))
    if isinstance(within, bool) or not isinstance(within, int | float) or not 0 < within < float("inf"):
        raise ArgumentError(f"within must be a number of periods above 0, or a length such as '26h'; found {within!r}")
    return _Limit(float(within), None)


# ---- on the caller's engine ------------------------------------------------------------------------------------------


def _runs(frame: Any, now: int) -> Any:
    """What matters of each run as of ``now``: few columns, times as integers, keys without nulls."""
    is_history = "ended_before_at" in frame.collect_schema().names()
    ended_at = nw.coalesce("finished_at", "processed_at", "started_at", "created_at")  # torn records lack the first
    frame = frame.filter(nw.col("is_latest")).with_columns(ended_at=ended_at)
    names = (*_TIMES, *(_UNSEEN if is_history else ()))
    frame = frame.with_columns(at_ms(frame, name).alias(f"_{name}") for name in names)
    end, after, before = (nw.col("_ended_at"),) * 3
    ended, unseen, inferred = nw.col("is_ended") & (end <= now), _NO, _NO
    if is_history:
        after, before = nw.coalesce("_ended_after_at", "_ended_before_at"), nw.col("_ended_before_at")
        unseen = ~nw.col("is_ended") & ~before.is_null() & (before <= now)
        inferred = unseen & nw.col("is_failure_ruled_out")
    completed, failed = ended & (nw.col("state") == "completed"), ended & (nw.col("state") == "failed")
    started, recurs = nw.col("_started_at") <= now, ~nw.col("schedule_key").is_null()
    conditions = (completed, failed, started & ~ended, unseen)
    times = {
        "_seen_ok": nw.when(completed).then(end),
        "_inferred_ok": nw.when(inferred).then(after),
        "_latest_ok": nw.when(inferred).then(before),
        "_failed": nw.when(failed).then(end),
        "_started": nw.when(started).then(nw.col("_started_at")),
        "_due": nw.when((nw.col("_eligible_at") <= now) | started).then(nw.coalesce("_eligible_at", "_started_at")),
        "_open": nw.when(~ended & ~inferred).then(nw.coalesce("_started_at", "_eligible_at")),
        "_picked": nw.when(recurs & (nw.col("_created_at") - nw.col("_requested_at") > PICKED_MS)).then(
            nw.col("_created_at")
        ),
        "_recurred": nw.when(recurs & started).then(nw.col("_started_at")),
    }
    return frame.filter(nw.col("_created_at") <= now).select(
        *(nw.col(name).fill_null(_NONE) for name in CONNECTOR),
        *(nw.col(name) for name in (*_SCHEDULE[:-1], "failed_reason", "_created_at", "_observed_at")),
        *flags({_SCHEDULE[-1]: nw.col("state") == "paused", **dict(zip(_TALLIES, conditions, strict=True))}),
        **times,
    )


def _tallied(runs: Any) -> pl.DataFrame:
    """Counts and times of each connector, with its newest schedule and its number ``_id``."""
    keys, latest = list(CONNECTOR), ("_created_at", "_observed_at", *_LATEST)
    found = runs.group_by(*keys, *_SCHEDULE).agg(nw.col(*_TALLIES).sum(), nw.col(*latest).max(), nw.col("_due").min())
    # Of schedules as new as each other always the same one.
    table = collected(found).with_columns(pl.col(_TALLIES).cast(pl.Int64)).sort(*keys, "_created_at", *_SCHEDULE)
    return (
        table.group_by(keys, maintain_order=True)
        .agg(pl.col(_SCHEDULE).last(), pl.col(_TALLIES).sum(), pl.col(latest[1:]).max(), pl.col("_due").min())
        .with_columns(_last=pl.max_horizontal("_seen_ok", "_inferred_ok"))
        .with_row_index("_id")
        .with_columns(pl.col("_id").cast(pl.Int64))
    )


def _since(runs: Any, table: pl.DataFrame, now: int) -> pl.DataFrame:
    """Of each run the end, and whether it may have succeeded since the last success of its connector."""
    last = table.select(
        *CONNECTOR,
        "_id",
        _last_ok=pl.col("_last").fill_null(-_FAR),
        _known_until=pl.col("_observed_at").max().over("org_id").clip(upper_bound=now),
    )
    ended = nw.coalesce("_seen_ok", "_inferred_ok", "_failed")
    is_loose = (nw.col("_open") <= now) & (nw.col("_observed_at") < nw.col("_known_until"))
    conditions = (
        (nw.col("_open") > nw.col("_last_ok")) & is_loose,
        *(at > nw.col("_last_ok") for at in (nw.col("_picked"), nw.col("_recurred"), ended)),
    )
    joined = coded(runs.join(alike(last, runs), on=list(CONNECTOR)), dict(zip(_SINCE, conditions, strict=True)))
    return collected(
        joined.select(
            "_id",
            ended.alias("_end"),
            (1 - nw.col("n_failed")).cast(nw.Int8).alias("_ok"),
            nw.col("_code").cast(nw.Int8),
        )
    )


def _causes(runs: Any, table: pl.DataFrame, rules: Any) -> pl.DataFrame:
    """Why each connector failed last."""
    last = table.filter(pl.col("_failed").is_not_null()).select(*CONNECTOR, "_failed")
    failed = runs.filter(nw.col("n_failed") == 1).join(alike(last, runs), on=[*CONNECTOR, "_failed"])
    found = collected(failed.select(*CONNECTOR, nw.col("failed_reason").fill_null("")))
    texts = found.group_by(CONNECTOR).agg(pl.col("failed_reason").max())
    return texts.select(*CONNECTOR, classify(texts["failed_reason"], rules=rules)["cause"])


# ---- what it comes to ------------------------------------------------------------------------------------------------


def _unsettled(since: pl.DataFrame) -> pl.DataFrame:
    """How many runs of each connector there were since its last success, and of what kind."""
    recent = since.filter(pl.col("_code") > 0)
    counts = {name: (pl.col("_code").cast(pl.Int64) // 2**place % 2).sum() for place, name in enumerate(_SINCE)}
    return recent.group_by("_id").agg(**counts)


def _outages(since: pl.DataFrame, now: int) -> pl.DataFrame:
    """The outages of each connector."""
    spans = since.select(first=pl.col("_end").min(), last=pl.col("_end").max(), most=pl.col("_id").max()).row(0)
    first, last, most = (int(value or 0) for value in spans)
    # Connector, end and outcome as one number, which sorts many times as fast as three columns.
    width = 2 * (last - first + 1)
    of = pl.Int64 if (most + 1) * width <= _LAST_INT64 else pl.Int128
    rank = pl.col("_id").cast(of) * width + 2 * (pl.col("_end") - first) + pl.col("_ok")
    order = since.lazy().filter(pl.col("_end").is_not_null()).select(_rank=rank).sort("_rank").collect().lazy()
    number, is_ok = pl.col("_rank") // width, pl.col("_rank") % 2 == 1
    is_first = (number != number.shift(1)).fill_null(value=True)
    was_ok = is_first | is_ok.shift(1)
    steps = order.select(
        "_rank",
        _is_first=is_first,
        _is_last=is_first.shift(-1, fill_value=True),
        _begins=~is_ok & was_ok,
        _recovers=is_ok & ~was_ok,
    )
    # Most runs are like the one before, and tell nothing.
    steps = steps.filter(pl.any_horizontal("_is_first", "_is_last", "_begins", "_recovers"))
    end = (pl.col("_rank") % width // 2 + first).cast(pl.Int64)
    steps = steps.with_columns(_id=number.cast(pl.Int64), _end=end)
    begins, recovers, age = pl.col("_begins"), pl.col("_recovers"), now - pl.col("_end")
    return (
        steps.group_by("_id")
        .agg(
            n_outages=begins.cast(pl.Int64).sum(),
            _closed=recovers.cast(pl.Int64).sum(),
            _begun=pl.col("_end").filter(begins).max(),
            _begun_age=age.filter(begins).sum(),
            _recovered_age=age.filter(recovers).sum(),
            _last_end=pl.col("_end").max(),
            _end=pl.col("_end").min(),
        )
        .collect()
    )


def _measured(table: pl.DataFrame, now: int) -> pl.DataFrame:
    """With age, period and times between failures."""
    last, is_open = pl.col("_last"), pl.col("n_failing") > 0
    periods = {key: _period_ms(key[0], key[1], now) for key in table.select(_SCHEDULE[:2]).unique().iter_rows()}
    crons = pl.DataFrame(
        [(*key, period) for key, period in periods.items()],
        schema={**dict.fromkeys(_SCHEDULE[:2], pl.String), "_cron_ms": pl.Int64},
        orient="row",
    )
    down = pl.col("_begun_age") - pl.when(is_open).then(now - pl.col("_begun")).otherwise(0) - pl.col("_recovered_age")
    up = pl.when(is_open).then("_begun").otherwise("_last_end") - pl.col("_end") - down
    # Each pick is the start of the run before: where there are more, or a later one, runs have left no record.
    since = pl.max_horizontal(last, "_recurred")
    is_missing = (pl.col("_picked") - since.fill_null(0) > RERUN_MS).fill_null(False).cast(pl.Int64)
    return (
        table.join(crons, on=_SCHEDULE[:2], how="left", nulls_equal=True)
        .with_columns(pl.col(*_SINCE, "n_outages", "_closed").fill_null(0))
        .with_columns(
            pl.col(CONNECTOR).replace(_NONE, None),
            last_success_source=pl.when(last == pl.col("_seen_ok"))
            .then(pl.lit("seen"))
            .when(last.is_not_null())
            .then(pl.lit("inferred")),
            age_ms=now - last,
            period_ms=pl.coalesce("schedule_every_ms", "_cron_ms"),
            mttr_ms=pl.when(pl.col("_closed") > 0).then(down / pl.col("_closed")),
            mtbf_ms=pl.when(pl.col("n_outages") > 0, up > 0).then(up / pl.col("n_outages")),
            n_open_outages=pl.col("n_outages") - pl.col("_closed"),
            n=pl.col("n_completed") + pl.col("n_failed"),
            n_unsettled=pl.col("_loose") + pl.max_horizontal(pl.col("_picks") - pl.col("_starts"), is_missing, 0),
        )
    )


def _judged(table: pl.DataFrame, limit: _Limit, now: int) -> pl.DataFrame:
    """The answer, with the status of each connector."""
    estimable = is_estimable(*(int(table[name].sum()) for name in ("n_completed", "n", "n_open")))
    longest = pl.lit(limit.ms, pl.Int64) if limit.ms else pl.col("period_ms") * limit.periods
    has_no_success, may_have_succeeded = pl.col("_last").is_null(), pl.col("n_unsettled") > 0
    is_late = pl.when(longest.is_null()).then(pl.col("_due").is_not_null()).otherwise(now - pl.col("_due") > longest)
    is_early = ~is_late.fill_null(False) & (pl.col("n_failed") == 0)
    statuses = {
        "paused": pl.col("_is_paused") == 1,
        "disabled": ~pl.col("schedule_enabled"),
        "pending": has_no_success & is_early & ~may_have_succeeded,
        "unknown": has_no_success & (may_have_succeeded | pl.lit(not estimable)),
        "never": has_no_success,
        "unscheduled": longest.is_null(),
        "fresh": pl.col("age_ms") <= longest,
    }
    maybe = may_have_succeeded | (now - pl.max_horizontal("_seen_ok", "_latest_ok") <= longest)
    status = pl.when(maybe).then(pl.lit("unknown")).otherwise(pl.lit("stale"))
    for name, condition in reversed(statuses.items()):
        status = pl.when(condition).then(pl.lit(name)).otherwise(status)
    instants = {
        "last_success_at": pl.col("_last"),
        "last_start_at": pl.max_horizontal("_started", "_picked"),
        "last_failure_at": pl.col("_failed"),
        "failing_since_at": pl.when(pl.col("n_failing") > 0).then("_begun"),
    }
    return (
        table.with_columns(
            status=status,
            age_periods=pl.col("age_ms") / pl.col("period_ms"),
            **{name: at.cast(pl.Datetime("ms")).dt.replace_time_zone("UTC") for name, at in instants.items()},
        )
        .select(COLUMNS)
        .sort(CONNECTOR, nulls_last=True)
    )


def _period_ms(cron: str | None, timezone: str | None, now: int) -> int | None:
    """The longest time between two fires of late; None when it fires less than twice in three years."""
    fields = (cron or "").split()
    if len(fields) != 5 or timezone is None or cron is None:
        return None
    days = 3 * 366
    if fields[2:4] == ["*", "*"]:
        # Every day, or on certain days of every week: what differs between months has a "#" or an "L".
        days = 3 if fields[4] == "*" else 15 if "#" not in fields[4] and "L" not in fields[4].upper() else days
    fires = fire_times(cron, timezone, now - days * UNITS["d"], now) or []
    return max((later - earlier for earlier, later in pairwise(fires)), default=None)
