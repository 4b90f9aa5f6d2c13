"""What do the runs that failed, were retried or waited long have in common?"""

from collections.abc import Sequence
from typing import Any, TypeVar

import narwhals as nw
import polars as pl

from jobstats.analysis.asking import (
    STARTED,
    ask,
    at_ms,
    check_confidence,
    collected,
    flags,
    held,
    numbered,
    outcomes_are_seen,
    rate,
    returned,
)
from jobstats.analysis.clock import CLOCK, clock
from jobstats.analysis.contrast import CLUSTER, SQUARES, Cells, against_rest, stretch_ms
from jobstats.analysis.drift import adjusted
from jobstats.errors import ArgumentError
from jobstats.moments import Moment, length_ms

Frame = TypeVar("Frame")
COLUMNS = ("connector", "connector_id", "org_id", "schedule_type", "schedule_timezone", *CLOCK)
MEASURES = (
    *("verdict", "rate", "rate_low", "rate_high", "other_rate", "lift", "lift_low", "lift_high", "share", "excess"),
    *("p_value", "q_value", "same_as", "n", "n_bad"),
)
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MOST = 20
_FEWEST = 3
_PRINT = 1_000_000_007
_SUMS = ("x", "n", "_print")


def drivers(
    jobs: Frame,
    *,
    of: str = "failed",
    columns: str | Sequence[str] = COLUMNS,
    since: Moment = None,
    until: Moment = None,
    confidence: float = 0.95,
) -> Frame:
    """Values that are more frequent among the runs that failed, were retried or waited long than among all others.

    For each value of each column the share of bad runs among those that have it (``rate``) is compared with that among
    all other runs (``other_rate``); their ratio is the ``lift``. This asks of every dimension what Honeycomb's BubbleUp
    shows of one after the other, and weighs it by the ``excess``: the bad runs beyond those that the rate of the others
    would have made, the explanatory power of Bhagwan, R. et al. (2014), Adtributor: revenue debugging in advertising
    systems. It says where to look, not why: a value is not a cause.

    Bad runs come in bursts, so p-values rest on how much connectors and stretches of time (a day, or a seventh of a
    shorter range) differ: see :mod:`jobstats.analysis.contrast`. What was seen in one stretch only cannot be judged:
    one bad Monday says nothing about Mondays. A kind of connector of which one is broken is no driver; that one is.

    Failed and retried: of ended runs, by first start. They need the completed runs: where :func:`jobstats.retry_rates`
    is not estimable, shares of bad runs are told and nothing is compared, as a list of failed jobs says what is
    frequent, and not what fails often. Waits: of runs whose queue latency is known exactly, by the time of becoming
    eligible. Of each column the twenty values with the greatest excess are told, if three bad runs have them; the other
    values count as tests without a finding. Columns of a single value tell nothing and are left out.

    Args:
        jobs: A jobs table: Polars, DuckDB or Spark.
        of: What makes a run bad: ``"failed"``, ``"retried"``, or a length such as ``"5m"``: it waited longer.
        columns: Columns to look at; beside those of the jobs table ``hour`` and ``weekday``, both in UTC. Not a column
            that defines what is bad, such as ``attempts`` of retried runs.
        since: Only runs at or after this; a datetime, ISO text or an age such as ``"7d"``.
        until: Only runs before this.
        confidence: Level of the intervals; a q-value of at most 1 less this makes a driver.

    Returns:
        ``column``, ``value`` (as text; null where there is none), ``verdict``, ``rate`` with Wilson's interval
        ``rate_low`` and ``rate_high`` (of these runs, as if independent), ``other_rate``, ``lift`` with ``lift_low``
        and ``lift_high`` (null where no other run is bad, or none may be), ``share`` (of the bad runs), ``excess``,
        ``p_value``, ``q_value`` (Benjamini and Hochberg's, of all values of all columns), ``same_as`` (the value of an
        earlier column that the very same runs have), ``n`` (runs), ``n_bad``. Verdicts: ``driver``, ``unclear``,
        ``few`` (seen in one stretch of time only), ``not estimable`` (then all but ``share`` and ``n_bad`` is
        null). Drivers first, then by excess.

    Raises:
        ArgumentError: A column, time, length or level that does not exist, or a column that defines what is bad.
        TableError: ``jobs`` is not a jobs table.

    >>> import jobstats as js
    >>> jobs, rejects = js.load("data/dump")
    >>> drivers(jobs).select("column", "verdict", "rate", "n", "n_bad").row(0)
    ('connector_id', 'driver', 1.0, 10, 10)
    """
    check_confidence(confidence)
    names = _columns(columns, of)
    condition, known = _bad(of)
    waits = of not in ("failed", "retried")
    at = ("eligible_at", "created_at") if waits else ("started_at", "finished_at", "eligible_at", "created_at")
    asked = ask(
        jobs,
        where=known,
        at=at,
        taken=("value", *_SUMS, *SQUARES),
        by=names,
        every=None,
        since=since,
        until=until,
    )
    is_rated = waits or outcomes_are_seen(jobs)
    runs = asked.runs.with_columns(_ms=at_ms(asked.runs))
    spans = collected(runs.select(first=nw.col("_ms").min(), last=nw.col("_ms").max())).row(0)
    stretch = stretch_ms(spans[1] - spans[0] + 1 if spans[0] is not None else 1)
    runs = runs.with_columns(*flags({"x": condition}), _time=nw.col("_ms") // stretch, n=nw.lit(1))
    cells = _cells(runs, names, stretch)
    tables = [_told(cells[name], name, is_rated, confidence) for name in names]
    n_values = sum(n for _, n in tables if n > 1)
    table = pl.concat([table for table, _ in tables])
    return returned(_judged(table, names, n_values, is_rated, confidence), jobs)


def _columns(columns: str | Sequence[str], of: str) -> list[str]:
    names = [columns] if isinstance(columns, str) else list(columns)
    telling = {"failed": ("state", "failed_reason", "is_torn"), "retried": ("attempts", "attempts_made", "is_retried")}
    for name in names:
        if name in telling.get(of, ("queue_latency_ms", "queue_latency_literal_ms")):
            raise ArgumentError(f"columns names {name!r}, which tells whether a run is {of}; leave it out")
    if len(set(names)) < len(names):
        raise ArgumentError(f"columns names a column twice: {names}")
    if not names:
        raise ArgumentError(f"columns must name at least one, such as {COLUMNS[0]!r}")
    return names


def _bad(of: str) -> tuple[Any, Any]:
    """Which runs are bad, and of which this is known."""
    if of == "failed":
        return nw.col("state") == "failed", nw.col("is_ended")
    if of == "retried":
        return nw.col("is_retried"), nw.col("is_ended")
    try:
        longest = length_ms(of, "of")
    except ArgumentError as error:
        raise ArgumentError(f"of must be 'failed', 'retried' or a length such as '5m'; found {of!r}") from error
    return nw.col("queue_latency_ms") > longest, STARTED & (nw.col("queue_latency_quality") == "exact")


def _cells(runs: Any, names: list[str], stretch: int) -> dict[str, Cells]:
    """Of each column, runs and bad runs with each of its values, of each connector and of each stretch of time."""
    # What mostly hangs together is reduced together. The weekday is that of the stretch, which divides a day.
    together = [name for name in names if name in COLUMNS and name != "hour"]
    keys = [name for name in together if name not in ("weekday", *CLUSTER)]
    others = [name for name in names if name not in together]
    # Which runs these are, in one number: the same for two values if they have the same runs.
    runs, connectors = numbered(runs.with_columns(_print=nw.col("_ms") % _PRINT), CLUSTER, "_connector")
    runs = held(runs, [*keys, *others, "_connector", "_time", *_SUMS])
    found = {}
    if together:
        cells = collected(runs.group_by(*keys, "_connector", "_time").agg(nw.col(_SUMS).sum()))
        cells = cells.join(connectors, on="_connector")
        weekday = clock(pl.col("_time") * stretch)["weekday"]
        found = _of_each(cells.with_columns(pl.col(_SUMS).cast(pl.Int64), weekday=weekday), together)
    # Of hours there may be as many cells as runs, so these stay where the runs are.
    return found | {name: _of_one(runs.rename({name: "value"}), name, len(connectors)) for name in others}


def _of_each(cells: pl.DataFrame, names: list[str]) -> dict[str, Cells]:
    found = {}
    for name in names:
        sums = cells.group_by("_connector", "_time", value=name).agg(pl.col(_SUMS).sum())
        within = sums.with_columns(xx=pl.col("x") ** 2, xn=pl.col("x") * pl.col("n"), nn=pl.col("n") ** 2)
        by_connector = within.group_by("value", "_connector").agg(pl.col(*_SUMS, *SQUARES).sum())
        by_time = sums.group_by("value", "_time").agg(pl.col("x", "n").sum())
        found[name] = Cells(*(table.with_columns(_as_text(name)) for table in (by_connector, by_time)))
    return found


def _of_one(runs: Any, name: str, n_connectors: int) -> Cells:
    by_time = collected(runs.group_by("value", "_time").agg(nw.col("x", "n").sum()))
    if name == "hour":
        by_connector = _of_hours(runs, n_connectors, by_time["_time"])
    else:
        cells = runs.group_by("value", "_connector", "_time").agg(nw.col(_SUMS).sum())
        by_connector = _squared(cells, ["value", "_connector"])
    counts = pl.col("^(x|n|xx|xn|nn|_print)$").cast(pl.Int64)
    return Cells(*(table.with_columns(counts, _as_text(name)) for table in (by_connector, by_time)))


def _of_hours(runs: Any, n_connectors: int, times: pl.Series) -> pl.DataFrame:
    """Hours, connectors and stretches are numbers, and one number is grouped in half the time of three."""
    first, last = int(times.min() or 0), int(times.max() or 0)  # type: ignore[arg-type]
    group = nw.col("value") * n_connectors + nw.col("_connector")
    cells = runs.with_columns(_cell=group * (last - first + 1) + nw.col("_time") - first)
    cells = cells.group_by("_cell").agg(nw.col(_SUMS).sum()).with_columns(_group=nw.col("_cell") // (last - first + 1))
    found = _squared(cells, ["_group"])
    number = pl.col("_group").cast(pl.Int64)
    return found.select(pl.exclude("_group"), value=number // n_connectors, _connector=number % n_connectors)


def _squared(cells: Any, keys: list[str]) -> pl.DataFrame:
    x, n = nw.col("x"), nw.col("n")
    within = cells.with_columns(xx=x * x, xn=x * n, nn=n * n)
    return collected(within.group_by(keys).agg(nw.col(*_SUMS, *SQUARES).sum()))


def _as_text(name: str) -> pl.Expr:
    value = pl.col("value").cast(pl.String)
    if name == "hour":
        return value.str.zfill(2)
    if name == "weekday":
        return pl.col("value").cast(pl.Int64).replace_strict(dict(enumerate(_WEEKDAYS, 1)), return_dtype=pl.String)
    return value


def _told(cells: Cells, name: str, is_rated: bool, confidence: float) -> tuple[pl.DataFrame, int]:
    """The values of one column with the greatest excess, compared with the rest, and how many values it has."""
    sums = cells.by_connector.group_by("value").agg(pl.col(_SUMS).sum())
    others = pl.col("n").sum() - pl.col("n")
    other_rate = pl.when(others > 0).then((pl.col("x").sum() - pl.col("x")) / others)
    weight = "excess" if is_rated else "x"
    candidates = (
        sums.with_columns(other_rate=other_rate, share=pl.col("x") / pl.col("x").sum())
        .with_columns(excess=pl.col("x") - pl.col("n") * pl.col("other_rate"))
        .filter(pl.col("x") >= _FEWEST, pl.col(weight) > 0, pl.lit(len(sums) > 1))
        .sort(weight, "value", descending=[True, False], nulls_last=True)
        .head(_MOST)
    )
    found = against_rest(cells, candidates.select("value"), confidence)
    told = candidates.join(found.drop("x1", "n1", "x0", "n0"), on="value", nulls_equal=True, maintain_order="left")
    table = told.select(
        pl.lit(name).alias("column"),
        "value",
        *rate("x", "n", "rate", confidence),
        "other_rate",
        "share",
        "excess",
        "p_value",
        "n",
        "_print",
        n_bad="x",
        lift="ratio",
        lift_low="ratio_low",
        lift_high="ratio_high",
    )
    return table, len(sums)


def _judged(table: pl.DataFrame, names: list[str], n_values: int, is_rated: bool, confidence: float) -> pl.DataFrame:
    """With q-values and verdicts, and for values of the same runs the first of them."""
    if not is_rated:
        unknown = [name for name in MEASURES if table.schema.get(name) == pl.Float64 and name != "share"]
        table = table.with_columns(pl.lit(None, pl.Float64).alias(name) for name in unknown)
    tested = table.filter(pl.col("p_value").is_not_null())
    # The values that were not looked at are tests too, without a finding.
    q_values = adjusted([*tested["p_value"], *[1.0] * (n_values - len(tested))])[: len(tested)]
    tested = tested.with_columns(pl.Series("q_value", q_values, dtype=pl.Float64))
    runs = ["n", "n_bad", "_print"]
    named = pl.format("{}={}", "column", pl.col("value").fill_null("(none)"))
    first = table.group_by(runs, maintain_order=True).agg(_first=named.first())
    verdict = (
        pl.when(pl.lit(not is_rated))
        .then(pl.lit("not estimable"))
        .when(pl.col("q_value").is_null())
        .then(pl.lit("few"))
        .when(pl.col("q_value") <= 1 - confidence)
        .then(pl.lit("driver"))
        .otherwise(pl.lit("unclear"))
    )
    return (
        pl.concat([tested, table.filter(pl.col("p_value").is_null())], how="diagonal_relaxed")
        .join(first, on=runs)
        .with_columns(
            verdict=verdict,
            same_as=pl.when(named != pl.col("_first")).then("_first"),
            n=pl.col("n") if is_rated else pl.lit(None, pl.Int64),
            _place=pl.col("column").replace_strict(
                {name: place for place, name in enumerate(names)}, return_dtype=pl.Int64
            ),
        )
        .sort(
            pl.col("verdict") != "driver",
            *("excess", "n_bad", "_place", "value"),
            descending=[False, True, True, False, False],
            nulls_last=True,
        )
        .select("column", "value", *MEASURES)
    )
