"""What each chart shows, in a sentence: for who cannot see it, has no time, or reads mail on a phone."""

from typing import Any

import polars as pl

from jobstats.report.cells import moment
from jobstats.wording import duration, percent, plural, safe

_ENOUGH_WINDOWS = 3
_FEWEST_FAILURES = 2
IS_STALE = (pl.col("status") == "stale") | (
    (pl.col("status") == "never") & (pl.col("n_failing") >= _FEWEST_FAILURES) & pl.col("period_ms").is_not_null()
)
"""Connectors without success for too long. One that has failed once so far, or that ran once, has not had its time."""
STATE = pl.when(IS_STALE).then(pl.lit("stale")).otherwise(pl.col("status").replace("never", "failed so far"))
"""The status of a connector as a report has it."""
ENOUGH = 59
"""Runs a group needs before a bound on its p95 can be given: 0.95⁵⁹ < 0.05."""


def called(value: object) -> str:
    """Text from the data as a name; what has none says so."""
    return safe("(none)" if value is None else value)


def _first(table: pl.DataFrame) -> dict[str, Any]:
    return table.row(0, named=True)


def counted(table: pl.DataFrame, what: pl.Expr) -> str:
    """How many rows there are of each, most first."""
    counts = table.group_by(what.alias("what")).len().sort("len", "what", descending=[True, False])
    return ", ".join(f"{n:,} {name}" for name, n in counts.rows())


def of_group(objective: object, group: object) -> str:
    """An objective, with the group that has it unless it is of all runs."""
    return safe(objective) + ("" if group == "(all)" else f" ({safe(group)})")


def objectives(table: pl.DataFrame) -> str:
    """How many objectives have each verdict, and which is worst."""
    counts = table.group_by("verdict").len().sort("verdict").rows()
    words = ", ".join(f"{n:,} {verdict}" for verdict, n in counts)
    worst = _first(table)
    if worst["attainment"] is None or worst["verdict"] in ("met", "not enough data"):
        return f"Of {plural(len(table), 'objective')}: {words}."
    return (
        f"Of {plural(len(table), 'objective')}: {words}. Worst: {of_group(worst['objective'], worst['group'])}, "
        f"{percent(worst['attainment'])} of {worst['n']:,}, target {percent(worst['target'])}."
    )


def latency_by_connector(table: pl.DataFrame) -> str:
    """Who waits longest, and who shortest."""
    known = table.filter(pl.col("n") > 0)
    if known.is_empty():
        return "No run has a known wait."
    sure = known.filter(pl.col("n") >= ENOUGH)
    if sure.is_empty():
        most = _first(known.sort("n", descending=True))
        return (
            f"No connector has the {ENOUGH} runs that a p95 needs; the busiest is {called(most['connector'])}, "
            f"median {duration(most['p50_ms'])} (n = {most['n']:,})."
        )
    slow, quick = (_first(sure.sort("p95_ms", "connector", descending=[down, False])) for down in (True, False))
    longest = f"5 % of its runs {duration(slow['p95_ms'])} or more (n = {slow['n']:,})"
    words = f"{called(slow['connector'])} waits longest: {longest}"
    if len(sure) > 1:
        words += f"; {called(quick['connector'])} shortest, {duration(quick['p95_ms'])} (n = {quick['n']:,})"
    return f"{words}, of connectors with {ENOUGH} runs or more."


def over_time(column: str, what: str) -> Any:
    """When a length was at its worst, and what it usually was."""

    def say(table: pl.DataFrame) -> str:
        known = table.filter(pl.col(column).is_not_null())
        if known.is_empty():
            return f"No window holds a {what}."
        worst = _first(known.sort(column, "bucket", descending=[True, False]))
        words = f"The {what} was highest in the window from {moment(worst['bucket'])} UTC: {duration(worst[column])}"
        words += f" (n = {worst['n']:,})"
        if len(known) >= _ENOUGH_WINDOWS:
            words += f"; half of the {len(known):,} windows had at most {duration(float(known[column].median() or 0))}"  # type: ignore[arg-type]
        return f"{words}."

    return say


