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
import yaml

from synapseclr.pipeline_registry import STAGES, register_pipelines

PROJECT = Path(__file__).resolve().parents[2]

LAYERS = ("raw", "intermediate", "primary", "models", "model_output", "reporting")


@pytest.fixture(scope="module")
def viz(demo, tmp_path_factory):
    """A function that asks the server."""
    log = tmp_path_factory.mktemp("viz") / "server.log"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, PROJECT / "scripts/viz.py", f"--port={port}", "--env=test", "--pipeline=demo"]
    command.append(f"--data-root={demo.root}")
    with log.open("w") as stream:
        server = subprocess.Popen(command, cwd=PROJECT, env=demo.variables, stdout=stream, stderr=subprocess.STDOUT)

    def ask(path, is_page=False):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{'' if is_page else 'api/'}{path}", timeout=60) as answer:
            return (answer.url, answer.read().decode()) if is_page else json.load(answer)

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
    names = {node.name.split(".")[-1] for node in register_pipelines()["demo"].nodes}
    shown = {node["name"].split(".")[-1].lower().replace(" ", "_") for node in nodes.values() if node["type"] == "task"}
    assert names <= shown


def test_the_graph_opens_as_one_box_a_pipeline(viz):
    tree = viz("main")["modular_pipelines"]
    boxes = {child["id"] for child in tree["__root__"]["children"] if child["type"] == "modularPipeline"}
    assert boxes == {min(node.tags) for node in register_pipelines()["demo"].nodes}
    assert len(boxes) == 11
    assert not [child for child in tree["__root__"]["children"] if child["type"] == "task"]


def test_the_page_opens_with_boxes_alone_and_loads_nothing_from_elsewhere(viz):
    address, page = viz("", is_page=True)
    assert address.endswith("/?types=nodes")
    assert "assets/index" in page
    assert "http" not in page


def test_the_page_greets_with_no_newer_version(viz):
    version = viz("version")
    assert not version["is_outdated"]
    assert version["latest"] == version["installed"]


def test_datasets_lie_in_kedros_layers(viz, nodes):
    assert set(viz("main")["layers"]) >= set(LAYERS)
    layer = {name: node.get("layer") for name, node in nodes.items() if node["type"] == "data"}
    assert not [name for name, place in layer.items() if place not in LAYERS]
    assert layer["em_volume"] == "raw"
    assert layer["synapse_chunks"] == "intermediate"
    assert layer["encoder_weights"] == "models"
    assert layer["synapse_embeddings"] == "model_output"
    assert layer["report"] == "reporting"


def test_no_node_and_no_box_leads_back_to_an_earlier_layer():
    """Otherwise kedro-viz leaves the layers out, without a word."""
    layer = {}
    for path in (PROJECT / "conf/base").glob("*/catalog.yml"):
        for name, entry in yaml.safe_load(path.read_text()).items():
            if isinstance(entry, dict):
                layer[name] = LAYERS.index(entry["metadata"]["kedro-viz"]["layer"])
    pipelines = register_pipelines()
    edges = [(a, b) for node in pipelines["demo"].nodes for a in node.inputs for b in node.outputs]
    for name in STAGES:
        read_elsewhere = {dataset for other in STAGES if other != name for dataset in pipelines[other].inputs()}
        leaving = pipelines[name].outputs() | (pipelines[name].all_outputs() & read_elsewhere)
        edges += [(a, b) for a in pipelines[name].inputs() for b in leaving]
    assert not [(a, b) for a, b in edges if a in layer and b in layer and layer[a] > layer[b]]


def _previewed():
    """Datasets that are figures or tables, and the kind of their preview."""
    kinds = {
        "synapseclr.datasets.MatplotlibDataset": "ImagePreview",
        "synapseclr.datasets.PlotlyJSONDataset": "PlotlyPreview",
        "synapseclr.datasets.CSVDataset": "TablePreview",
        "synapseclr.datasets.ParquetDataset": "TablePreview",
        "synapseclr.datasets.JSONDataset": "JSONPreview",
        "synapseclr.datasets.AnnDataZarrDataset": "TablePreview",
    }
    used = {name for node in register_pipelines()["demo"].nodes for name in (*node.inputs, *node.outputs)}
    for path in sorted((PROJECT / "conf/base").glob("*/catalog.yml")):
        for name, entry in yaml.safe_load(path.read_text()).items():
            if name in used and isinstance(entry, dict) and entry["type"] in kinds:
                yield name, kinds[entry["type"]]


@pytest.mark.parametrize(("name", "kind"), _previewed())
def test_figures_and_tables_have_a_preview(viz, nodes, name, kind):
    detail = viz(f"nodes/{nodes[name]['id']}")
    assert detail["preview_type"] == kind
    assert detail["preview"]


def test_the_graph_is_written_as_static_files(demo, tmp_path):
    command = [sys.executable, PROJECT / "scripts/viz.py", f"--static={tmp_path}", "--env=test"]
    command.append(f"--data-root={demo.root}")
    subprocess.run(command, cwd=PROJECT, env=demo.variables, check=True, capture_output=True, timeout=300)
    assert "http" not in (tmp_path / "index.html").read_text()
    written = [json.loads(path.read_text()) for path in (tmp_path / "api/nodes").iterdir()]
    assert {"ImagePreview", "TablePreview", "PlotlyPreview"} <= {node.get("preview_type") for node in written}
