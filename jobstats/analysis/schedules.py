"""The schedules of the data, and when each was expected to fire."""

from typing import Any, Literal

import narwhals as nw
import polars as pl

from jobstats.analysis.asking import Asked, collected, flags
from jobstats.errors import ArgumentError
from jobstats.facts import FIRST_RUN_MS
from jobstats.firing import MOST_FIRES, fire_times

NEVER = 2**60
LINE = 2**44
"""Times in milliseconds are below this, so that a number and a time fit into one integer."""
IDENTITY = ["org_id", "_key", "requested_at"]
"""What tells a schedule: of two requests with the same key, the second is another schedule."""


def schedules_of(asked: Asked, requests: pl.DataFrame) -> pl.DataFrame:
    """A row a schedule, ``n`` its number, with the values of ``by``.

    Raises:
        ArgumentError: The runs of one schedule have several.
    """
    copies = {f"_by{i}": name for i, name in enumerate(asked.by)}
    texts = ("schedule_key", "schedule_cron", "schedule_timezone", "schedule_every_ms", "connector_id")
    told = keyed(asked.runs).with_columns(
        *(nw.col(name).alias(f"_{name}") for name in texts),
        *(nw.col(name).alias(copy) for copy, name in copies.items()),
        *flags({"_is_disabled": ~nw.col("schedule_enabled")}),
    )
    found = told.group_by(IDENTITY).agg(
        *(nw.col(f"_{name}").max() for name in texts),
        nw.col("_is_disabled").max(),
        *(nw.col(copy).max() for copy in copies),
        *(nw.col(copy).min().alias(f"{copy}_low") for copy in copies),
    )
    schedules = collected(found).sort(IDENTITY, nulls_last=True).with_row_index("n")
    for copy, name in copies.items():
        if (schedules[copy] != schedules[f"{copy}_low"]).any():
            raise ArgumentError(
                f"by names {name!r}, which differs between the runs of one schedule; a fire that got no run has none"
            )
    ends = requests.rename({"connector_id": "_connector_id"})
    return schedules.join(ends, on=["org_id", "_connector_id", "requested_at"], how="left").select(
        "n",
        *(pl.col(name).alias(f"_{name}") for name in IDENTITY),
        *(pl.col(copy).alias(name) for copy, name in copies.items()),
        _requested=pl.col("requested_at").to_physical(),
        _end=pl.col("end").fill_null(NEVER),
        _is_once=pl.col("_schedule_key").is_null(),
        _is_enabled=pl.col("_is_disabled") == 0,
        _cron="_schedule_cron",
        _zone="_schedule_timezone",
        _every=pl.when(pl.col("_schedule_cron").is_null() & (pl.col("_schedule_every_ms") > 0)).then(
            "_schedule_every_ms"
        ),
    )


def requests(frame: Any) -> pl.DataFrame:
    """When each instance of a connector was scheduled or paused, which ends what was scheduled for it before."""
    told = frame.filter(~nw.col("connector_id").is_null(), ~nw.col("requested_at").is_null())
    requests = collected(told.select("org_id", "connector_id", "requested_at").unique())
    following = pl.col("requested_at").shift(-1).over("org_id", "connector_id").to_physical()
    return requests.sort("requested_at").with_columns(end=following)


def keyed(runs: Any) -> Any:
    """Runs with the second part of what tells their schedule."""
    return runs.with_columns(_key=nw.coalesce("schedule_key", "job_id"))


def with_offsets(schedules: pl.DataFrame, runs: pl.DataFrame) -> pl.DataFrame:
    """``_offset`` is what the server adds to the fires of an interval; null where no run tells."""
    of_run = runs.lazy().join(schedules.lazy().filter(pl.col("_every").is_not_null()).select("n", "_requested"), on="n")
    is_first = (pl.col("created") - pl.col("_requested")).abs() <= FIRST_RUN_MS
    offset = (pl.col("due") - pl.col("fire")).median().round().cast(pl.Int64)
    learned = of_run.filter("is_due_known", ~is_first.fill_null(False)).group_by("n").agg(_offset=offset).collect()
    none = pl.when(pl.col("_every").is_null()).then(0)
    return schedules.join(learned, on="n", how="left").with_columns(pl.coalesce("_offset", none))


