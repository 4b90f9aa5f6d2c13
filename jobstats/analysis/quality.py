"""What can this data tell, and what can it not?"""

from typing import Any, NamedTuple

import narwhals as nw
import polars as pl

from jobstats.analysis.asking import STARTED, WAITING, collected, counted, flags, is_estimable, opened
from jobstats.contract import SCHEDULE_TYPES, STATES
from jobstats.ends import MOST_LISTED
from jobstats.reasons import WORDLESS, Rules, classify
from jobstats.wording import duration, safe

_KEPT = 10
"""The server keeps this many completed and this many failed jobs of the whole deployment."""

_FEW = 0.01
"""Below this share a doubt changes no figure that is shown."""

SCHEMA = pl.Schema(
    {"check": pl.String, "severity": pl.String, "n": pl.Int64, "share": pl.Float64, "message": pl.String}
)
SEVERITIES = ("error", "warning", "note")


class _Check(NamedTuple):
    name: str
    severity: str
    n: int
    of: int
    message: str


def quality(jobs: Any, rejects: pl.DataFrame | None = None, *, rules: Rules = None, runs: Any = None) -> pl.DataFrame:
    """What this data can and cannot tell: every limit found, most severe first, in a plain sentence each.

    Args:
        jobs: A jobs table: Polars, DuckDB or Spark. Give it all observations: a history, a row a run, no longer shows
            which lists were cut off, how often the queue was looked at, or what was there twice.
        rejects: The rejects of the same load.
        rules: Rules of failure reasons: see :func:`jobstats.reasons.ruleset`.
        runs: The history of the same jobs, where it is at hand: what is asked of runs is then asked of it, and of the
            jobs only what records say themselves, which of a large store takes a fraction of the time.

    Returns:
        ``check`` (its name), ``severity`` (error: a figure cannot be had; warning: it may be biased; note: good to
        know; a warning about fewer than 1 in 100 is a note),
        ``n`` and ``share`` (records or runs affected) and ``message``. No row for what is in order; always Polars.

    Raises:
        ArgumentError: ``jobs`` is no frame, or a rule is wrong.
        TableError: ``jobs`` is not a jobs table.

    >>> import jobstats as js
    >>> js.quality(*js.load("data/polls")).select("check", "severity").row(0)
    ('outcomes_missing', 'error')
    """
    frame = opened(jobs)
    told = frame if runs is None else opened(runs)
    counts = _counts(frame, told)
    n_rejects = 0 if rejects is None else len(rejects)
    estimable = is_estimable(counts["completed"], counts["ended"], counts["open"])
    checks = (
        *_coverage(counts, estimable),
        *([] if "n_observations" in frame.collect_schema().names() else _series(counts, frame, told)),
        *_doubts(counts, estimable),
        _unknown(told, counts["failed"], rules),
        _rejects(counts, n_rejects),
    )
    rows = [(c.name, _severity(c), c.n, c.n / c.of if c.of else None, c.message) for c in checks if c.n]
    order = pl.col("severity").replace_strict(SEVERITIES, range(len(SEVERITIES)), return_dtype=pl.Int64)
    return pl.DataFrame(rows, schema=SCHEMA, orient="row").sort(order, maintain_order=True)


def _severity(check: _Check) -> str:
    return "note" if check.severity == "warning" and check.n < _FEW * check.of else check.severity


def _counts(frame: Any, told: Any) -> dict[str, int]:
    """Of records and of runs. What a record says itself is there without working out what happened when."""
    latest, ended = nw.col("is_latest"), nw.col("is_ended")
    grade = nw.col("queue_latency_quality")
    conditions = {
        "runs": latest,
        "started": latest & STARTED,
        "ended": latest & ended,
        "completed": latest & (nw.col("state") == "completed"),
        "failed": latest & (nw.col("state") == "failed"),
        "open": latest & STARTED & ~ended,
        "waiting": latest & WAITING,
        "undue": latest & STARTED & (grade == "unknown"),
        "bounded": latest & STARTED & (grade == "upper_bound"),
        "gaps": latest & (grade == "gap_or_late"),
        "last_attempt": latest & (grade == "last_attempt_only"),
        "torn": latest & nw.col("is_torn"),
        "skewed": latest & nw.col("is_clock_skewed"),
        "rerun": latest & nw.col("is_rerun_suspected"),
        "wordless": latest
        & (nw.col("state") == "failed")
        & (nw.col("failed_reason").is_null() | nw.col("failed_reason").str.strip_chars().is_in(WORDLESS)),
        "states": latest & ~nw.col("state").is_in(STATES),
        "types": latest & ~nw.col("schedule_type").is_in(SCHEDULE_TYPES),
    }
    if "ended_before_at" in told.collect_schema().names():
        conditions["ended_unseen"] = ~nw.col("ended_before_at").is_null()
    records = {
        "records": nw.lit(1) == 1,
        "undated": nw.col("observed_at").is_null(),
        "by_mtime": nw.col("observed_at_source") == "file_mtime",
    }
    counts = counted(told, conditions) | counted(frame, records)
    return counts | {"repeated": counts["records"] - counts["runs"]}


