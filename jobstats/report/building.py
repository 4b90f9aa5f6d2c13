"""From jobs to a report: all analyses of the period, what they come to, and what has changed."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import narwhals as nw
import polars as pl

from jobstats.analysis.asking import STARTED, as_of, ask, collected, opened
from jobstats.analysis.quality import quality
from jobstats.errors import ArgumentError
from jobstats.histories import history, is_history
from jobstats.moments import Moment
from jobstats.objectives import Objectives, as_objectives
from jobstats.parquet import sink
from jobstats.reasons import Rules, ruleset
from jobstats.report import changes, sentences
from jobstats.report import period as periods
from jobstats.report.cells import moment
from jobstats.report.exhibits import Asking, exhibited
from jobstats.report.figures import figures, scorecard
from jobstats.report.model import (
    SCHEMA_VERSION,
    Finding,
    ObjectiveResult,
    Period,
    Previous,
    Provenance,
    Report,
    Stale,
    Status,
    Verdict,
)
from jobstats.report.reach import FIRST_YEAR, reach
from jobstats.table import RECORD_SCHEMA, SCHEMA
from jobstats.wording import plural, safe

_MESSAGE_CHARACTERS = 500
_AHEAD = timedelta(days=1)


class Built(NamedTuple):
    """A report, and by the id of an exhibit the frame that its chart draws."""

    report: Report
    frames: dict[str, pl.DataFrame]


class Told(NamedTuple):
    """What the caller says of a report, beside its numbers."""

    title: str = "Job queue report"
    key: str = ""
    sources: tuple[str, ...] = ()
    options: Mapping[str, str] = {}


def build(
    jobs: pl.DataFrame | pl.LazyFrame,
    rejects: pl.DataFrame,
    *,
    since: Moment = None,
    until: Moment = None,
    objectives: Objectives = (),
    rules: Rules = None,
    previous: Callable[[Period], Report | None] = lambda _: None,
    told: Told = Told(),  # noqa: B008  a tuple, which cannot change
) -> Built:
    """All analyses of a report for the runs in [since, until); what the data can tell is told of all of it.

    Args:
        jobs: Observations, or a history. A lazy frame may be larger than memory.
        rejects: What was refused of them.
        since: Only runs at or after this; ages in days are whole days (:func:`jobstats.report.period.cut`).
        until: Only runs before this.
        objectives: Service level objectives: a file, or a list.
        rules: Rules of failure reasons.
        previous: Gives the report to compare with, once the period is known.
        told: Title, key, sources and options, which are printed as they are.

    Raises:
        ArgumentError: A time that cannot be read, an objective or a rule that is wrong.
    """
    known, wanted = ruleset(rules), as_objectives(objectives)
    now = as_of(opened(jobs))
    begin, end = periods.cut(since, until, now)
    reached = None
    if not is_history(jobs):
        within = reach(jobs.lazy(), begin, end or now, wanted)
        jobs, reached = (within.jobs.collect() if isinstance(jobs, pl.DataFrame) else within.jobs), within.since
    with ExitStack() as stack:
        runs = _history(jobs, stack)
        findings = quality(_timeless(jobs), rejects, rules=known, runs=runs)
        recent = _recent(runs, begin, end or now)
        seen = _happened(recent, now)
        first = max(begin, seen[0]) if begin and seen[0] else begin or seen[0]
        last = min(end, seen[1]) if end and seen[1] else end or seen[1]
        if first and last and first > last:  # nothing was seen of the period
            first, last = begin or first, end or last
        asking = Asking(
            runs=runs,
            recent=recent,
            observations=_observations(jobs, runs),
            reached=reached,
            now=now,
            seen=seen,
            since=begin,
            until=end,
            # What is stale or stuck at a moment that nobody has seen yet, nobody knows.
            judged=None if until is None or (now and end and end > now) else end,
            every=periods.every(first, last),
            baseline=periods.baseline(begin, end or now),
            objectives=wanted,
            rules=known,
        )
        return _composed(asking, findings, previous, told)


def _history(jobs: pl.DataFrame | pl.LazyFrame, stack: ExitStack) -> pl.DataFrame | pl.LazyFrame:
    """A row a run: in memory where the observations are, else in a file, which analyses read a column at a time."""
    if is_history(jobs):
        return jobs
    jobs = _timeless(jobs)
    if isinstance(jobs, pl.DataFrame):
        return history(jobs)
    folder = stack.enter_context(TemporaryDirectory(prefix="jobstats-"))
    file = Path(folder) / "runs.parquet"
    sink(history(jobs), file)
    return pl.scan_parquet(file)


def _timeless(jobs: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame | pl.LazyFrame:
    """Observations as a jobs table: of those that a report reaches nothing is concluded yet, nor asked."""
    lacking = [
        pl.lit(None, dtype).alias(name) for name, dtype in SCHEMA.items() if name not in jobs.lazy().collect_schema()
    ]
    return jobs.with_columns(lacking)


def _recent(runs: pl.DataFrame | pl.LazyFrame, begin: datetime | None, end: datetime | None) -> pl.LazyFrame:
    """The runs that matter for the period and the window before it: those that anything happened to, or may have.

    Those of a period are in memory, as they are asked many questions; all there are may not fit.
    """
    if begin is None or end is None:
        return runs.lazy()
    earliest = begin - (end - begin) if begin.year > FIRST_YEAR else begin
    times = ("created_at", "eligible_at", "started_at", "finished_at", "ended_before_at")
    matters = pl.any_horizontal(pl.col(times) >= earliest) | ~pl.col("is_ended")
    return runs.lazy().filter(matters).collect(engine="streaming").lazy()


def _observations(jobs: pl.DataFrame | pl.LazyFrame, runs: pl.DataFrame | pl.LazyFrame) -> pl.LazyFrame:
    """All runs, and of those at work what was seen of them earlier, which tells whether they go on."""
    active = pl.col("state") == "active"
    ids = runs.lazy().filter(active).select("job_id").drop_nulls().unique().collect(engine="streaming").to_series()
    earlier = jobs.lazy().select(RECORD_SCHEMA.names()).filter(pl.col("job_id").is_in(ids.implode()))
    seen = earlier.with_columns(is_latest=pl.lit(value=False)).collect(engine="streaming")
    return pl.concat([runs.lazy(), seen.lazy()], how="diagonal")


def _happened(recent: pl.LazyFrame, now: datetime | None) -> tuple[datetime | None, datetime | None]:
    """The first and the last time that anything is known to have happened, as far as windows should show it.

    A clock may be ahead; a time of more than a day after all was seen is none that anything happened at.
    """
    ran = recent.filter("is_latest", pl.col("started_at").is_not_null() | pl.col("is_ended"))
    moments = pl.col("eligible_at", "started_at", "finished_at")
    if now is not None:
        moments = moments.filter(moments - _AHEAD <= now)
    ends = ran.select(moments.min().name.prefix("first_"), moments.max().name.prefix("last_"))
    ends = ends.select(pl.min_horizontal("^first_.*$"), pl.max_horizontal("^last_.*$"))
    first, last = ends.collect(engine="streaming").row(0)
    return first, max((at for at in (last, now) if at), default=None)


def _composed(asking: Asking, findings: pl.DataFrame, earlier: Callable[[Period], Report | None], told: Told) -> Built:
    period = _period(asking)
    previous = earlier(period)
    sections, frames = exhibited(asking)
    results = _results(frames.get("slo"))
    numbers = figures(asking, frames, results)
    reasons = frames["reasons"].filter(pl.col("n") > 0)
    causes = {str(key): str(cause) for key, cause in reasons.select("cause_id", "cause").iter_rows()}
    late = frames["freshness"].filter(sentences.IS_STALE).to_dicts()
    stale = tuple(Stale(key=changes.key_of(row), name=changes.instance(row)) for row in late)
    changed = changes.since_window(frames.get("compare"))
    if previous:
        changed = (*changes.since_report(previous, numbers, results, causes, stale), *changed)
    wanting = changes.attention(frames["reasons"], frames["freshness"], frames["stuck"])
    limits = tuple(
        Finding(check=row["check"], severity=row["severity"], message=safe(row["message"], _MESSAGE_CHARACTERS))
        for row in findings.to_dicts()
    )
    report = Report(
        title=safe(told.title, 120),
        period=period,
        population=_population(asking),
        verdict=_verdict(
            results, changes.counts(frames["reasons"], frames["freshness"], frames["stuck"]), changed, limits
        ),
        objectives=results,
        figures=numbers,
        changes=changed,
        previous=_previous(previous),
        attention=wanting,
        headlines=(
            sentences.latency_by_connector(frames["latency"]),
            sentences.rates_by_connector(frames["rates"]),
            sentences.reasons(frames["reasons"]),
        ),
        scorecard=scorecard(asking, frames),
        sections=sections,
        findings=limits,
        causes=tuple(causes),
        stale=stale,
        provenance=Provenance(
            version=version("jobstats"), key=told.key, sources=told.sources, options=dict(told.options)
        ),
    )
    return Built(report, frames)


def _results(table: pl.DataFrame | None) -> tuple[ObjectiveResult, ...]:
    if table is None:
        return ()
    names = [name for name in ObjectiveResult.model_fields if name in table.columns]
    rows = table.select(names).with_columns(
        pl.Series(name, [safe(text) for text in table[name]]) for name in ("objective", "group")
    )
    return tuple(ObjectiveResult(**row) for row in rows.to_dicts())


def _period(asking: Asking) -> Period:
    at = ("eligible_at", "created_at")
    asked = ask(asking.recent, where=STARTED, at=at, taken=(), by=None, every=None, **asking.window)
    first, last = collected(asked.runs.select(first=nw.col("_at").min(), last=nw.col("_at").max())).row(0)
    return Period(
        since=asking.since,
        until=asking.until,
        first=first,
        last=last,
        observed=asking.now,
        reached=asking.reached,
        every=asking.every,
    )


def _population(asking: Asking) -> str:
    """How much there is, in all and whatever the period."""
    is_run = pl.col("state") != "paused"
    instances = pl.struct("org_id", "connector", "connector_id")
    row = (
        asking.runs.lazy()
        .select(
            n=is_run.sum(),
            seen=pl.col("n_observations").filter(is_run).sum(),
            paused=(~is_run).sum(),
            connectors=instances.filter(is_run).n_unique(),
            kinds=pl.col("connector").filter(is_run).n_unique(),
            orgs=pl.col("org_id").filter(is_run).n_unique(),
        )
        .collect(engine="streaming")
        .row(0, named=True)
    )
    records = f"{plural(row['seen'], 'observation')} of {plural(row['n'], 'run')}"
    if row["paused"]:
        records += f" (and {plural(row['paused'], 'paused job')})"
    # The period has fewer.
    whole = " in all" if asking.since or asking.until else ""
    if asking.reached:
        whole = f" seen since {moment(asking.reached)} UTC"
    return (
        f"{records}{whole}: {plural(row['connectors'], 'connector')} of {plural(row['kinds'], 'kind')}, "
        f"{plural(row['orgs'], 'organisation')}"
    )


def _previous(previous: Report | None) -> Previous | None:
    if previous is None:
        return None
    span = previous.period
    return Previous(key=previous.provenance.key, since=span.since, until=span.until, observed=span.observed)


def _verdict(results: Any, news: dict[str, int], changed: Any, limits: Any) -> Verdict:
    """The worst that holds: an objective breached, something new or broken, a limit that hides how runs end."""
    parts: list[str] = []
    breached = [result for result in results if result.verdict == "breached"]
    at_risk = [result for result in results if result.verdict == "at risk"]
    unjudged = [result for result in results if result.verdict == "not enough data"]
    if results:
        counts = [(breached, "breached"), (at_risk, "at risk"), (unjudged, "cannot be judged")]
        words = ", ".join(f"{len(found)} {what}" for found, what in counts if found) or "all met"
        parts.append(f"{plural(len(results), 'objective')}: {words}")
    parts += [plural(n, noun) for noun, n in news.items() if n]
    if any(change.direction == "worse" for change in changed):
        parts.append("changes for the worse")
    hidden = [limit for limit in limits if limit.severity == "error"]
    if hidden:
        parts.append("how most runs ended is not in the data")
    status: Status = (
        "bad"
        if breached
        else "caution"
        if at_risk or any(news.values()) or any(change.direction == "worse" for change in changed)
        else "unknown"
        if hidden or unjudged
        else "good"
    )
    return Verdict(status=status, headline=("; ".join(parts) or "nothing new, stale or stuck") + ".")


def read_report(path: str | Path) -> Report:
    """A ``report.json`` that was written before.

    Raises:
        ArgumentError: It cannot be read, or is none.
    """
    try:
        report = Report.model_validate_json(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ArgumentError(f"{path}: not a report of jobstats: {reason}") from error
    if report.schema_version > SCHEMA_VERSION:
        raise ArgumentError(f"{path}: not a report of jobstats: its format {report.schema_version} is newer than this")
    return report
