"""The exhibits of a report, section by section: what is asked, how it is drawn, told in a table and said in a sentence.

The order of a table is that of its chart, so that both begin with what matters.
"""

from collections.abc import Callable, Sequence
from datetime import MAXYEAR, datetime, timedelta
from typing import Any, NamedTuple

import polars as pl

from jobstats.analysis.attempts import attempts
from jobstats.analysis.backlog import backlog
from jobstats.analysis.compare import compare
from jobstats.analysis.concurrency import concurrency
from jobstats.analysis.drivers import drivers
from jobstats.analysis.failure_reasons import failure_reasons
from jobstats.analysis.freshness import freshness
from jobstats.analysis.queue_latency import queue_latency
from jobstats.analysis.retry_rates import retry_rates
from jobstats.analysis.schedule_adherence import schedule_adherence
from jobstats.analysis.slo import slo
from jobstats.analysis.stuck import stuck
from jobstats.analysis.timeline import timeline
from jobstats.errors import ArgumentError
from jobstats.moments import UNITS
from jobstats.objectives import Objective
from jobstats.report import sentences
from jobstats.report.cells import tabled
from jobstats.report.model import Exhibit, Section

_SPREAD = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)


class Asking(NamedTuple):
    """What exhibits ask their questions of."""

    runs: Any
    """All runs there are, a row each."""
    recent: pl.LazyFrame
    """Those that matter for the period and the window of the same length before it."""
    observations: Any
    """What progress is seen in."""
    reached: datetime | None
    """Where the observations begin that all of this rests on, but for what must not be forgotten."""
    now: datetime | None
    since: datetime | None
    until: datetime | None
    seen: tuple[datetime | None, datetime | None]
    """The first and the last that is known to have happened."""
    judged: datetime | None
    """When it is asked what is stale or stuck: where the caller did not say, at the newest observation."""
    every: str
    baseline: str | None
    objectives: Sequence[Objective]
    rules: Any

    @property
    def shown(self) -> dict[str, Any]:
        """What is drawn over time: the period, as far as anything was seen of it."""
        first, last = self.seen
        since = max(self.since, first) if self.since and first else self.since
        # Windows end before they are over; the last thing seen is in one.
        last = last + timedelta(milliseconds=1) if last and last.year < MAXYEAR else last
        until = min(self.until, last) if self.until and last else self.until or last
        return self.window if since and until and since >= until else {"since": since, "until": until}

    @property
    def window(self) -> dict[str, Any]:
        """The period, as analyses take it."""
        return {"since": self.since, "until": self.until}


class _Plan(NamedTuple):
    id: str
    title: str
    chart: str
    ask: Callable[[Asking], Any]
    say: Callable[[pl.DataFrame], str]
    columns: tuple[str, ...] = ()
    worst: tuple[str, ...] = ()
    """What the table is sorted by, greatest first; in its own order otherwise."""


class _Untold(NamedTuple):
    """An empty answer, and why it is one."""

    table: Any
    why: str


class _Group(NamedTuple):
    id: str
    title: str
    text: str
    plans: tuple[_Plan, ...]


def exhibited(asking: Asking) -> tuple[tuple[Section, ...], dict[str, pl.DataFrame]]:
    """All sections that have something to say, and by its id the frame that each exhibit draws."""
    sections, frames = [], {}
    for group in GROUPS:
        exhibits = []
        for plan in group.plans:
            answer = plan.ask(asking)
            if answer is None:
                continue
            answer, why = answer if isinstance(answer, _Untold) else (answer, None)
            table: pl.DataFrame = answer.lazy().collect()
            frames[plan.id] = table
            exhibits.append(_exhibit(plan, table, f"Not told: {why}." if why else plan.say(table)))
        if exhibits:
            sections.append(Section(id=group.id, title=group.title, text=group.text, exhibits=tuple(exhibits)))
    return tuple(sections), frames


def _exhibit(plan: _Plan, table: pl.DataFrame, sentence: str) -> Exhibit:
    keys = [name for name in plan.worst if name in table.columns]
    ranked = table.sort(keys, descending=True, nulls_last=True, maintain_order=True) if keys else table
    return Exhibit(
        id=plan.id,
        title=plan.title,
        sentence=sentence,
        chart=plan.chart if len(table) else None,
        table=tabled(ranked, plan.columns),
    )


def _by_hour(asking: Asking) -> Any:
    """Only where every hour of the week has come."""
    made = pl.col("created_at")
    first, last = asking.recent.select(made.min().alias("first"), made.max().alias("last")).collect().row(0)
    begin, end = asking.since or first, asking.until or last
    if not (begin and end) or (end - begin).total_seconds() * 1000 < UNITS["w"]:
        return None
    return queue_latency(asking.recent, by=["weekday", "hour"], **asking.window)