def by_hour(table: pl.DataFrame) -> str:
    """The worst hour of the week."""
    known = table.filter(pl.col("n") >= 20)
    if known.is_empty():
        return "No hour of the week holds 20 runs or more."
    worst = _first(known.sort("p95_ms", "weekday", "hour", descending=[True, False, False]))
    day = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")[worst["weekday"] - 1]
    return (
        f"Waits are longest on {day} from {worst['hour']}:00 UTC: p95 {duration(worst['p95_ms'])} (n = {worst['n']:,})."
    )


def rates_by_connector(table: pl.DataFrame) -> str:
    """Who fails most surely."""
    if not bool(table["is_estimable"].all()):
        return "Rates cannot be estimated, as completed runs are missing; the bars are the bounds of what may be."
    failing = table.filter(pl.col("failure_rate_low") > 0)
    if failing.is_empty():
        n_failed, n = int(table["n_failed"].sum()), int(table["n"].sum())
        return f"No connector surely fails: {n_failed:,} of {n:,} ended runs failed."
    worst = _first(failing.sort("failure_rate_low", "connector", descending=[True, False]))
    interval = f"{percent(worst['failure_rate_low'])} to {percent(worst['failure_rate_high'])}"
    return (
        f"{called(worst['connector'])} fails most: {percent(worst['failure_rate'])} of "
        f"{plural(worst['n'], 'ended run')} ({interval})."
    )


def rates_over_time(table: pl.DataFrame) -> str:
    """The worst window."""
    known = table.filter(pl.col("n") >= 20, pl.col("failure_rate").is_not_null())
    if known.is_empty():
        return f"{int(table['n_failed'].sum()):,} runs failed; no window has a failure rate of 20 ended runs or more."
    worst = _first(known.sort("failure_rate", "bucket", descending=[True, False]))
    return (
        f"Of windows with 20 ended runs or more, that from {moment(worst['bucket'])} UTC was worst: "
        f"{percent(worst['failure_rate'])} of {worst['n']:,} failed."
    )


def attempts(table: pl.DataFrame) -> str:
    """What retrying brings."""
    if table.is_empty() or not bool(table["is_estimable"].all()):
        return "What retries bring cannot be estimated, as completed runs are missing."
    first = _first(table)
    words = f"{percent(first['success_rate'])} of {plural(first['n_reached'], 'run')} succeed on the first attempt"
    if len(table) > 1:
        again = table.row(1, named=True)
        words += f"; of {again['n_reached']:,} tried again, {percent(again['success_rate'])} on the second"
    return f"{words}."


def reasons(table: pl.DataFrame) -> str:
    """The most frequent cause, and how many are new."""
    failed = table.filter(pl.col("n") > 0)
    if failed.is_empty():
        return "No failed run was seen."
    worst = _first(failed)
    words = (
        f"Most frequent: {called(worst['cause'])}, {plural(worst['n'], 'failed run')} ({percent(worst['share'])}) "
        f"of {plural(worst['n_connectors'], 'connector')}"
    )
    if "change" in table.columns and (n := table.filter(pl.col("change") == "new").height):
        words += f"; {plural(n, 'cause')} never seen before"
    return f"{words}."


def schedules(table: pl.DataFrame) -> str:
    """How punctual schedules are, and whose are least."""
    n, on_time, late, missed = (int(table[f"n{name}"].sum()) for name in ("", "_on_time", "_late", "_missed"))
    if not n:
        return "Of no expected fire it is known whether it was on time."
    words = (
        f"Of {n:,} fires whose fate is known {percent(on_time / n)} were on time, {late:,} late and {missed:,} missed"
    )
    bad = table.with_columns(bad=pl.col("n_late") + pl.col("n_missed")).filter(pl.col("bad") > 0)
    if "connector" in table.columns and len(bad):
        worst = _first(bad.sort("bad", "connector", descending=[True, False]))
        words += f"; most of {called(worst['connector'])} ({worst['bad']:,} of {worst['n']:,})"
    other = int(table["n_off_schedule"].sum())
    also = f" {plural(other, 'more run')} came when no schedule of theirs fires." if other else ""
    return f"{words}.{also}"