def firsts_of(runs: pl.DataFrame) -> pl.DataFrame:
    """How many runs of each schedule were seen, the fire of its first one, and when that one was made."""
    told = runs.lazy().group_by("n").agg(pl.col("fire").min(), n_runs=pl.len())
    of_first = runs.lazy().join(told, on=["n", "fire"]).group_by("n", "n_runs", first="fire")
    return of_first.agg(pl.col("created").min()).collect(engine="streaming")


def heads_of(firsts: pl.DataFrame, schedules: pl.DataFrame, begin: int) -> pl.DataFrame:
    """Schedules that were watched before their first run that was seen, from ``fire`` on."""
    requested = pl.col("_requested")
    return (
        firsts.join(schedules.select("n", "_requested", "_is_once"), on="n")
        .filter(~pl.col("_is_once"), (pl.col("created") - requested).abs().fill_null(NEVER) > FIRST_RUN_MS)
        .with_columns(fire=pl.max_horizontal("_requested", pl.lit(begin)))
        .filter(pl.col("fire") < pl.col("first"))
        .with_columns(start=pl.when(requested >= begin).then(requested))
        .drop("_is_once", "_requested", "n_runs")
    )


def grid_of(
    schedules: pl.DataFrame, firsts: pl.DataFrame, heads: pl.DataFrame, now: int
) -> tuple[pl.DataFrame, pl.Series]:
    """All fires of each cron and interval up to now, and in ``_pattern`` which of them are those of a schedule.

    A pattern is worked out once, from the first run of any of its schedules. ``_pattern`` is null where nothing can be
    expected: the schedule is disabled, runs once, or cannot be read, which ``_is_readable`` says.
    """
    pattern = ["_cron", "_zone", "_every"]
    # An interval has no zone.
    schedules = schedules.with_columns(_zone=pl.when(pl.col("_every").is_null()).then("_zone"))
    # What was watched before its first run begins there.
    begins = firsts.join(heads.select("n", "fire"), on="n", how="left").select("n", _from=pl.coalesce("fire", "first"))
    asked = schedules.filter("_is_enabled", ~pl.col("_is_once")).join(begins, on="n")
    kinds = asked.group_by(pattern).agg(pl.col("_from").min()).sort(pattern, nulls_last=True)
    parts: list[pl.Series] = []
    numbers: list[int | None] = []
    total = 0
    for cron, zone, every, since in kinds.iter_rows():
        times = _times(cron, zone, every, since, now + 1)
        numbers.append(None if times is None else len(parts))
        if times is not None:
            parts.append(times + len(parts) * LINE)
            total += len(times)
        if total > MOST_FIRES:
            raise ArgumentError(
                f"the schedules fire at more than {MOST_FIRES:,} different times; ask about runs of a shorter time"
            )
    known = kinds.drop("_from").with_columns(_pattern=pl.Series(numbers, dtype=pl.Int64))
    schedules = schedules.join(known, on=pattern, how="left", nulls_equal=True).with_columns(
        _pattern=pl.when("_is_enabled", ~pl.col("_is_once")).then("_pattern"),
        _is_readable=pl.col("_is_once") | ~pl.col("_is_enabled") | pl.col("_pattern").is_not_null(),
    )
    end = pl.Series([NEVER * 4] * 2, dtype=pl.Int64)
    return schedules.sort("n"), pl.concat([*parts, end]).set_sorted()


def _times(cron: str | None, zone: str | None, every: int | None, since: int, until: int) -> pl.Series | None:
    if every:
        first = -(-since // every) * every
        if (until - first) // every > MOST_FIRES:
            raise ArgumentError(f"an interval of {every} ms comes more than {MOST_FIRES:,} times in the data")
        return pl.int_range(first, max(first, until), every, dtype=pl.Int64, eager=True)
    times = fire_times(cron, zone or "UTC", since, until) if cron else None
    return None if times is None else pl.Series(times, dtype=pl.Int64)


def place(at: pl.Series, pattern: pl.Series, grid: pl.Series, side: Literal["left", "right"]) -> pl.Series:
    """Where in the grid these times of these patterns are, or would be."""
    return grid.search_sorted((pattern * LINE + at).fill_null(-1), side).cast(pl.Int64)