def _compared(asking: Asking) -> Any:
    """Only where there were runs before."""
    if asking.baseline is None:
        return None
    answer = compare(asking.recent, baseline=asking.baseline, **asking.window).collect()
    return answer if (answer["n_before"] > 0).any() else None


def _reasons(asking: Asking) -> Any:
    """With what changed where there was anything before."""
    ended = pl.coalesce("finished_at", "processed_at", "created_at")
    baseline = asking.baseline
    if asking.since is None or asking.recent.filter("is_ended", ended < asking.since).head(1).collect().is_empty():
        baseline = None
    return failure_reasons(asking.runs, rules=asking.rules, baseline=baseline, **asking.window)


def _attempts(asking: Asking) -> Any:
    """Unless a run has had so many that they cannot be told apart."""
    try:
        return attempts(asking.recent, **asking.window)
    except ArgumentError:
        return None


def _punctuality(asking: Asking) -> Any:
    """By connector, unless one schedule has runs of several or fires were too many: no reason for no report."""
    try:
        return schedule_adherence(asking.runs, by="connector", **asking.window)
    except ArgumentError:
        pass
    try:
        table = schedule_adherence(asking.runs, **asking.window).lazy().collect()
    except ArgumentError as error:
        return _Untold(schedule_adherence(asking.recent.clear(), by="connector", **asking.window), str(error))
    return table.select(pl.lit(None, pl.String).alias("connector"), pl.all())


def _objectives(asking: Asking) -> Any:
    if not asking.objectives:
        return None
    table: pl.DataFrame = slo(asking.runs, list(asking.objectives), until=asking.until).lazy().collect()
    order = ["breached", "at risk", "not enough data", "met"]
    rank = pl.col("verdict").replace_strict(order, range(len(order)), return_dtype=pl.Int64)
    return table.sort(rank, "budget_left", nulls_last=True, maintain_order=True)


_LATENCY = ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "max_ms", "n", "n_excluded", "n_waiting")
_RATES = (
    *("failure_rate", "failure_rate_low", "failure_rate_high", "retry_rate", "failure_rate_min", "failure_rate_max"),
    *("n", "n_failed", "n_retried", "n_open"),
)