def _coverage(counts: dict[str, int], estimable: bool) -> list[_Check]:
    started, unseen, ended_unseen = counts["started"], counts["open"], counts.get("ended_unseen", 0)
    return [
        _Check(
            "outcomes_missing",
            "error",
            unseen if not estimable and started else 0,
            started,
            f"{unseen:,} of {started:,} runs that started have no outcome here. Today's server does not list "
            "completed runs, and queues forget old ones. Success, failure and retry rates cannot be estimated, only "
            "bounded; a whole dump of the queue would tell, or frequent exports narrow the bounds.",
        ),
        _Check(
            "ends_inferred",
            "note",
            ended_unseen,
            started,
            f"{ended_unseen:,} of {started:,} started runs ended unseen: complete lists leave them out. When is known "
            "within bounds, and how is not.",
        ),
    ]


def _series(counts: dict[str, int], frame: Any, told: Any) -> list[_Check]:
    """What only observations show, and a history of them no longer does."""
    # Reduced twice where the data is: there may be more lists than fit in memory.
    lists = (
        frame.filter(nw.col("state") != "paused")
        .group_by("observed_at", "org_id", "connector")
        .agg(
            nw.len().cast(nw.Int64).alias("rows"),
            nw.col("job_id").count().cast(nw.Int64).alias("named"),
            nw.col("job_id").n_unique().cast(nw.Int64).alias("ids"),
        )
        # Jobs without an id are different ones, and count as one id together.
        .with_columns(ids=nw.col("ids") - nw.when(nw.col("rows") > nw.col("named")).then(1).otherwise(0))
        .with_columns(jobs=nw.col("ids") + nw.col("rows") - nw.col("named"))
        .with_columns(
            *flags({"capped": nw.col("jobs") == MOST_LISTED}),
            twice=nw.when(~nw.col("observed_at").is_null()).then(nw.col("named") - nw.col("ids")).otherwise(0),
        )
    )
    kinds = collected(
        lists.group_by("connector").agg(
            nw.len().alias("n"), nw.col("capped", "twice").sum(), nw.col("jobs").max().alias("fullest")
        )
    )
    n_lists, n_capped, twice = (int(kinds[name].sum() or 0) for name in ("n", "capped", "twice"))
    fullest = kinds["fullest"].max()
    names = ", ".join(kinds.filter(pl.col("capped") > 0)["connector"].drop_nulls().unique().sort().head(5))
    records = counts["records"]
    return [
        _gaps(frame, told),
        _retention(counts),
        _Check(
            "duplicates",
            "note",
            twice,
            records,
            f"{twice:,} of {records:,} records are of a run that another record shows at the same time: exports were "
            "loaded twice. They count once.",
        ),
        _Check(
            "row_cap",
            "warning",
            n_capped if fullest == MOST_LISTED else 0,
            n_lists,
            f"{n_capped:,} lists hold exactly {MOST_LISTED} jobs, the most the server shows for a connector type and "
            f"organisation ({names}): busy connectors are cut off.",
        ),
    ]


def _retention(counts: dict[str, int]) -> _Check:
    """Ended runs that number exactly what the server keeps."""
    kept = [f"{_KEPT} {state}" for state in ("completed", "failed") if counts[state] == _KEPT]
    return _Check(
        "retention",
        "warning",
        _KEPT * len(kept),
        counts["ended"],
        f"Exactly {' and '.join(kept)} runs are here, as many as the server keeps of all it ran: older ones are "
        "forgotten, and the shares of completed and failed runs say nothing of how often runs fail.",
    )


