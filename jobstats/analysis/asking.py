"""What all analyses share: the vocabulary of their parameters, the engine at work, and the grid of the answer.

The rows are reduced on the caller's engine with Narwhals expressions. What is left, a row a group and window, is
small, and is finished and sorted with Polars before it is handed back as the caller's own kind of frame.
"""

import difflib
from collections.abc import Sequence
from datetime import datetime, timedelta
from os import PathLike
from statistics import NormalDist
from typing import Any, NamedTuple

import narwhals as nw
import polars as pl
from narwhals.exceptions import NarwhalsError

from jobstats.analysis.clock import CLOCK, clock
from jobstats.errors import ArgumentError
from jobstats.facts import STALLED
from jobstats.moments import EPOCH, UNITS, Moment, epoch_ms, length_ms, window
from jobstats.table import HISTORY_SCHEMA, SCHEMA, check_columns

By = str | Sequence[str] | None

_OURS = "held by jobstats"
"""Namespace of texts as numbers, which Polars groups in half the time; what the caller has of these stays as it is."""
_MONDAY_MS = 4 * UNITS["d"]
_MOST_ROWS = 1_000_000
BUCKET = "bucket"
_NONE = "\ue000"
"""Stands for null in keys that are joined, where null would equal nothing. A private character: no id holds it."""

STARTED = ~nw.col("started_at").is_null()
TOLD = nw.coalesce("observed_at_source", nw.lit("")) != "file_mtime"
"""Somebody said when it was seen. A file that was copied is newer than what is in it."""
WAITING = (
    ~STARTED
    & ~nw.col("is_ended")
    & (nw.col("eligible_at") <= nw.col("observed_at"))
    & (TOLD | (nw.coalesce("state", nw.lit("")) != "delayed"))
)
"""Due when last seen, and not started. Where it is not known when that was, what is delayed was not due yet."""
SEEN_AT = (
    nw.when(TOLD & ~nw.col("observed_at").is_null())
    .then(nw.col("observed_at"))
    .otherwise(nw.max_horizontal("finished_at", "processed_at", "created_at"))
)
"""When a run was seen, or else the newest that happened to it."""
HAS_STALLED = (nw.col("state") == "failed") & (nw.coalesce("failed_reason", nw.lit("")) == STALLED)
"""Failed for losing its worker too often, whatever its connector did."""


class Asked(NamedTuple):
    """The runs of a question, ready to be grouped by ``keys``."""

    runs: Any
    keys: list[str]
    by: list[str]
    every_ms: int | None
    since: datetime | None
    until: datetime | None

    @property
    def shown(self) -> list[str]:
        """The keys that are columns of the answer."""
        return [*self.by, *([BUCKET] if self.every_ms else [])]