GROUPS = (
    _Group(
        "objectives",
        "Objectives",
        "What was promised, what was kept, and how fast the error budget burns.",
        (
            _Plan(
                *("slo", "Service level objectives", "slo", _objectives, sentences.objectives),
                columns=(
                    *("objective", "group", "verdict", "alert", "attainment", "target", "budget_left"),
                    *("n", "n_bad", "n_excluded"),
                ),
            ),
        ),
    ),
    _Group(
        "change",
        "What changed",
        "The period against the window of the same length before it. Runs of one connector or one hour fail together, "
        "so what looks different may be chance; here only what surely differs all the same is called worse or better.",
        (
            _Plan(
                *("compare", "Before and after", "compare", _compared, sentences.compare),
                columns=(
                    *("measure", "cause", "verdict", "before", "after", "ratio", "q_value", "n_before", "n_after"),
                ),
            ),
        ),
    ),
    _Group(
        "latency",
        "Queue latency",
        "How long runs waited between being due and being started, by when they became due. Where n is below 59, the "
        "data bounds no p95: it is merely the longest waits seen.",
        (
            _Plan(
                "latency",
                "Queue latency by connector",
                "queue_latency",
                lambda asking: queue_latency(asking.recent, by="connector", **asking.window),
                sentences.latency_by_connector,
                ("connector", *_LATENCY),
                ("p95_ms",),
            ),
            _Plan(
                "latency_over_time",
                "Queue latency over time",
                "queue_latency",
                lambda asking: queue_latency(asking.recent, every=asking.every, **asking.shown),
                sentences.over_time("p95_ms", "p95"),
                ("bucket", *_LATENCY),
            ),
            _Plan(
                "latency_spread",
                "How waits are spread",
                "queue_latency",
                lambda asking: queue_latency(asking.recent, by="connector", q=_SPREAD, **asking.window),
                sentences.latency_by_connector,
                ("connector", "p5_ms", "p25_ms", "p50_ms", "p75_ms", "p95_ms", "n"),
                ("p95_ms",),
            ),
            _Plan(
                "latency_by_hour",
                "Queue latency by hour of the week",
                "queue_latency",
                _by_hour,
                sentences.by_hour,
                ("weekday", "hour", "p50_ms", "p95_ms", "n"),
                ("p95_ms",),
            ),
        ),
    ),
    _Group(
        "retries",
        "Retries and failures",
        "How many ended runs took more than one attempt, and how many failed for good, by when they started.",
        (
            _Plan(
                "rates",
                "Retried and failed runs by connector",
                "retry_rates",
                lambda asking: retry_rates(asking.recent, by="connector", **asking.window),
                sentences.rates_by_connector,
                ("connector", *_RATES),
                ("failure_rate_low", "failure_rate_min"),
            ),
            _Plan(
                "rates_over_time",
                "Retried and failed runs over time",
                "retry_rates",
                lambda asking: retry_rates(asking.recent, every=asking.every, **asking.shown),
                sentences.rates_over_time,
                ("bucket", *_RATES),
            ),
            _Plan(
                "attempts",
                "On which attempt runs succeed",
                "attempts",
                _attempts,
                sentences.attempts,
                ("attempts", "share", "success_rate", "n", "n_completed", "n_failed", "n_open"),
            ),
        ),
    ),
    _Group(
        "reasons",
        "Failure reasons",
        "The causes of the last error of each failed run, by when it ended. Errors that a retry overcame are counted "
        "beside, not among them. Texts are redacted, and what differs from run to run is masked.",
        (
            _Plan(
                "reasons",
                "Why runs failed",
                "failure_reasons",
                _reasons,
                sentences.reasons,
                (
                    *("cause", "category", "change", "n", "share", "n_recovered", "n_retrying", "n_connectors"),
                    *("first_seen_at", "last_seen_at", "example"),
                ),
            ),
            _Plan(
                "reasons_over_time",
                "Why runs failed, over time",
                "failure_reasons",
                lambda asking: failure_reasons(asking.recent, rules=asking.rules, every=asking.every, **asking.shown),
                lambda table: f"{int(table['n'].sum()):,} failed runs by cause and window.",
                ("cause", "bucket", "n", "n_recovered"),
                ("n",),
            ),
            _Plan(
                "drivers",
                "What failed runs have in common",
                "drivers",
                lambda asking: drivers(asking.recent, **asking.window),
                sentences.drivers,
                ("column", "value", "verdict", "rate", "other_rate", "lift", "share", "n", "n_bad"),
            ),
        ),
    ),
    _Group(
        "schedules",
        "Schedules",
        "Which expected fires of schedules were on time, late or missed. Fires whose fate is not known are in no rate.",
        (
            _Plan(
                "schedules",
                "Punctuality by connector",
                "schedule_adherence",
                _punctuality,
                sentences.schedules,
                (
                    *("connector", "on_time_rate", "missed_rate", "p95_ms", "n", "n_late", "n_missed", "n_pending"),
                    *("n_unknown", "n_expected"),
                ),
                ("n_missed", "n_late"),
            ),
            _Plan(
                "freshness",
                "Time since the last success",
                "freshness",
                lambda asking: freshness(asking.runs, until=asking.judged),
                sentences.freshness,
                (
                    *("connector", "connector_id", "status", "last_success_at", "age_ms", "period_ms", "n_failing"),
                    *("failing_since_at", "cause", "mttr_ms"),
                ),
                ("n_failing", "age_periods"),
            ),
        ),
    ),
    _Group(
        "load",
        "Load",
        "How many runs waited to be started and how many were at work: each start and end is counted, nothing is "
        "sampled. Runs at times not known are missing, and how many these are is said.",
        (
            _Plan(
                "backlog",
                "Runs waiting to be started",
                "backlog",
                lambda asking: backlog(asking.recent, every=asking.every, **asking.shown),
                sentences.backlog,
                ("bucket", "max_waiting", "mean_waiting", "oldest_wait_ms", "n_arrived", "n_started", "n_unknown"),
            ),
            _Plan(
                "concurrency",
                "Runs at work",
                "concurrency",
                lambda asking: concurrency(asking.recent, every=asking.every, **asking.shown),
                sentences.concurrency,
                ("bucket", "max_running", "mean_running", "oldest_run_ms", "n_started", "n_ended", "n_unknown"),
            ),
            _Plan(
                "stuck",
                "Runs that are stuck",
                "stuck",
                lambda asking: stuck(asking.observations, since=asking.since, until=asking.judged),
                sentences.stuck,
                (
                    *("connector", "connector_id", "kind", "evidence", "state", "since_at", "age_ms", "bound_ms"),
                    *("bound_of", "attempts_made", "job_id"),
                ),
            ),
            _Plan(
                "timeline",
                "The newest runs",
                "timeline",
                lambda asking: timeline(asking.recent, until=asking.judged),
                sentences.timeline,
                (
                    *("connector", "outcome", "eligible_at", "started_at", "ended_at", "queue_latency_ms"),
                    *("processing_ms", "attempts_made"),
                ),
            ),
        ),
    ),
)
