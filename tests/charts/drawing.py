"""What tests of charts ask of a spec."""

import io

import polars as pl

import jobstats as js

DRAWN = 1e-5
"""Numbers are drawn to six digits."""


def draw(name: str, table) -> dict:
    return getattr(js.charts, name)(table).to_dict()


def subtitle(spec: dict) -> str:
    return " · ".join(spec["title"]["subtitle"])


def datasets(spec: dict) -> list[list[dict]]:
    """The rows of each data set of a spec."""
    return [pl.read_csv(io.StringIO(text), infer_schema_length=None).to_dicts() for text in spec["datasets"].values()]


def rows(spec: dict) -> int:
    return sum(len(data) for data in datasets(spec))


def values(spec: dict) -> list[dict]:
    """The rows of a spec that has one data set, or several of the same rows."""
    return datasets(spec)[0]


def nodes(node):
    yield node
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from nodes(inner)
