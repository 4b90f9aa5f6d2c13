"""Data flows one way: no module imports one downstream of it, and none reaches into another's privates."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "jobstats"
FLOW = [
    "errors",
    "wording",
    "moments",
    "contract",
    "table",
    "firing",
    "facts",
    "timing",
    "ends",
    "ingest",
    "spool",
    "histories",
    "parquet",
    "parts",
    "stores",
    "engines",
    "reasons",
    "objectives",
    "analysis",
    "charts",
    "report",
    "formats",
    "terminal",
    "cli",
    "__main__",
]
"""Upstream first. timing is upstream of ingest because the loader ends by calling it."""
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room(parts: list[str]) -> int:
    return FLOW.index(parts[1])


def imported(path: Path) -> list[tuple[list[str], list[str]]]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found.append(((node.module or "").split("."), [alias.name for alias in node.names]))
        elif isinstance(node, ast.Import):
            found += [(alias.name.split("."), []) for alias in node.names]
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_upstream_and_touch_no_privates(path):
    own = room(["jobstats", *path.relative_to(PACKAGE).with_suffix("").parts])
    for module, names in imported(path):
        if module[0] != "jobstats":
            continue
        targets = [[*module, name] for name in names] if len(module) == 1 else [module]
        assert all(room(target) <= own for target in targets), module
        assert not any(name.startswith("_") for name in [*module, *names]), (module, names)


@pytest.mark.parametrize(
    ("library", "rooms"),
    [
        ("altair", {"charts", "report"}),
        ("vl_convert", {"report"}),
        ("jinja2", {"report"}),
        ("duckdb", {"engines", "ingest"}),
        ("cyclopts", {"cli"}),
        ("rich", {"terminal"}),
    ],
)
def test_libraries_stay_in_their_rooms(library, rooms):
    users = {
        path.relative_to(PACKAGE).with_suffix("").parts[0]
        for path in MODULES
        if any(module[0] == library for module, _ in imported(path))
    }
    assert users == rooms


def test_only_the_command_line_prints():
    printers = {
        path.name
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert printers == {"cli.py", "terminal.py"}
