import inspect
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import jobstats as js

VOCABULARY = {
    "by",
    "every",
    "since",
    "until",
    "q",
    "confidence",
    "bound",
    "censored",
    "grace",
    "observed_at",
    "progress",
    "baseline",
    "rules",
    "catalog",
    "columns",
    "of",
    "live",
    "most",
    "runs",
    "slo",
    "within",
}
FUNCTIONS = [name for name in js.__all__ if inspect.isfunction(getattr(js, name))]


def test_all_is_what_is_there():
    assert js.__all__ == sorted(js.__all__)
    assert all(hasattr(js, name) for name in js.__all__)
    assert dir(js) == sorted([*js.__all__, "__version__"])
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = js.nothing


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_documented_typed_and_speak_one_vocabulary(name):
    function = getattr(js, name)
    assert inspect.getdoc(function)
    assert inspect.signature(function).parameters == {} or "Raises:" in inspect.getdoc(function)
    hints = typing.get_type_hints(function)
    for parameter in inspect.signature(function).parameters.values():
        assert parameter.name in hints
        assert (parameter.kind is inspect.Parameter.KEYWORD_ONLY) == (parameter.name in VOCABULARY)
    assert "return" in hints


@pytest.mark.parametrize(
    ("asked", "spared"),
    [
        ("", ("polars", "narwhals", "pydantic", "pyarrow")),
        ("; jobstats.queue_latency", ("pydantic", "pyarrow", "numpy", "altair", "duckdb")),
        ("; jobstats.load", ("altair", "duckdb", "jinja2", "vl_convert", "rich", "cyclopts")),
    ],
)
def test_importing_does_not_import_what_few_need(asked, spared):
    script = f"import sys, jobstats{asked}; print(*(name for name in {spared} if name in sys.modules))"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == ""


def test_no_module_has_the_name_of_a_function():
    """Whoever imported that module first would find it in place of the function."""
    modules = {path.stem for path in Path(js.__file__).parent.iterdir()}
    assert modules & set(js.__all__) == {"charts", "reasons"}


def test_the_theme_of_the_user_is_left_alone():
    script = "import altair as alt, jobstats as js; js.charts; print(alt.theme.active); js.charts.use_theme(); print(alt.theme.active)"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert shown == ["default", "jobstats"]
