"""Every notebook runs from top to bottom on the outputs of a (tiny) demo, and is kept without outputs."""

from pathlib import Path

import nbformat
import pytest

PROJECT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def kernel(demo):
    """One kernel for all notebooks: starting it and importing libraries takes longer than their cells."""
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(env=demo.variables, cwd=str(PROJECT))
    client.stop_channels()
    yield manager
    manager.shutdown_kernel(now=True)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_on_the_outputs_of_a_demo(path, demo, kernel):
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    load = f"%reload_kedro {PROJECT} --env={demo.environment} --params=data_root={demo.root}"
    before = ["%reset -f", "%load_ext kedro.ipython", load]
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in before] + notebook.cells
    NotebookClient(notebook, km=kernel, timeout=300, shutdown_kernel="immediate").execute(cleanup_kc=False)
    drawn = [out for cell in notebook.cells for out in cell.get("outputs", []) if "image/png" in out.get("data", {})]
    assert drawn
    warned = [out["text"] for cell in notebook.cells for out in cell.get("outputs", []) if out.get("name") == "stderr"]
    assert not warned
    shown = [out for cell in notebook.cells[len(before) :] for out in cell.get("outputs", [])]
    messages = [out for out in shown if out["output_type"] == "display_data" and "text/html" in out["data"]]
    assert not [out["data"]["text/html"] for out in messages]  # neither log messages nor empty blocks


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(path):
    cells = nbformat.read(path, as_version=4).cells
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


def test_the_documentation_lists_every_notebook():
    page = (PROJECT / "docs/notebooks.md").read_text()
    assert [path.stem for path in NOTEBOOKS if f"`{path.stem}`" not in page] == []
