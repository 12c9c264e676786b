import dataclasses
import json
from pathlib import Path

import fsspec
import mlflow
import pytest
import safetensors.torch
import torch
import yaml
from kedro.io import DataCatalog
from mlflow.exceptions import MlflowException

from synapseclr.datasets import EncoderWeightsDataset
from synapseclr.errors import CheckpointError
from synapseclr.hooks import RunTracking
from synapseclr.models import EncoderWeights, ModelConfig, load_encoder, load_weights
from synapseclr.tracking import Outbox, set_current_outbox

TINY = ModelConfig(encoder="resnet18", width_factor=0.125, projection_dims=(16, 8))


@pytest.fixture(scope="module")
def weights():
    return EncoderWeights(dict(TINY.build(3).state_dict()), TINY, {"seed": "3"})


def test_a_seed_gives_the_same_weights_and_another_others(weights):
    assert EncoderWeights(dict(TINY.build(3).state_dict()), TINY, {}).sha256 == weights.sha256
    assert EncoderWeights(dict(TINY.build(4).state_dict()), TINY, {}).sha256 != weights.sha256


def test_building_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    TINY.build(3)
    torch.set_rng_state(state)
    assert torch.rand(1) == expected


def test_a_file_holds_tensors_architecture_and_provenance(weights):
    read = EncoderWeights.from_bytes(weights.to_bytes(), "here")
    assert read.sha256 == weights.sha256
    assert (read.model, read.provenance) == (TINY, {"seed": "3"})


def test_the_built_model_is_in_evaluation_mode_and_has_the_weights(weights):
    model = weights.build()
    assert not model.training
    torch.testing.assert_close(model.encoder.conv1.weight, weights.state_dict["encoder.conv1.weight"])


def test_other_architectures_are_refused_by_the_first_differing_tensor(weights):
    wrong = dataclasses.replace(weights, model=TINY.model_copy(update={"width_factor": 0.25}))
    with pytest.raises(CheckpointError, match=r"encoder.bn1.bias: expected \(16,\), found \(8,\)"):
        wrong.build()


def test_a_truncated_file_is_named(weights):
    with pytest.raises(CheckpointError, match=r"gs://b/w.safetensors is not a readable safetensors file"):
        EncoderWeights.from_bytes(weights.to_bytes()[:1000], "gs://b/w.safetensors")


def test_foreign_tensors_are_refused():
    data = safetensors.torch.save({"a": torch.ones(1)})
    with pytest.raises(CheckpointError, match="not a SynapseCLR model"):
        EncoderWeights.from_bytes(data, "w")


CATALOG = Path(__file__).resolve().parents[2] / "conf/base/pretraining/catalog.yml"


@pytest.fixture(scope="module")
def run_id(weights, tmp_path_factory):
    """A run that has the weights as a run of ours has: saved by the catalog, logged by the hook."""
    root = tmp_path_factory.mktemp("mlflow")
    entry = yaml.safe_load(CATALOG.read_text())["encoder_weights"]
    path = root / Path(entry["filepath"]).name
    catalog = DataCatalog({"encoder_weights": EncoderWeightsDataset(filepath=str(path), metadata=entry["metadata"])})
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{root}/mlflow.db")
    experiment = mlflow.create_experiment("synapseclr", artifact_location=(root / "artifacts").as_uri())
    hook = RunTracking()
    hook.after_catalog_created(catalog, {}, {}, {}, "", {})
    with mlflow.start_run(experiment_id=experiment) as run:
        outbox = Outbox(mlflow.get_tracking_uri(), run.info.run_id, root)
        set_current_outbox(outbox)
        catalog.save("encoder_weights", weights)
        hook.after_dataset_saved("encoder_weights", weights)
        set_current_outbox(None)
        assert outbox.close(None)
        mlflow.log_text("not weights", "model/notes.txt")
        mlflow.log_text("nothing here", "other/notes.txt")
    path.unlink()
    yield run.info.run_id
    mlflow.set_tracking_uri(before)


def assert_is(model, weights):
    assert not model.training
    state = model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in weights.state_dict.items())


@pytest.mark.parametrize("as_type", [str, Path])
def test_a_file_and_its_folder_are_loaded(weights, tmp_path, as_type):
    path = tmp_path / "encoder_weights.safetensors"
    path.write_bytes(weights.to_bytes())
    assert_is(load_encoder(as_type(path)), weights)
    assert_is(load_encoder(as_type(tmp_path)), weights)


