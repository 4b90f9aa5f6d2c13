"""Records that could not be accepted: bad rows are data, not an exception and not a log line."""

from typing import Any

import polars as pl

RAW_CHARACTERS_KEPT = 2_000
"""How much of a refused text is kept; ``raw_bytes`` has the length of the whole."""

SCHEMA = pl.Schema(
    {
        "source": pl.String,  # file, or kind of object
        "line": pl.Int64,  # 1-based line of the file; null where a document is not read by lines
        "index": pl.Int64,  # 0-based place in an array or list
        "field": pl.String,  # path in the record; empty when the text is no record at all
        "reason": pl.String,  # what was wrong, what was found, what would be right
        "raw": pl.String,  # the first 2,000 characters as found; bytes that are not UTF-8 as \xNN
        "raw_bytes": pl.Int64,  # length of the whole
    }
)


def row(source: str, line: int | None, index: int | None, field: str, reason: str, text: bytes) -> tuple[Any, ...]:
    """One reject in the order of :data:`SCHEMA`."""
    # Cut behind what is kept, so that no character is cut in two.
    raw = text[: 5 * RAW_CHARACTERS_KEPT].decode("utf-8", "backslashreplace")[:RAW_CHARACTERS_KEPT]
    return source, line, index, field, reason, raw, len(text)


def frame(rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    """The rejects frame."""
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def by_reason(rejects: pl.LazyFrame) -> pl.DataFrame:
    """How often records were refused for the same reason, and where first: most frequent first.

    Returns:
        ``reason``, ``source`` and ``line`` of the first, and ``n``. What was found, and where in the text
        the JSON broke, make no other reason.
    """
    same = pl.col("reason").str.replace(r" at line \d+ column \d+$", "").str.replace(r", found .*", "")
    return (
        rejects.group_by("field", same.alias("_same"), maintain_order=True)
        .agg(pl.col("reason", "source", "line").first(), n=pl.len())
        .sort("n", "field", "reason", descending=[True, False, False])
        .drop("field", "_same")
        .collect()
    )


def place(reject: dict[str, Any]) -> str:
    """Where a reject was found, as a compiler would say it."""
    return f"{reject['source']}:{reject['line']}" if reject["line"] else str(reject["source"])
