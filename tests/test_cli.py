import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest

from synapseclr.pipeline_registry import register_pipelines

PROJECT = Path(__file__).resolve().parents[1]
PIPELINES = register_pipelines()
HEAVY = {"torch", "lightning", "monai", "umap", "sklearn", "faiss", "anndata", "cloudvolume", "matplotlib", "plotly"}


def test_the_agreed_pipelines_are_there():
    assert {"simulation", "preprocessing", "pretraining", "embedding", "analysis", "demo", "__default__"} <= set(
        PIPELINES
    )
    assert set(PIPELINES["demo"].nodes) == set(PIPELINES["simulation"].nodes) | set(PIPELINES["__default__"].nodes)


def test_the_registry_is_listed_without_heavy_imports():
    code = (
        "import sys; sys.argv = ['kedro', 'registry', 'list']\n"
        "from kedro.framework.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print('LOADED', *sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert "- demo" in done.stdout, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "LOADED"


@pytest.mark.parametrize("node", PIPELINES["demo"].nodes, ids=lambda node: node.name)
def test_parameters_are_typed_so_that_they_are_checked_before_the_run(node):
    hints = get_type_hints(node.func)
    n_models = sum(hasattr(hint, "model_validate") for hint in hints.values())
    assert n_models == sum(name.startswith("params:") for name in node.inputs)


@pytest.mark.parametrize("node", PIPELINES["demo"].nodes, ids=lambda node: node.name)
def test_nodes_are_described_for_the_graph(node):
    assert (node.func.__doc__ or "").strip()