def freshness(table: pl.DataFrame) -> str:
    """How many connectors are in each state."""
    if table.is_empty():
        return "There are no connectors."
    words = f"Of {plural(len(table), 'connector')}: {counted(table, STATE)}"
    never = table.filter(IS_STALE, pl.col("status") == "never").height
    return words + (f". Of those stale {never:,} have no known success." if never else ".")


def backlog(table: pl.DataFrame) -> str:
    """The longest queue."""
    return _peak(table, "max_waiting", "waited to be started", "mean_waiting")


def concurrency(table: pl.DataFrame) -> str:
    """The most runs at once."""
    return _peak(table, "max_running", "were at work", "mean_running")


def _peak(table: pl.DataFrame, column: str, what: str, mean: str) -> str:
    known = table.filter(pl.col(column).is_not_null())
    if known.is_empty():
        return f"It is not known how many runs {what}."
    peak = _first(known.sort(column, "bucket", descending=[True, False]))
    weights = known["covered_ms"].fill_null(0)
    total = float(weights.sum())
    usual = float((known[mean].fill_null(0) * weights).sum()) / total if total else 0.0
    when = f"in the window from {moment(peak['bucket'])} UTC"
    n_unknown = int(known["n_unknown"].sum())
    lacking = f" {n_unknown:,} more did so at times not known, which this lacks." if n_unknown else ""
    at_most = "At least" if n_unknown else "At most"
    return f"{at_most} {peak[column]:,} runs {what} at once, {when}; {usual:.3g} on average.{lacking}"


def stuck(table: pl.DataFrame) -> str:
    """How many runs want a person, and the first of the list: of those that lost their workers it is the newest."""
    if table.is_empty():
        return "No run is stuck."
    worst = _first(table)
    words = counted(table, pl.col("kind")).replace("_", " ")
    which = "The newest" if worst["kind"] == "lost_worker" else "The worst"
    return (
        f"{plural(len(table), 'run')}: {words}. {which}: {called(worst['connector'])}, since "
        f"{moment(worst['since_at'])} UTC."
    )


def compare(table: pl.DataFrame) -> str:
    """What is surely worse or better than in the window before."""
    surely = [
        f"{measure(row)} {row['verdict']} ({_value(row, 'before')} to {_value(row, 'after')})"
        for row in table.filter(pl.col("verdict").is_in(["worse", "better"])).head(3).to_dicts()
    ]
    return ("Surely changed: " + "; ".join(surely) + ".") if surely else "Nothing has surely changed."


def measure(row: dict[str, Any]) -> str:
    """The name of a measure of :func:`jobstats.compare`."""
    if row["measure"] == "cause_rate":
        return f"failures for {called(row['cause'])}"
    return str(row["measure"]).removesuffix("_ms").replace("_", " ")


def _value(row: dict[str, Any], end: str) -> str:
    return duration(row[end]) if str(row["measure"]).endswith("_ms") else percent(row[end])


def changed(row: dict[str, Any]) -> str:
    """A row of :func:`jobstats.compare` as a sentence."""
    n = f"n = {row['n_before']:,} and {row['n_after']:,}"
    return f"{measure(row)}: {_value(row, 'before')} before, now {_value(row, 'after')} ({n})."


def drivers(table: pl.DataFrame) -> str:
    """What failed runs have in common."""
    found = table.filter(pl.col("verdict") == "driver")
    if found.is_empty():
        return "Failed runs have no value of any column surely in common."
    worst = _first(found)
    value = f"{safe(worst['column']).replace('_', ' ')} {called(worst['value'])}"
    counts = f"{worst['n_bad']:,} of {plural(worst['n'], 'run')}"
    if worst["lift"] is None:
        return f"Of all failed runs, surely more than by chance have {value}: {counts}; no other run failed."
    return f"Runs of {value} fail {worst['lift']:.3g} times as often as the rest: {counts}."


def timeline(table: pl.DataFrame) -> str:
    """How many of the newest runs came to what."""
    if table.is_empty():
        return "No run was seen."
    counts = table.group_by("outcome").len().sort("len", "outcome", descending=[True, False]).rows()
    return (
        f"The newest {plural(len(table), 'run')}: "
        + ", ".join(f"{n:,} {str(o).replace('_', ' ')}" for o, n in counts)
        + "."
    )
