"""An answer as text, in the formats the command line offers."""

import io
import math
from collections.abc import Callable
from csv import writer as writer_of
from datetime import datetime
from json import dumps

import polars as pl

from jobstats.errors import ArgumentError
from jobstats.wording import escaped, percent, plural, safe

_FORMULAS = frozenset("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
"""Half and full width."""


def table(answer: pl.DataFrame) -> str:
    """For people: the first 50 rows, every column."""
    texts = [name for name, dtype in answer.schema.items() if dtype == pl.String]
    answer = answer.with_columns(
        pl.Series(name, [None if value is None else safe(value, 500) for value in answer[name]], dtype=pl.String)
        for name in texts
    )
    options = {
        "tbl_rows": 50,
        "tbl_cell_numeric_alignment": "RIGHT",
        "tbl_cols": -1,
        "fmt_str_lengths": 80,
        "tbl_hide_column_data_types": True,
    }
    with pl.Config(tbl_width_chars=10_000, tbl_hide_dataframe_shape=True, **options):  # type: ignore[arg-type]
        shown = str(answer.head(50))
    return f"{shown}\n" + (f"first 50 of {len(answer):,} rows; --format csv prints all\n" if len(answer) > 50 else "")


def csv(answer: pl.DataFrame) -> str:
    """For spreadsheets and programs; instants as ISO text.

    Text that a spreadsheet would run as a formula begins with an apostrophe, which spreadsheets do not show.
    """
    text = io.StringIO()
    writer = writer_of(text, lineterminator="\n")
    writer.writerow([_no_formula(name) for name in answer.columns])
    writer.writerows([_no_formula(_iso(value)) for value in row] for row in answer.iter_rows())
    return text.getvalue()


def _begins(text: str) -> str:
    """The first character that a spreadsheet sees; white space that begins a cell is one in itself."""
    return next((character for character in text if character in _FORMULAS or safe(character) != "(blank)"), "")


def _no_formula(value: object) -> object:
    """Text that is no formula anywhere; instants and numbers are not text here."""
    return f"'{value}" if isinstance(value, str) and _begins(value) in _FORMULAS else value


def json(answer: pl.DataFrame) -> str:
    """A line of JSON a row; what would move a terminal's cursor or turn its text around is written as an escape."""
    rows = ({name: _plain(value) for name, value in row.items()} for row in answer.iter_rows(named=True))
    return "".join(escaped(dumps(row, default=str, ensure_ascii=False)) + "\n" for row in rows)


def causes(reasons: pl.DataFrame, width: int | None = None) -> pl.DataFrame:
    """The table of :func:`jobstats.failure_reasons` with what fits a terminal, and rows that failed or may fail."""
    counts = [name for name in ("n", "n_retrying", "n_before") if name in reasons.columns]
    last = pl.col("last_seen_at").dt.strftime("%Y-%m-%d %H:%M")
    compared = [pl.col("change"), pl.col("n_before")] if "change" in reasons.columns else []
    groups = reasons.columns[: reasons.columns.index("cause")]
    shown = reasons.filter(pl.any_horizontal(pl.col(counts) > 0))
    shares = pl.Series("share", [percent(share) for share in shown["share"]], dtype=pl.String)
    shown = shown.with_columns(shares).select(
        *groups, "cause", "category", *compared, "n", "share", "n_recovered", "n_retrying", "connectors", last
    )
    for name in ("last_seen_at", "n_retrying", "connectors", "category"):
        if width is None or max(map(len, table(shown).splitlines())) <= width:
            break
        shown = shown.drop(name)
    return shown


def causes_counted(reasons: pl.DataFrame) -> str:
    """What the table of :func:`jobstats.failure_reasons` adds up to, in a sentence."""
    n, recovered, retrying = (int(reasons[name].sum()) for name in ("n", "n_recovered", "n_retrying"))
    counted = f"{plural(n, 'failed run')}, {recovered:,} recovered after an error, {retrying:,} to be tried again"
    if "change" not in reasons.columns:
        return counted
    changes = reasons.filter(pl.col("change").is_in(["new", "rising", "burst", "falling", "vanished"]))
    kinds = changes.group_by("change").len().sort("change").rows()
    if len(reasons) and reasons["change"].is_null().all():
        return f"{counted}; nothing to compare with: one of the windows holds no runs"
    return f"{counted}; " + (", ".join(f"{count:,} {kind}" for kind, count in kinds) or "no clear change")


def _plain(value: object) -> object:
    """Instants as ISO text; numbers that JSON does not have, and decimals, as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return _iso(value)


def _iso(value: object) -> object:
    if not isinstance(value, datetime):
        return value
    return value.isoformat(timespec="microseconds" if value.microsecond % 1000 else "milliseconds").replace(
        "+00:00", "Z"
    )


FORMATS: dict[str, Callable[[pl.DataFrame], str]] = {"table": table, "csv": csv, "json": json}


def written(answer: pl.DataFrame, kind: str) -> str:
    """An answer as text of one of the :data:`FORMATS`.

    Raises:
        ArgumentError: It holds an instant that Python has no word for.
    """
    try:
        return FORMATS[kind](answer)
    except (OverflowError, ValueError, pl.exceptions.PanicException) as error:
        raise ArgumentError("the answer holds a value outside the calendar; cast it to text") from error
