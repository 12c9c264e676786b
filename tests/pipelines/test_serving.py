"""The encoder of the demo as an MLflow model: registered, loaded, moved, served."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from importlib import import_module
from pathlib import Path

import anndata
import mlflow
import numpy as np
import pytest
from mlflow.pyfunc import PythonModel

from synapseclr.errors import SynapseCLRError
from synapseclr.models import EncoderWeights, ModelConfig, load_weights
from synapseclr.pipelines.pretraining.nodes import log_encoder_model
from synapseclr.training import EmbeddingConfig, PretrainingConfig
from synapseclr.training.serving import ServingConfig
from synapseclr.volumes import ChunkStore

PROJECT = Path(__file__).resolve().parents[2]
CHOSEN = 3
# Of region_resnet at an eighth of its width: 4 regions x 2 statistics x 56 channels, and 4 volumes; in two sizes.
N_FEATURES = 2 * 452


@pytest.fixture(scope="module")
def run(demo):
    """The demo's run; MLflow looks where it is."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(demo.variables["MLFLOW_TRACKING_URI"])
    runs = mlflow.search_runs(
        experiment_names=["synapseclr"], filter_string="tags.pipeline = 'demo'", output_format="list"
    )
    yield runs[0]
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def model(run):
    return mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/encoder")


@pytest.fixture(scope="module")
def chunk_ncxyz(demo):
    return ChunkStore(str(demo.root / "02_intermediate/synapse_chunks.zarr")).read(slice(None))


@pytest.fixture(scope="module")
def embedded_nf(demo):
    """What the embedding pipeline wrote."""
    return anndata.read_zarr(demo.root / "07_model_output/synapse_embeddings.zarr").X


def test_the_model_gives_the_rows_of_the_embedding_pipeline(model, chunk_ncxyz, embedded_nf):
    features_nf = model.predict(chunk_ncxyz)
    assert features_nf.dtype == np.float32
    np.testing.assert_allclose(features_nf, embedded_nf, rtol=0, atol=1e-6)
    np.testing.assert_allclose(model.predict(chunk_ncxyz[[CHOSEN]]), embedded_nf[[CHOSEN]], rtol=0, atol=1e-5)
    assert np.ptp(embedded_nf, axis=0).max() > 1e-2, "every synapse has the same features: nothing was compared"


def test_the_input_example_is_a_real_chunk_with_its_features(model, chunk_ncxyz, embedded_nf):
    example = model.input_example
    assert example.dtype == np.uint8
    assert np.array_equal(example, chunk_ncxyz[:1])
    np.testing.assert_allclose(model.predict(example), embedded_nf[:1], rtol=0, atol=1e-4)


def test_the_signature_and_the_metadata_say_what_a_chunk_is(model, chunk_ncxyz):
    signature = model.metadata.signature
    inputs, outputs = signature.inputs.inputs[0], signature.outputs.inputs[0]
    assert (inputs.type, inputs.shape) == (np.dtype(np.uint8), (-1, 2, -1, -1, -1))
    assert (outputs.type, outputs.shape) == (np.dtype(np.float32), (-1, N_FEATURES))
    told = model.metadata.metadata
    assert told["mask_codes"]["synaptic_cleft"] == 2
    assert told["voxel_size_nm"] == [16, 16, 40]
    assert tuple(told["chunk_size_vx"]) == chunk_ncxyz.shape[2:]


def test_other_mask_codes_and_no_chunks(model, chunk_ncxyz):
    wrong = chunk_ncxyz[:1].copy()
    wrong[0, 1, 0, 0, 0] = 77
    with pytest.raises(SynapseCLRError, match=r"mask codes .* found 77"):
        model.predict(wrong)
    assert model.predict(chunk_ncxyz[:0]).shape == (0, N_FEATURES)


