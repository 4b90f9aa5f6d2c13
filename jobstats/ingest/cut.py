"""JSON objects → the JSON text of each known key, a whole column of objects at a time, and whether that is all of them.

DuckDB parses and writes every value back in the shortest form there is. So an object whose values, with their keys and
the least punctuation between them, are as long as the object itself holds nothing else: no unknown key, no key twice,
no blank, no stray comma, no second way to write a string. The one thing that DuckDB writes longer than it may have
been is a number with an exponent; where one could hide, the text must be found in the object as written.
"""

import threading
from collections.abc import Sequence

import duckdb
import polars as pl
import pyarrow as pa

_SCHEMA = pa.schema([("text", pa.large_string())])
_ROWS = 2048
"""Rows at a time, as many as DuckDB likes."""
_FLOATING = r'(^|":|[\[,])-?\d+[.eE]'
_of_thread = threading.local()


def cut(texts: pl.Series, keys: Sequence[str]) -> tuple[pl.DataFrame, pl.Series]:
    """A column of JSON text for each key, null where the key is missing or null; and which rows these columns make up.

    Texts that are no JSON objects have all columns null and do not count as made up.
    """
    fields = _fields(texts, keys)
    return fields, _rebuilt(texts, fields, _lengths(fields))


def cut_with_nulls(texts: pl.Series, keys: Sequence[str]) -> tuple[pl.DataFrame, pl.Series]:
    """The same for objects that may say null; it takes a second look at the keys."""
    fields = _fields(texts, keys)
    found = _select("case when json_valid(text) then json_keys(text) end as keys", texts)["keys"]
    nulls = [
        pl.when(pl.col(key).is_null() & found.list.contains(key)).then(len(key) + len('"":null,')).otherwise(0)
        for key in keys
    ]
    return fields, _rebuilt(texts, fields, _lengths(fields) + pl.sum_horizontal(nulls))


def holds_float(texts: str) -> pl.Expr:
    """Whether JSON text in a column may hold a number that is no integer."""
    return pl.col(texts).str.contains(_FLOATING)


def _rebuilt(texts: pl.Series, fields: pl.DataFrame, lengths: pl.Expr) -> pl.Series:
    return fields.select(lengths == texts.str.len_bytes()).to_series()


def _lengths(fields: pl.DataFrame) -> pl.Expr:
    """Two braces, and each key with its value, quotes, colon and comma; the last has no comma."""
    parts = [pl.col(key).str.len_bytes().cast(pl.Int64) + len(key) + len('"":,') for key in fields.columns]
    return pl.sum_horizontal(parts) + 1


def _fields(texts: pl.Series, keys: Sequence[str]) -> pl.DataFrame:
    wanted = "{" + ",".join(f'"{key}":"JSON"' for key in keys) + "}"
    fields = f"json_transform(text, '{wanted}')"
    try:
        return _select(f"unnest({fields})", texts)
    except duckdb.InvalidInputException:
        return _select(f"unnest(case when json_valid(text) then {fields} end)", texts)


def _select(expression: str, texts: pl.Series) -> pl.DataFrame:
    if not hasattr(_of_thread, "connection"):
        # The batches beside this one keep the other cores busy.
        _of_thread.connection = duckdb.connect(config={"threads": 1})
    arrow = texts.to_arrow(compat_level=pl.CompatLevel.oldest())
    parts = [pa.record_batch([arrow[start : start + _ROWS]], _SCHEMA) for start in range(0, len(arrow), _ROWS)]
    relation = _of_thread.connection.from_arrow(pa.Table.from_batches(parts, _SCHEMA))
    return pl.DataFrame(relation.project(expression).to_arrow_table())