def _gaps(frame: Any, told: Any) -> _Check:
    """Looks at a queue that lie further apart than the runs of one of its schedules."""
    fired = told.filter(~nw.col("iteration_at").is_null()).select("org_id", "schedule_key", "iteration_at").unique()
    seen = frame.filter(~nw.col("observed_at").is_null()).select("org_id", "observed_at").unique()
    spacing = pl.col("iteration_at").diff().over("org_id", "schedule_key")
    shortest = (
        collected(fired)
        .sort("iteration_at")
        .select("org_id", spacing=spacing.dt.total_milliseconds())
        .group_by("org_id")
        .agg(pl.col("spacing").min())
    )
    gaps = (
        collected(seen)
        .sort("observed_at")
        .select("org_id", gap=pl.col("observed_at").diff().over("org_id").dt.total_milliseconds())
        .drop_nulls("gap")
        .join(shortest, on="org_id", nulls_equal=True)
    )
    long = gaps.filter(pl.col("gap") > pl.col("spacing")).sort("gap", "org_id", descending=[True, False])
    if long.is_empty():
        return _Check("polling_gaps", "warning", 0, len(gaps), "")
    worst = long.row(0, named=True)
    return _Check(
        "polling_gaps",
        "warning",
        len(long),
        len(gaps),
        f"{len(long):,} of {len(gaps):,} pauses between exports are longer than the shortest schedule, at worst "
        f"{duration(worst['gap'])} where one runs every {duration(worst['spacing'])}. Runs between may be missing.",
    )


def _doubts(counts: dict[str, int], estimable: bool) -> list[_Check]:
    started, runs, records = counts["started"], counts["runs"], counts["records"]

    def check(name: str, severity: str, key: str, of: int, what: str) -> _Check:
        return _Check(name, severity, counts[key], of, f"{counts[key]:,} of {of:,} {what}")

    return [
        check(
            "due_unknown",
            "warning",
            "undue",
            started,
            "started runs have no due time that holds, so their waits are not known. They are left out of quantiles.",
        ),
        check(
            "wait_bounded",
            "warning",
            "bounded",
            started,
            "waits are upper bounds: due time or first start is not fully known. They are left out of quantiles.",
        ),
        check(
            "wait_gap",
            "warning",
            "gaps",
            started,
            "waits may span a missing run of their schedule. They are left out of quantiles.",
        ),
        check(
            "first_start_unknown",
            "warning",
            "last_attempt",
            started,
            "started runs were retried or stalled and keep only their last start. Their waits are left out.",
        ),
        _Check(
            "still_waiting",
            "warning",
            counts["waiting"],
            started + counts["waiting"],
            f"{counts['waiting']:,} runs were due and had not started when last seen. They are in no quantile, which "
            "flatters a queue that is stuck.",
        ),
        _Check(
            "ends_unseen",
            "warning",
            counts["open"] if estimable else 0,
            started,
            f"{counts['open']:,} of {started:,} runs that started have no end here. They are in no rate, which "
            "biases it: those that retry end last, and those that completed are forgotten first. Its bounds hold.",
        ),
        check(
            "clock_skew",
            "warning",
            "skewed",
            started,
            "started runs start before they are due or end before they start: clocks differ, or jobs were promoted.",
        ),
        check(
            "observed_by_mtime",
            "warning",
            "by_mtime",
            records,
            "records take their time of observation from the file's modification time, which copying can change.",
        ),
        check("observed_unknown", "warning", "undated", records, "records do not say when they were seen."),
        check(
            "reruns",
            "note",
            "rerun",
            started,
            "started runs were probably started again after a stall, which attempts do not count.",
        ),
        check(
            "torn",
            "note",
            "torn",
            runs,
            "runs were last read while they changed: their state contradicts their other fields.",
        ),
        check("no_reason", "note", "wordless", counts["failed"], "failed runs carry no reason."),
        check("unknown_state", "note", "states", runs, "runs have a state that is not known."),
        check("unknown_schedule", "note", "types", runs, "runs have a schedule type that is not known."),
        check(
            "repeated",
            "note",
            "repeated",
            records,
            "records are earlier observations of runs seen again later. Runs are counted once.",
        ),
    ]


def _unknown(frame: Any, n_failed: int, rules: Rules) -> _Check:
    """Which failed runs carry a text that no rule of causes or categories knows."""
    failed = frame.filter(nw.col("is_latest"), nw.col("state") == "failed").group_by("failed_reason")
    texts = collected(failed.agg(nw.len().alias("n")))
    named = texts.hstack(classify(texts["failed_reason"], rules=rules))
    unknown = named.filter(pl.col("rule_id").is_null()).group_by("template").agg(pl.col("n").sum().cast(pl.Int64))
    most = unknown.sort("n", "template", descending=[True, False]).head(1)
    n = int(unknown["n"].sum())
    example = f", most often: {safe(most['template'][0], 120)}" if n else ""
    words = f"{n:,} of {n_failed:,} failed runs carry a reason that no rule knows{example}."
    return _Check("reason_unknown", "note", n, n_failed, words)


def _rejects(counts: dict[str, int], n_rejects: int) -> _Check:
    total = counts["records"] + n_rejects
    message = (
        f"{n_rejects:,} of {total:,} records were refused; the rejects table says where and why. They are in no figure."
    )
    return _Check("rejects", "warning", n_rejects, total, message)