def ask(
    jobs: Any,
    *,
    where: Any,
    at: Sequence[str],
    taken: Sequence[str],
    by: By,
    every: str | None,
    since: Moment,
    until: Moment,
    no_clock: str = "",
) -> Asked:
    """The runs for which ``where`` holds and whose time lies in [since, until), with the bucket of each.

    The time of a run is the first of the columns ``at`` that is known, as the column ``_at``. Its ``hour`` and
    ``weekday`` in UTC can be named in ``by`` like columns, unless ``no_clock`` says why not. ``taken`` are the columns
    of the answer.

    Raises:
        ArgumentError: ``by`` names no column, or the table has one of its own that is called like a part of the clock;
            a time or length cannot be read.
        TableError: ``jobs`` is not a jobs table.
    """
    frame = opened(jobs)
    columns = frame.collect_schema().names()
    names = _by(by, columns, taken, no_clock)
    # What else the caller's table holds may have the name of a column that is made here.
    frame = frame.select(name for name in columns if name in HISTORY_SCHEMA or name in names)
    every_ms = None if every is None else length_ms(every, "every")
    first, last = window(since, until, lambda: as_of(frame))
    frame = frame.filter(nw.col("is_latest"), where).with_columns(_at=nw.coalesce(*at))
    if first:
        frame = frame.filter(nw.col("_at") >= nw.lit(first))
    if last:
        frame = frame.filter(nw.col("_at") < nw.lit(last))
    if asked_clock := [name for name in names if name in CLOCK]:
        parts = clock(at_ms(frame))
        frame = frame.with_columns(parts[name].cast(nw.Int64).alias(name) for name in asked_clock)
    if every_ms:
        frame = frame.with_columns(((at_ms(frame) - origin_ms(every_ms)) // every_ms).alias(BUCKET))
    asked = Asked(frame, [], names, every_ms, first, last)
    if asked.shown:
        return asked._replace(keys=asked.shown)
    return asked._replace(runs=frame.with_columns(nw.lit(0).alias("_all")), keys=["_all"])


def opened(jobs: Any) -> Any:
    """Any supported frame as a lazy Narwhals frame.

    Raises:
        ArgumentError: The object is no frame Narwhals knows.
        TableError: The frame lacks columns of the jobs table.
    """
    if isinstance(jobs, str | PathLike):
        raise ArgumentError(f"expected a jobs table, found a path; pass jobstats.scan({str(jobs)!r})")
    try:
        frame = nw.from_native(jobs)
    except (TypeError, NarwhalsError) as error:
        raise ArgumentError(
            f"expected a jobs table (Polars, DuckDB, Spark …), found {type(jobs).__name__}; "
            "unpack jobs, rejects = load(…)"
        ) from error
    if isinstance(frame, nw.DataFrame):
        # Engines that hold everything in memory anyway (pandas, PyArrow) lack parts of what Polars can do with it.
        frame = nw.from_native(frame.to_polars()).lazy()
    native = frame.to_native()
    if isinstance(native, pl.LazyFrame):
        frame = nw.from_native(_typed(native))
    elif frame.implementation.is_duckdb():
        frame = _in_utc(frame)
    check_columns(frame.collect_schema().names(), type(jobs).__name__)
    return frame


def _typed(table: pl.LazyFrame) -> pl.LazyFrame:
    """With the types of the jobs table: pandas makes floats of integers when one is missing, people make Enums."""
    schema = table.collect_schema()
    return table.cast({name: dtype for name, dtype in SCHEMA.items() if schema.get(name, dtype) != dtype})


def _in_utc(frame: Any) -> Any:
    """With times that have no zone in UTC, as they are everywhere in jobstats; DuckDB takes them for the session's."""
    schema = frame.collect_schema()
    bare = [name for name in HISTORY_SCHEMA if isinstance(schema.get(name), nw.Datetime) and not schema[name].time_zone]
    if not bare:
        return frame
    replaced = ", ".join(f"{name}::timestamp at time zone 'UTC' as {name}" for name in bare)
    return nw.from_native(frame.to_native().project(f"* replace ({replaced})"))


def collected(frame: Any, *, is_plain: bool = True) -> pl.DataFrame:
    """The rows of a lazy Narwhals frame as Polars, instants in the unit and zone of the jobs table.

    Unless it must be ``plain``, texts that are held as numbers stay so.
    """
    native = frame.to_native()
    # A scan of a store may be larger than memory, and its answer is small.
    is_scan = isinstance(native, pl.LazyFrame)
    table: pl.DataFrame = native.collect(engine="streaming") if is_scan else frame.collect("polars").to_native()
    instants = [name for name, dtype in table.schema.items() if dtype == pl.Datetime]
    table = table.with_columns(pl.col(instants).dt.convert_time_zone("UTC").dt.cast_time_unit("ms"))
    return plain(table) if is_plain else table


def plain(table: pl.DataFrame) -> pl.DataFrame:
    """With the texts that are held as numbers as texts."""
    ours = [
        name
        for name, dtype in table.schema.items()
        if isinstance(dtype, pl.Categorical) and dtype.categories.namespace() == _OURS
    ]
    return table.with_columns(pl.col(ours).cast(pl.String))


def flags(conditions: dict[str, Any]) -> list[Any]:
    """A column of 1 and 0 for each condition, which every engine can sum."""
    return [nw.when(condition).then(1).otherwise(0).alias(name) for name, condition in conditions.items()]


def coded(frame: Any, conditions: dict[str, Any]) -> Any:
    """With the column ``_code``, which says for each row what conditions hold, the first in its lowest bit."""
    bits = (nw.when(condition).then(2**place).otherwise(0) for place, condition in enumerate(conditions.values()))
    return frame.with_columns(_code=sum(bits, start=nw.lit(0)))


def tallied(frame: Any, keys: Sequence[str], names: Sequence[str]) -> pl.DataFrame:
    """For how many rows of a coded frame each condition holds, by group.

    A sum for each condition takes every engine longer than to count the rows of each code.
    """
    found = collected(frame.group_by(*keys, "_code").agg(nw.len().alias("_n")))
    count, code = pl.col("_n").cast(pl.Int64), pl.col("_code").cast(pl.Int64)
    counts = {name: count * (code // 2**place % 2) for place, name in enumerate(names)}
    return found.select(*keys, **counts).group_by(keys).sum()


def held(frame: Any, columns: Sequence[str]) -> Any:
    """These columns, to be asked of more than once: Polars holds them in memory, other engines read them again."""
    frame = frame.select(*columns)
    native = frame.to_native()
    if not isinstance(native, pl.LazyFrame):
        return frame
    texts = pl.Categorical(pl.Categories.random(namespace=_OURS))
    return nw.from_native(native.with_columns(pl.col(pl.String).cast(texts)).collect(engine="streaming").lazy())


def counted(frame: Any, conditions: dict[str, Any]) -> dict[str, int]:
    """For how many rows each condition holds."""
    sums = collected(frame.with_columns(*flags(conditions)).select(nw.col(*conditions).sum()))
    return {name: int(count or 0) for name, count in sums.row(0, named=True).items()}


def answered(asked: Asked, measured: pl.DataFrame) -> pl.DataFrame:
    """Every window and group as a row: what was not seen has counts of 0 and no measures. Sorted by the keys.

    Raises:
        ArgumentError: The grid would be too large to read.
    """
    if asked.every_ms is None:
        if asked.by:
            return measured.drop("_all", strict=False).sort(asked.by, nulls_last=True)
        everything = pl.DataFrame({"_all": [0]}, schema={"_all": measured.schema["_all"]})
        return everything.join(measured, on="_all", how="left").drop("_all").with_columns(_zero_counts(asked, measured))
    buckets = _buckets(asked, measured)
    groups = measured.select(asked.by).unique() if asked.by else pl.DataFrame({"_one": [0]})
    check_size(buckets.len(), len(groups))
    grid = groups.join(pl.DataFrame({BUCKET: buckets}), how="cross")
    start = (
        (pl.col(BUCKET) * asked.every_ms + origin_ms(asked.every_ms))
        .cast(pl.Datetime("ms"))
        .dt.replace_time_zone("UTC")
    )
    return (
        grid.join(measured, on=asked.keys, how="left", nulls_equal=True)
        .select(*asked.by, start, *(name for name in measured.columns if name not in asked.keys))
        .with_columns(_zero_counts(asked, measured))
        .sort(asked.keys, nulls_last=True)
    )


def check_size(n_windows: int, n_groups: int) -> None:
    """Raise an ArgumentError where an answer would have more rows than anyone reads."""
    if n_windows * n_groups > _MOST_ROWS:
        raise ArgumentError(f"{n_windows:,} windows × {n_groups:,} groups are too many; choose a longer every")


def returned(answer: pl.DataFrame, jobs: Any) -> Any:
    """The answer as the kind of frame that ``jobs`` is."""
    kind = nw.from_native(jobs).implementation
    if kind.is_polars():
        return answer.lazy() if isinstance(jobs, pl.LazyFrame) else answer
    if kind.is_duckdb():
        arrow = answer.to_arrow()  # noqa: F841  named in the query: DuckDB finds it here
        return jobs.query("jobs", "select * from arrow")
    if kind.is_pyspark() or kind.is_pyspark_connect():
        return jobs.sparkSession.createDataFrame(answer.to_arrow())
    return nw.from_native(answer).lazy().collect(kind).to_native()


def outcomes_are_seen(jobs: Any) -> bool:
    """Whether this data, as a whole, holds enough of the ends there were to say how runs end."""
    conditions = {
        "completed": nw.col("state") == "completed",
        "ended": nw.col("is_ended"),
        "unseen": STARTED & ~nw.col("is_ended"),
    }
    return is_estimable(**counted(opened(jobs).filter(nw.col("is_latest")), conditions))


def is_estimable(completed: int, ended: int, unseen: int) -> bool:
    """Whether completed runs are listed, and the ends seen are most of the ends there were."""
    return completed > 0 and ended >= unseen


def alike(table: pl.DataFrame, frame: Any) -> Any:
    """A small table on the engine of a lazy Narwhals frame, to be joined with it."""
    return nw.from_native(returned(table, frame.to_native())).lazy()


def numbered(frame: Any, columns: Sequence[str], name: str) -> tuple[Any, pl.DataFrame]:
    """With a number for each combination of text columns: numbers are grouped and joined many times as fast.

    Also what each number stands for, as groups by number need none of the texts.
    """
    keys = {column: f"_{name}_{column}" for column in columns}
    frame = frame.with_columns(nw.col(column).fill_null(_NONE).alias(key) for column, key in keys.items())
    known = collected(frame.select(*keys.values()).unique()).sort(*keys.values())
    known = known.with_columns(pl.int_range(pl.len()).alias(name))
    numbers = frame.join(alike(known, frame), on=list(keys.values())).drop(*keys.values())
    return numbers, known.select(
        name, *(pl.col(key).replace(_NONE, None).alias(column) for column, key in keys.items())
    )


def rate(part: str, whole: str, name: str, confidence: float) -> list[pl.Expr]:
    """``part / whole`` as ``name`` with its Wilson interval; null where the whole is 0.

    Wilson, E. B. (1927), Probable inference, the law of succession, and statistical inference. It holds its level
    for small n and for shares near 0 and 1, where the usual interval does not.
    """
    check_confidence(confidence)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    n, share = pl.col(whole), pl.col(part) / pl.col(whole)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)).sqrt()
    # None and all are exact: rounding must not make a rate of 0 look surely above it.
    low = pl.when(pl.col(part) == 0).then(0.0).otherwise((centre - half).clip(0, 1))
    high = pl.when(share == 1).then(1.0).otherwise((centre + half).clip(0, 1))
    bounds = {name: share, f"{name}_low": low, f"{name}_high": high}
    return [pl.when(n > 0).then(value).alias(column) for column, value in bounds.items()]


def check_confidence(confidence: float) -> None:
    """Refuse what is no level of an interval."""
    if not isinstance(confidence, int | float) or not 0 < confidence < 1:
        raise ArgumentError(f"confidence must lie between 0 and 1, found {confidence}")


def as_of(frame: Any) -> datetime | None:
    """The "now" of the data: the newest observation, or else the newest thing that happened. Never the wall clock.

    Nor the modification time of a file, which is that of its last copy.
    """
    newest: datetime | None = collected(frame.select(SEEN_AT.max().alias("newest"))).item()
    return newest


def _by(by: By, columns: list[str], taken: Sequence[str], no_clock: str) -> list[str]:
    names = [by] if isinstance(by, str) else [] if by is None else list(by)
    for name in names:
        if not isinstance(name, str):
            raise ArgumentError(f"by takes names of columns, found {type(name).__name__}")
        if name.startswith("_"):
            raise ArgumentError(f"by names {name!r}; what begins with _ is a name of the analyses' own, rename yours")
        if name in {"", "*"} or (name.startswith("^") and name.endswith("$")):
            raise ArgumentError(f"by names {name!r}, which engines take for several columns; rename yours")
        if name in taken:
            raise ArgumentError(f"by names {name!r}, which is a column of the answer; rename yours")
        if name in CLOCK:
            _check_clock(name, columns, no_clock)
        elif name not in columns or name == BUCKET:
            near = difflib.get_close_matches(name, [*SCHEMA, *(() if no_clock else CLOCK)], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "" if no_clock else ", nor 'hour' or 'weekday'"
            raise ArgumentError(f"by names {name!r}, which is not a column of the jobs table{hint}")
    if len(set(names)) < len(names):
        raise ArgumentError(f"by names a column twice: {names}")
    return names


def _check_clock(name: str, columns: list[str], no_clock: str) -> None:
    if name in columns:
        raise ArgumentError(f"by names {name!r}, the {name} of a run in UTC, and a column of yours too; rename yours")
    if no_clock:
        raise ArgumentError(f"by names {name!r}, but {no_clock}")


def at_ms(frame: Any, name: str = "_at") -> Any:
    """The time of each run, or another instant of it, in milliseconds since the epoch."""
    if frame.implementation.is_spark_like():
        # Spark has no length in milliseconds; seconds as a double are exact to the millisecond for 285,000 years.
        return (nw.col(name).cast(nw.Float64) * 1000).round().cast(nw.Int64)
    if frame.implementation.is_duckdb() and getattr(frame.collect_schema()[name], "time_zone", None) == "UTC":
        # DuckDB takes four times as long to subtract instants that have a zone.
        return (nw.col(name).dt.replace_time_zone(None) - nw.lit(EPOCH.replace(tzinfo=None))).dt.total_milliseconds()
    return (nw.col(name) - nw.lit(EPOCH)).dt.total_milliseconds()


def origin_ms(every_ms: int) -> int:
    """Weeks start on Monday, everything else on the grid of the epoch, which is midnight UTC."""
    return _MONDAY_MS if every_ms % UNITS["w"] == 0 else 0


def _buckets(asked: Asked, measured: pl.DataFrame) -> pl.Series:
    every_ms = asked.every_ms or 1
    seen: list[int] = measured[BUCKET].to_list()

    def place(moment: datetime) -> int:
        return (epoch_ms(moment) - origin_ms(every_ms)) // every_ms

    first = place(asked.since) if asked.since else min(seen, default=None)
    last = place(asked.until - timedelta(milliseconds=1)) if asked.until else max(seen, default=first)
    if first is None or last is None or (not seen and not (asked.since and asked.until)):
        return pl.Series(BUCKET, [], dtype=pl.Int64)
    if last - first >= _MOST_ROWS:
        raise ArgumentError(f"{last - first + 1:,} windows are too many; choose a longer every")
    return pl.Series(BUCKET, range(first, last + 1), dtype=pl.Int64)


def _zero_counts(asked: Asked, measured: pl.DataFrame) -> pl.Expr:
    counts = [name for name in measured.columns if name.split("_")[0] == "n" and name not in asked.keys]
    return pl.col(counts).fill_null(0)
