"""Every notebook runs from top to bottom on the outputs of a (tiny) demo."""

from pathlib import Path

import nbformat
import pytest

PROJECT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_on_the_outputs_of_a_demo(path, demo, monkeypatch):
    from nbclient import NotebookClient

    for name, value in demo.variables.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(path, as_version=4)
    load = f"%load_ext kedro.ipython\n%reload_kedro {PROJECT} --env={demo.environment} --params=data_root={demo.root}"
    notebook.cells.insert(0, nbformat.v4.new_code_cell(load))
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": PROJECT}}).execute()
    drawn = [out for cell in notebook.cells for out in cell.get("outputs", []) if "image/png" in out.get("data", {})]
    assert drawn


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(path):
    cells = nbformat.read(path, as_version=4).cells
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
