"""What tests of charts ask of a spec."""

import io
import re

import polars as pl
import vl_convert

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


def marks(chart) -> dict[str, int]:
    """How many items of each kind of mark are in the picture, axes and titles apart; a line is one."""
    scene = vl_convert.vegalite_to_scenegraph(chart.to_json())["scenegraph"]
    counts: dict[str, int] = {}
    for node in nodes(scene):
        if isinstance(node, dict) and "marktype" in node and re.search("marks$", str(node.get("name"))):
            n = 1 if node["marktype"] in ("line", "area") else len(node["items"])
            counts[node["marktype"]] = counts.get(node["marktype"], 0) + n
    return counts
