"""A reader's own volume: what README.md and docs/own_data.md print is typed, in their order, in a project of its own.

The volume is simulated and small, and `conf/mine` scales sizes down; the command lines are those of the pages.
"""

import json
import re
import subprocess

import anndata
import numpy as np
import pandas as pd
import pytest
from documentation import code_blocks, commands, serving, shell_variables
from mlflow.tracking import MlflowClient
from readers_project import SMALL, set_up

from synapseclr.volumes import ChunkStore

REPRESENTATIONS = {"synapseclr", "random", "random_convolution", "trivial_statistics", "mask_statistics"}
REPRESENTATIONS |= {"synapseclr+statistics"}

(WHOLE,) = [line for line in commands("README.md") if line.startswith("kedro run")]
OWN_DATA = commands("docs/own_data.md")
STEPS = [line for line in OWN_DATA if line.startswith("kedro run")]


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """The project, before any command."""
    return set_up(tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def steps(reader):
    """Every command that runs pipelines, in the order of the pages, with what was there after it."""
    steps = {}
    for command in [WHOLE, *STEPS]:
        steps[command] = step = reader.types(command)
        step.kept = {
            "features": np.asarray(reader.embeddings.X),
            "features_of": reader.embeddings.uns["provenance"]["weights_sha256"],
            "weights": reader.weights.sha256,
            "epochs": len(pd.read_parquet(reader.outputs / "06_models/training_history.parquet")),
            "evaluation": reader.evaluation(),
        }
    return steps


def _step(steps, pipeline):
    """The page's command that runs one pipeline; None: the README's, which runs all."""
    (command,) = [c for c in STEPS if f"--pipeline={pipeline}" in c] if pipeline else [WHOLE]
    return steps[command]


def test_the_pages_go_the_whole_way_and_then_step_by_step():
    assert WHOLE == "kedro run --env=mine"
    pipelines = [re.findall(r"--pipeline=(\w+)", command) for command in STEPS]
    assert pipelines[:4] == [["preprocessing"], ["pretraining"], ["embedding"], ["analysis"]]
    assert all("--env=mine" in command for command in STEPS)
    given = dict(re.findall(r"pretraining\.(\w+)=(\d+)", " ".join(STEPS)))
    assert int(given["epochs"]) != SMALL["pretraining"]["epochs"]
    assert int(given["batch_size"]) != SMALL["pretraining"]["batch_size"]


def test_one_command_goes_from_volumes_to_the_report(reader, steps):
    step = _step(steps, None)
    assert {
        "02_intermediate/synapse_chunks",
        "03_primary/synapse_metadata.parquet",
        "03_primary/annotations.parquet",
        "06_models/encoder_weights.safetensors",
        "07_model_output/synapse_embeddings",
        "07_model_output/synapse_manifold",
        "08_reporting/report.html",
    } <= step.written
    assert "simulation" not in step.kept["evaluation"]["seconds"]
    assert step.kept["evaluation"]["n_synapses"] == reader.n_synapses
    assert step.kept["evaluation"]["epochs"] == SMALL["pretraining"]["epochs"]
    assert step.kept["features_of"] == step.kept["weights"]


def test_preprocessing_alone_cuts_the_synapses_of_the_table(reader, steps):
    step = _step(steps, "preprocessing")
    assert "03_primary/synapse_metadata.parquet" in step.written
    assert not [name for name in step.written if name.startswith(("06", "07"))]
    store = ChunkStore(str(reader.outputs / "02_intermediate/synapse_chunks.zarr"))
    table = pd.read_csv(reader.lab / "synapses.csv")
    assert sorted(store.synapse_id) == sorted(table["id"])
    metadata = pd.read_parquet(reader.outputs / "03_primary/synapse_metadata.parquet").set_index("synapse_id")
    assert metadata["pre_root_id"].to_dict() == table.set_index("id")["pre_root_id"].to_dict()


def test_pretraining_alone_trains_as_long_as_the_command_says(steps):
    before, step = _step(steps, "preprocessing"), _step(steps, "pretraining")
    (epochs,) = re.findall(r"pretraining\.epochs=(\d+)", " ".join(STEPS))
    assert step.kept["epochs"] == int(epochs)
    assert step.kept["weights"] != before.kept["weights"]
    np.testing.assert_array_equal(step.kept["features"], before.kept["features"])  # not embedded yet


def test_embedding_alone_uses_the_weights_that_are_there(reader, steps):
    before, step = _step(steps, "pretraining"), _step(steps, "embedding")
    assert step.kept["features_of"] == step.kept["weights"] == before.kept["weights"]
    assert step.kept["features"].shape == (reader.n_synapses, 904)
    assert np.isfinite(step.kept["features"]).all()
    assert not np.allclose(step.kept["features"], before.kept["features"])


def test_analysis_alone_evaluates_these_features(reader, steps):
    before, step = _step(steps, "embedding"), _step(steps, "analysis")
    scored = step.kept["evaluation"]
    assert scored["epochs"] == step.kept["epochs"]
    assert set(scored["representations"]) == REPRESENTATIONS
    assert scored["representations"]["synapseclr"] != before.kept["evaluation"]["representations"]["synapseclr"]
    assert scored["representations"]["random"] == before.kept["evaluation"]["representations"]["random"]
    assert "08_reporting/report.html" in step.written
    assert f"{reader.n_synapses}" in (reader.outputs / "08_reporting/report.html").read_text()
    manifold = anndata.read_zarr(reader.outputs / "07_model_output/synapse_manifold.zarr")
    np.testing.assert_array_equal(manifold.X, step.kept["features"])


def test_mlflow_has_a_run_a_command_to_compare(reader, steps):
    client = MlflowClient(f"sqlite:///{reader.project}/mlflow.db")
    experiment = client.get_experiment_by_name("synapseclr")
    runs = client.search_runs([experiment.experiment_id], order_by=["start_time ASC"])
    assert [run.data.tags["pipeline"] for run in runs[:5]] == [
        "__default__",
        "preprocessing",
        "pretraining",
        "embedding",
        "analysis",
    ]
    whole, alone = runs[0].data.params, runs[2].data.params
    changed = {name for name in whole if alone.get(name, whole[name]) != whole[name]}
    assert changed == {"pretraining.epochs", "pretraining.batch_size"}


def test_the_query_of_the_page_is_answered(reader, steps):
    (command,) = [c for c in STEPS if "similarity" in c]
    assert "similarity.query=12+34" in command
    assert "07_model_output/similarity_results.csv" in steps[command].written
    similar = pd.read_csv(reader.outputs / "07_model_output/similarity_results.csv")
    assert set(similar["query"].astype(str)) == {"12", "34"}
    assert set(similar["synapse_id"]) <= set(range(1, reader.n_synapses + 1))


def test_candidates_for_defects_are_listed(reader, steps):
    (command,) = [c for c in STEPS if "outliers" in c]
    assert "07_model_output/outlier_candidates.csv" in steps[command].written


@pytest.mark.parametrize(
    ("command", "page", "options"),
    [
        ("kedro explore --env=mine", "api/overview.json", ["--no-browser"]),
        ("python scripts/viz.py --env=mine", "api/main", []),
    ],
)
def test_servers_of_the_page_answer(reader, steps, tmp_path, command, page, options):
    assert command in OWN_DATA
    line = [*command.split(), "--port={port}", *options]
    with serving(line, page, tmp_path / "log", cwd=reader.project, env=shell_variables()) as answer:
        assert json.loads(answer)


def test_results_are_read_as_the_page_reads_them(reader, steps):
    (scales, use) = code_blocks("docs/own_data.md", "python")
    code = scales.replace("/lab/", f"{reader.lab}/") + use
    done = subprocess.run(
        ["python", "-c", code], cwd=reader.project, env=shell_variables(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert re.search(rf"n_obs . n_vars = {reader.n_synapses} . 904", done.stdout)
    assert "[16, 16, 40] [272, 272, 80]" in re.sub(r"\s+", " ", done.stdout)


def test_nothing_on_the_page_is_left_untried():
    tried = {*STEPS, "kedro explore --env=mine", "python scripts/viz.py --env=mine"}
    assert set(OWN_DATA) - tried == {"KEDRO_ENV=mine make jupyter"}  # see test_readme.py for `make jupyter`
