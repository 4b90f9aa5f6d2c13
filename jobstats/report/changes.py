"""What is not as it was: against the report before, and against the window before the period.

Reports are told apart where it is sure and matters: intervals that do not overlap, and an effect of at least one
percentage point of a share or a tenth of a length. With a hundred thousand runs half a point is sure, and nobody cares.
"""

import hashlib

import polars as pl

from jobstats.report.model import Attention, Change, Figure, ObjectiveResult, Report, Stale
from jobstats.report.sentences import IS_STALE, called, changed, measure
from jobstats.wording import duration, plural, safe

LEAST_POINTS = 0.01
LEAST_RATIO = 0.1
_RANK = {"met": 0, "not enough data": 1, "at risk": 2, "breached": 3}
_MOST = 10
_FAILING = 3
"""Failures in a row from which on a connector is worth a look that may have succeeded unseen."""
_ID_CHARACTERS = 36
_HIGHER_IS_BETTER = ("on_time_rate", "objective:")


def since_report(
    previous: Report,
    figures: tuple[Figure, ...],
    objectives: tuple[ObjectiveResult, ...],
    causes: dict[str, str],
    stale: tuple[Stale, ...],
) -> tuple[Change, ...]:
    """What is different from an earlier report, worse first."""
    found = [
        *_objectives(previous, objectives),
        *_figures(previous, figures),
        *_causes(previous, causes),
        *_stale(previous, stale),
    ]
    order = {"worse": 0, "new": 1, "better": 2, "gone": 3}
    return tuple(sorted(found, key=lambda change: order[change.direction]))


def _objectives(previous: Report, objectives: tuple[ObjectiveResult, ...]) -> list[Change]:
    before = {(result.objective, result.group): result for result in previous.objectives}
    found = []
    for result in objectives:
        old = before.get((result.objective, result.group))
        # That there is not enough to tell any more is a step in no direction.
        if old is None or result.verdict in (old.verdict, "not enough data"):
            continue
        is_worse = _RANK[result.verdict] > _RANK[old.verdict]
        name = result.objective if result.group == "(all)" else f"{result.objective}, {result.group}"
        found.append(_report("worse" if is_worse else "better", name, f"{name}: {old.verdict}, now {result.verdict}."))
    return found


def _figures(previous: Report, figures: tuple[Figure, ...]) -> list[Change]:
    before = {figure.id: figure for figure in previous.figures}
    found = []
    for figure in figures:
        old = before.get(figure.id)
        if old is None or not _surely_differ(old, figure):
            continue
        is_higher = (figure.value or 0) > (old.value or 0)
        is_worse = is_higher != figure.id.startswith(_HIGHER_IS_BETTER)
        message = f"{figure.name}: {old.text}, now {figure.text}."
        found.append(_report("worse" if is_worse else "better", figure.name, message))
    return found


def _surely_differ(old: Figure, new: Figure) -> bool:
    """Whether intervals of estimates part, by enough to matter."""
    if old.is_bounds or new.is_bounds or old.kind != new.kind or None in (old.value, new.value):
        return False
    if None in (old.low, old.high, new.low, new.high):
        return False
    before, after = float(old.value or 0), float(new.value or 0)
    least = LEAST_POINTS if new.kind == "rate" else LEAST_RATIO * abs(before)
    is_apart = (new.low or 0) > (old.high or 0) or (new.high or 0) < (old.low or 0)
    return is_apart and abs(after - before) >= least


def _causes(previous: Report, causes: dict[str, str]) -> list[Change]:
    new = [name for key, name in causes.items() if key not in previous.causes]
    found = [_report("new", safe(name), f"{safe(name)}: not among the causes of the report before.") for name in new]
    if len(found) > _MOST:
        more = f"{plural(len(found) - _MOST, 'more cause')} not in the report before."
        found = [*found[:_MOST], _report("new", "causes", more)]
    return found


def _stale(previous: Report, stale: tuple[Stale, ...]) -> list[Change]:
    now, before = ({one.key: one.name for one in some} for some in (stale, previous.stale))
    worse = sorted(name for key, name in now.items() if key not in before)
    better = sorted(name for key, name in before.items() if key not in now)
    found = [_report("worse", name, f"{name} has become stale.") for name in worse[:_MOST]]
    found += [_report("better", name, f"{name} is stale no longer.") for name in better[:_MOST]]
    for names, direction, words in ((worse, "worse", "have become stale"), (better, "better", "are stale no longer")):
        if len(names) > _MOST:
            more = f"{plural(len(names) - _MOST, 'more connector')} {words}."
            found.append(Change(against="report", direction=direction, subject="connectors", message=more))  # type: ignore[arg-type]
    return found


def _report(direction: str, subject: str, message: str) -> Change:
    return Change(against="report", direction=direction, subject=subject, message=message)  # type: ignore[arg-type]


