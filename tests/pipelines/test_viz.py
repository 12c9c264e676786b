"""The pipeline graph, through kedro-viz' own server."""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]

LAYERS = {"raw", "intermediate", "primary", "feature", "models", "model_output", "reporting"}


# What `kedro viz run` starts, without its question to PyPI for a newer version (a closed network can end it there).
SERVE = """
import sys
from pathlib import Path
from kedro.framework.startup import bootstrap_project
from kedro_viz.server import run_server

project, port, data_root = sys.argv[1:]
package = bootstrap_project(Path(project)).package_name
run_server(
    port=int(port), project_path=project, package_name=package, pipeline_name="demo", env="test",
    extra_params={"data_root": data_root},
)
"""


@pytest.fixture(scope="module")
def viz(demo, tmp_path_factory):
    """A function that asks the server."""
    log = tmp_path_factory.mktemp("viz") / "server.log"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", SERVE, str(PROJECT), str(port), str(demo.root)]
    with log.open("w") as stream:
        server = subprocess.Popen(command, cwd=PROJECT, env=demo.variables, stdout=stream, stderr=subprocess.STDOUT)

    def ask(path):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/{path}", timeout=60) as answer:
            return json.load(answer)

    try:
        for _ in range(360):
            try:
                ask("main")
                break
            except (urllib.error.URLError, ConnectionError):
                assert server.poll() is None, f"kedro viz ended with {server.returncode}: {log.read_text()}"
                time.sleep(0.5)
        yield ask
    finally:
        server.kill()
        server.wait(timeout=30)


@pytest.fixture(scope="module")
def nodes(viz):
    return {node["name"]: node for node in viz("main")["nodes"]}


def test_every_node_of_the_demo_is_in_the_graph(nodes):
    from synapseclr.pipeline_registry import register_pipelines

    names = {node.name.split(".")[-1] for node in register_pipelines()["demo"].nodes}
    shown = {node["name"].split(".")[-1].lower().replace(" ", "_") for node in nodes.values() if node["type"] == "task"}
    assert names <= shown


def test_datasets_lie_in_kedros_layers(viz, nodes):
    assert set(viz("main")["layers"]) >= LAYERS
    layer = {name: node.get("layer") for name, node in nodes.items()}
    assert layer["em_volume"] == "raw"
    assert layer["synapse_chunks"] == "intermediate"
    assert layer["encoder_weights"] == "models"
    assert layer["synapse_embeddings"] == "model_output"
    assert layer["report"] == "reporting"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("training_curve", "PlotlyPreview"),
        ("manifold_overlays", "ImagePreview"),
        ("similarity_strip", "ImagePreview"),
        ("similarity_distances", "ImagePreview"),
        ("similarity_results", "TablePreview"),
        ("outlier_sheet", "ImagePreview"),
        ("outlier_candidates", "TablePreview"),
        ("augmented_pairs", "ImagePreview"),
        ("imputation_reliability", "ImagePreview"),
        ("imputed_traits", "TablePreview"),
        ("neurite_cell_types", "TablePreview"),
        ("trait_scores", "TablePreview"),
        ("synapse_table", "TablePreview"),
    ],
)
def test_figures_and_tables_have_a_preview(viz, nodes, name, kind):
    detail = viz(f"nodes/{nodes[name]['id']}")
    assert detail["preview_type"] == kind
    assert detail["preview"]