def test_what_another_version_wrote_is_told(run, tmp_path):
    folder = Path(mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/encoder", dst_path=str(tmp_path)))
    (folder / "artifacts/extraction.json").write_text('{"final_image_size": 3}')
    with pytest.raises(Exception, match=r"extraction.json is not an augmentation that this version can read"):
        mlflow.pyfunc.load_model(str(folder))


def test_models_that_earlier_versions_logged_find_their_code():
    """A logged model holds a copy of the entry file, which imports the model's class by this name."""
    assert issubclass(import_module("synapseclr.training.serving.encoder_model").EncoderModel, PythonModel)


def test_a_model_that_was_carried_elsewhere_has_no_pickle_and_needs_no_path_of_before(
    run, demo, tmp_path, chunk_ncxyz, embedded_nf
):
    folder = Path(mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/encoder", dst_path=str(tmp_path)))
    assert not [path for path in folder.rglob("*") if path.suffix in {".pkl", ".pickle", ".pt", ".pth"}]
    description = folder / "MLmodel"
    for private in (str(PROJECT), str(demo.root), tempfile.gettempdir()):
        assert private not in description.read_text()
    description.write_text(re.sub(r"(file://)?/\S+/", "/nowhere/", description.read_text()))
    assert str(PROJECT) not in description.read_text()
    features_nf = mlflow.pyfunc.load_model(str(folder)).predict(chunk_ncxyz[:2])
    np.testing.assert_allclose(features_nf, embedded_nf[:2], rtol=0, atol=1e-5)


def test_the_requirements_are_pinned_and_short(run):
    lines = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/encoder/requirements.txt").split()
    assert all(re.fullmatch(r"[\w-]+==[\d.]+\w*", line) for line in lines), lines
    names = {line.split("==")[0] for line in lines}
    assert names >= {"connected-components-3d", "mlflow", "monai", "numpy", "pydantic", "safetensors", "torch"}
    assert len(names) < 10


def test_every_run_adds_a_version_and_tags_itself_with_it(demo, run, embedded_nf):
    assert run.data.tags["encoder_model_uri"] == "models:/synapseclr-encoder/1"
    assert (run.data.tags["registered_model"], run.data.tags["registered_model_version"]) == ("synapseclr-encoder", "1")
    again = ("--pipeline=pretraining", "--from-nodes=log_encoder_model")
    demo(*again)
    newest = _newest_run()
    assert newest.data.tags["encoder_model_uri"] == "models:/synapseclr-encoder/2"
    first, second = (load_weights(f"models:/synapseclr-encoder/{version}") for version in (1, 2))
    stored = load_weights(demo.root / "06_models/encoder_weights.safetensors")
    assert first.sha256 == second.sha256 == stored.sha256
    assert first.provenance == stored.provenance

    demo(*again, "--params=serving.registered_model=null")
    unregistered = _newest_run()
    assert "registered_model" not in unregistered.data.tags
    assert load_weights(unregistered.data.tags["encoder_model_uri"]).sha256 == stored.sha256
    assert len(mlflow.MlflowClient().search_model_versions("name = 'synapseclr-encoder'")) == 2


def test_without_a_run_nothing_is_logged_and_that_is_said(demo, caplog):
    assert mlflow.active_run() is None
    config = ModelConfig(encoder="resnet18", width_factor=0.125)
    weights = EncoderWeights(dict(config.build(0).state_dict()), config, {})
    chunks = ChunkStore(str(demo.root / "02_intermediate/synapse_chunks.zarr"))
    with caplog.at_level("INFO", logger="synapseclr"):
        log_encoder_model(
            weights, chunks, PretrainingConfig(), EmbeddingConfig(), ServingConfig(registered_model="never")
        )
    assert "no active MLflow run: the encoder is not logged" in caplog.text
    assert mlflow.active_run() is None


def _newest_run():
    return mlflow.search_runs(experiment_names=["synapseclr"], output_format="list", max_results=1)[0]


@pytest.mark.parametrize("name", ["synapse/encoder", "''", "a:1"])
def test_a_name_that_the_registry_cannot_have_ends_the_run_before_any_node(demo, name):
    done = demo("--pipeline=pretraining", f"--params=serving.registered_model={name}", check=False)
    printed = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0
    assert "registered_model" in printed
    assert "Node 1 of" not in printed


@pytest.fixture(scope="module")
def server(demo, run, tmp_path_factory):
    """The port of the demo's encoder, served by the command of docs/weights.md."""
    log = tmp_path_factory.mktemp("serve") / "server.log"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    binaries = Path(sys.executable).parent
    documented = re.search(r"mlflow (models serve .*)", (PROJECT / "docs/weights.md").read_text())[1]
    arguments = documented.replace("<run id>", run.info.run_id).replace('"', "").replace("5001", port).split()
    variables = demo.variables | {"PATH": f"{binaries}:{os.environ['PATH']}"}  # mlflow starts uvicorn by name
    with log.open("w") as stream:
        process = subprocess.Popen(
            [str(binaries / "mlflow"), *arguments],
            cwd=log.parent,
            env=variables,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=30).close()
                break
            except (urllib.error.URLError, ConnectionError):
                assert process.poll() is None, f"mlflow ended with {process.returncode}:\n{log.read_text()}"
                time.sleep(0.5)
        else:
            raise AssertionError(f"mlflow does not answer:\n{log.read_text()}")
        yield port, log
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)


def test_the_served_model_gives_the_row_of_the_embedding_pipeline(server, chunk_ncxyz, embedded_nf):
    port, log = server
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations",
        data=json.dumps({"inputs": chunk_ncxyz[[CHOSEN]].tolist()}).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            features_nf = np.asarray(json.load(answer)["predictions"])
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{error.read().decode()}\n{log.read_text()}") from error
    np.testing.assert_allclose(features_nf, embedded_nf[[CHOSEN]], rtol=0, atol=1e-5)


def test_the_documented_request_gives_it_too(demo, server, embedded_nf):
    port, log = server
    documented = (PROJECT / "docs/weights.md").read_text()
    example = re.search(r"```python\n((?:(?!```).)*/invocations.*?)```", documented, re.DOTALL)[1]
    example = example.replace("data/", f"{demo.root}/").replace("5001", port)
    example += "\nprint(json.dumps(np.asarray(features_nf).tolist()))"
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{done.stderr}\n{log.read_text()}"
    np.testing.assert_allclose(json.loads(done.stdout), embedded_nf[:2], rtol=0, atol=1e-5)


def test_a_wrong_request_is_answered_with_a_sentence(server):
    port, _ = server
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations",
        data=json.dumps({"inputs": [[[[[1]]], [[[9]]]]]}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=60)
    assert "mask codes 0 background, 1 presynaptic" in caught.value.read().decode()