def test_a_url_and_its_folder_are_loaded(weights):
    with fsspec.open("memory://models/a/encoder_weights.safetensors", "wb") as file:
        file.write(weights.to_bytes())
    assert_is(load_encoder("memory://models/a/encoder_weights.safetensors"), weights)
    assert_is(load_encoder("memory://models/a/"), weights)


def test_a_loaded_encoder_embeds(weights, tmp_path):
    (tmp_path / "w.safetensors").write_bytes(weights.to_bytes())
    with torch.no_grad():
        layers = load_encoder(tmp_path / "w.safetensors")(torch.zeros(2, 1, 16, 16, 16))
    assert [tuple(layer.shape) for layer in layers.values()] == [(2, 64), (2, 16), (2, 8)]


@pytest.mark.parametrize("path", ["/model", "/model/", "/model/encoder_weights.safetensors"])
def test_a_run_of_ours_is_loaded_from_mlflow(run_id, weights, path):
    loaded = load_weights(f"runs:/{run_id}{path}")
    assert (loaded.sha256, loaded.model, loaded.provenance) == (weights.sha256, TINY, weights.provenance)
    assert_is(load_encoder(f"runs:/{run_id}{path}"), weights)


def test_a_registered_version_is_loaded_by_number_and_alias(run_id, weights):
    client = mlflow.MlflowClient()
    client.create_registered_model("synapseclr")
    source = f"{client.get_run(run_id).info.artifact_uri}/model"
    version = client.create_model_version("synapseclr", source, run_id=run_id).version
    client.set_registered_model_alias("synapseclr", "best", version)
    assert_is(load_encoder(f"models:/synapseclr/{version}"), weights)
    assert_is(load_encoder("models:/synapseclr@best"), weights)


def test_what_mlflow_does_not_have_is_told_with_the_server(run_id):
    with pytest.raises(
        CheckpointError, match=r"runs:/0000/model cannot be fetched from MLflow at sqlite://.*mlflow.db"
    ):
        load_encoder("runs:/0000/model")
    with pytest.raises(CheckpointError, match=r"runs:/.*/nothing cannot be fetched"):
        load_encoder(f"runs:/{run_id}/nothing")
    with pytest.raises(CheckpointError, match=r"/other should have one file of weights, .* and has none"):
        load_encoder(f"runs:/{run_id}/other")


def test_the_password_of_a_server_is_not_shown(monkeypatch):
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "https://ada:secret@mlflow.example.org")

    def fail(**_):
        raise MlflowException("no such run")

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", fail)
    with pytest.raises(CheckpointError, match=r"at https://\*\*\*@mlflow.example.org \(no such run\)"):
        load_encoder("runs:/1/model")


@pytest.mark.parametrize("scheme", ["runs:/1/model", "models:/m/1", "mlflow-artifacts:/0/1/artifacts/model"])
def test_every_mlflow_uri_goes_to_mlflow(monkeypatch, weights, scheme):
    def fetch(artifact_uri, dst_path):
        assert artifact_uri == scheme
        (Path(dst_path) / "encoder_weights.safetensors").write_bytes(weights.to_bytes())
        return dst_path

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", fetch)
    assert load_weights(scheme).sha256 == weights.sha256


def test_a_pytorch_checkpoint_is_sent_to_the_import():
    with pytest.raises(CheckpointError, match=r"model_checkpoint_99.pt is a PyTorch checkpoint.*import_checkpoint"):
        load_encoder("gs://bucket/model_checkpoint_99.pt")


@pytest.mark.parametrize("source", ["nowhere.safetensors", "nowhere"])
def test_a_file_that_is_not_there_is_named(source):
    with pytest.raises(CheckpointError, match=f"{source} cannot be read.*Check the path"):
        load_encoder(source)


def test_an_unreadable_header_is_named(weights):
    data = weights.to_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"]["model"] = '{"encoder": "resnet99"}'
    changed = json.dumps(header).encode()
    with pytest.raises(CheckpointError, match=r"old.safetensors has a header that this version cannot read.*resnet99"):
        EncoderWeights.from_bytes(len(changed).to_bytes(8, "little") + changed + data[8 + length :], "old.safetensors")
