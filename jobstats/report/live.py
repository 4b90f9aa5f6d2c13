"""Charts that answer to the pointer: what the page hands to Vega, under a policy that lets no code be compiled."""

import csv
import io
import json
from collections.abc import Mapping
from math import isfinite
from typing import Any

import altair as alt

from jobstats.report.drawing import spec, theme


def specs(charts: Mapping[str, alt.TopLevelMixin]) -> str:
    """The specifications of charts by their names, and their common look, as JSON."""
    found = {name: _unthemed(spec(chart)) for name, chart in charts.items()}
    return json.dumps({"theme": theme(), "charts": found}, separators=(",", ":"), ensure_ascii=False)


def _unthemed(text: str) -> dict[str, Any]:
    """A specification without its look, which the page gives it when it is drawn."""
    found: dict[str, Any] = json.loads(text)
    found.pop("config", None)
    kinds: dict[str, dict[str, str]] = {}
    _take_formats(found, kinds)
    found["datasets"] = {name: _rows(text, kinds[name]) for name, text in found.get("datasets", {}).items()}
    return found


def _take_formats(node: Any, kinds: dict[str, dict[str, str]]) -> None:
    """Data is no CSV any more: Vega compiles code to read it, which the policy of the page does not allow."""
    for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _take_formats(part, kinds)
    if isinstance(node, dict) and isinstance(data := node.get("data"), dict) and "name" in data and "format" in data:
        kinds[data["name"]] = data.pop("format").get("parse", {})


def _rows(text: str, kinds: dict[str, str]) -> dict[str, Any]:
    """A table as its names and rows, of which the page makes objects."""
    names, *rows = csv.reader(io.StringIO(text, newline=""))
    return {
        "names": names,
        "rows": [[_typed(kinds.get(n), v) for n, v in zip(names, row, strict=True)] for row in rows],
    }


def _typed(kind: str | None, value: str) -> str | float | bool | None:
    if value == "":
        return None
    if kind == "number":
        number = float(value)
        return int(number) if number.is_integer() else number if isfinite(number) else None
    return value == "true" if kind == "boolean" else value