def since_window(compared: pl.DataFrame | None) -> tuple[Change, ...]:
    """What is surely worse or better than in the window before, as :func:`jobstats.compare` says."""
    if compared is None:
        return ()
    found = compared.filter(pl.col("verdict").is_in(["worse", "better"]))
    rows = found.sort(pl.col("verdict") == "better", maintain_order=True).head(_MOST).to_dicts()
    return tuple(
        Change(against="window", direction=row["verdict"], subject=measure(row), message=f"{changed(row)}")
        for row in rows
    )


def attention(reasons: pl.DataFrame, freshness: pl.DataFrame, stuck: pl.DataFrame) -> tuple[Attention, ...]:
    """What is new and broken: causes never seen before, connectors without success for too long, stuck runs."""
    found = []
    if "change" in reasons.columns:
        for row in (
            reasons.filter(pl.col("change") == "new", pl.col("n") + pl.col("n_retrying") > 0).head(_MOST).to_dicts()
        ):
            counts = f"{plural(row['n'], 'failed run')}, {plural(row['n_connectors'], 'connector')}"
            cause = safe(row["cause"])
            found.append(
                Attention(kind="cause", status="bad", subject=cause, message=f"New cause: {cause} ({counts}).")
            )
    stale = freshness.filter(IS_STALE).sort("n_failing", "age_periods", descending=True, nulls_last=True)
    for row in stale.head(_MOST).to_dicts():
        name = instance(row)
        found.append(Attention(kind="stale", status="bad", subject=name, message=f"{name} {_how_stale(row)}."))
    if len(stale) > _MOST:
        more = f"{plural(len(stale) - _MOST, 'more connector')} without success for too long."
        found.append(Attention(kind="stale", status="bad", subject="connectors", message=more))
    failing = _failing_unseen(freshness)
    for row in failing.head(_MOST).to_dicts():
        name = instance(row)
        message = f"{name} {_how_stale(row)}; it may have succeeded unseen."
        found.append(Attention(kind="failing", status="caution", subject=name, message=message))
    if len(failing) > _MOST:
        more = f"{plural(len(failing) - _MOST, 'more connector')} with failures in a row and no success seen since."
        found.append(Attention(kind="failing", status="caution", subject="connectors", message=more))
    for row in stuck.filter(pl.col("kind") != "unjudged").head(_MOST).to_dicts():
        name = instance(row)
        found.append(Attention(kind="stuck", status="caution", subject=name, message=f"{name} {_how_stuck(row)}."))
    return tuple(found)


def _failing_unseen(freshness: pl.DataFrame) -> pl.DataFrame:
    """Connectors that fail time and again, where the data may lack a success since: most failures first."""
    is_failing = (pl.col("status") == "unknown") & (pl.col("n_failing") >= _FAILING)
    return freshness.filter(is_failing).sort("n_failing", descending=True, maintain_order=True)


def counts(reasons: pl.DataFrame, freshness: pl.DataFrame, stuck: pl.DataFrame) -> dict[str, int]:
    """How many causes, connectors and runs there are to look at, of which a report names the first."""
    new = pl.col("change") == "new" if "change" in reasons.columns else pl.lit(value=False)
    return {
        "new cause": reasons.filter(new, pl.col("n") + pl.col("n_retrying") > 0).height,
        "stale connector": freshness.filter(IS_STALE).height,
        "repeatedly failing connector": _failing_unseen(freshness).height,
        "stuck run": stuck.filter(pl.col("kind") != "unjudged").height,
    }


def _how_stuck(row: dict[str, object]) -> str:
    age = duration(max(0.0, float(str(row["age_ms"]))))
    if row["kind"] == "lost_worker":
        return f"lost its worker {age} before it was last seen"
    bound = f", longer than {duration(float(str(row['bound_ms'])))}" if row["bound_ms"] is not None else ""
    return f"{'has been at work' if row['kind'] == 'running_long' else 'has been waiting'} for {age}{bound}"


def _how_stale(row: dict[str, object]) -> str:
    failing = f", {plural(int(str(row['n_failing'])), 'failure')} in a row" if row["n_failing"] else ""
    cause = f" ({safe(row['cause'])})" if row["cause"] and row["n_failing"] else ""
    if row["age_ms"] is None:
        return f"has no known success{failing}{cause}"
    return f"last succeeded {duration(float(str(row['age_ms'])))} ago{failing}{cause}"


def instance(row: dict[str, object]) -> str:
    """A connector instance in words: its kind and its id, whole if it is a UUID."""
    return called(row["connector"]) + (f" {safe(row['connector_id'], _ID_CHARACTERS)}" if row["connector_id"] else "")


def key_of(row: dict[str, object]) -> str:
    """What tells a connector instance from all others."""
    identity = repr([row[name] for name in ("org_id", "connector", "connector_id")])
    return hashlib.sha256(identity.encode(errors="surrogatepass")).hexdigest()[:12]
