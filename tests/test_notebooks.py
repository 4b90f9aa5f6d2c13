"""Notebooks are written as scripts and paired with an .ipynb without outputs; both say the same, and run."""

import jupytext
import nbclient
import nbformat
import pytest

from .conftest import ROOT

SCRIPTS = sorted((ROOT / "notebooks").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_pair_says_the_same(script):
    source, pair = jupytext.read(script), jupytext.read(script.with_suffix(".ipynb"))
    assert [(cell.cell_type, cell.source) for cell in pair.cells] == [
        (cell.cell_type, cell.source) for cell in source.cells
    ]
    assert not any(cell.get("outputs") for cell in pair.cells)


# ipykernel and its libraries warn about things that are theirs to mend.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_it_runs_without_a_word_of_complaint(script):
    notebook = nbformat.from_dict(jupytext.read(script))
    nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(ROOT / "notebooks")}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert sum("vegaEmbed" in str(output.get("data", {})) for output in outputs) == sum(
        cell.source.startswith("js.charts.") for cell in notebook.cells
    )
