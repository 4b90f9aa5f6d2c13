"""When a report should stop whoever asked for it: gates that are passed, or not and why."""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

from jobstats.errors import ArgumentError
from jobstats.report.model import Report
from jobstats.report.sentences import of_group
from jobstats.wording import plural

Gate = Literal["slo", "quality", "new-reason", "stale", "regression"]
GATES: tuple[Gate, ...] = get_args(Gate)


def failed(report: Report, gates: Sequence[str]) -> list[str]:
    """Why each of these gates is not passed; nothing for those that are.

    ``slo``: an objective is breached, or there is one of which no group can be judged: silence is not success.
    ``quality``: the data cannot tell something. ``new-reason``: a cause was never seen before, or not in the report
    before. ``stale``: a connector has not succeeded for too long. ``regression``: something is surely worse.

    Raises:
        ArgumentError: There is no such gate, or it needs what the report does not have.
    """
    check(gates)
    if "slo" in gates and not report.objectives:
        raise ArgumentError("the gate slo needs objectives; pass a file of them with --slo")
    return [f"{gate}: {reason}" for gate in dict.fromkeys(gates) if (reason := _RULES[gate](report))]


def check(gates: Sequence[str]) -> None:
    """Refuse what is no gate, before any work is done."""
    for gate in gates:
        if gate not in GATES:
            raise ArgumentError(f"there is no gate {gate!r}; choose from {', '.join(GATES)}")


def _slo(report: Report) -> str:
    breached = [
        of_group(result.objective, result.group) for result in report.objectives if result.verdict == "breached"
    ]
    judged = {result.objective for result in report.objectives if result.verdict != "not enough data"}
    silent = [name for name in dict.fromkeys(result.objective for result in report.objectives) if name not in judged]
    parts = [f"{_named(breached)} breached"] if breached else []
    parts += [f"{_named(silent)} cannot be judged"] if silent else []
    return "; ".join(parts)


def _quality(report: Report) -> str:
    return _named([finding.check for finding in report.findings if finding.severity == "error"])


def _new_reason(report: Report) -> str:
    new = [item.subject for item in report.attention if item.kind == "cause"]
    new += [change.subject for change in report.changes if change.direction == "new"]
    return _named(list(dict.fromkeys(new)))


def _stale(report: Report) -> str:
    names = [one.name for one in report.stale]
    return f"{plural(len(names), 'connector')}: {_named(names)}" if names else ""


def _regression(report: Report) -> str:
    return _named([change.subject for change in report.changes if change.direction == "worse"])


def _named(subjects: list[str], most: int = 3) -> str:
    more = f" and {len(subjects) - most:,} more" if len(subjects) > most else ""
    return ", ".join(subjects[:most]) + more


_RULES: dict[str, Callable[[Report], str]] = {
    "slo": _slo,
    "quality": _quality,
    "new-reason": _new_reason,
    "stale": _stale,
    "regression": _regression,
}
