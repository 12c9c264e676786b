import dataclasses

import pytest
import safetensors.torch
import torch

from synapseclr.errors import CheckpointError
from synapseclr.models import EncoderWeights, ModelConfig

TINY = ModelConfig(encoder="resnet18", width_factor=0.125, projection_dims=(16, 8))


@pytest.fixture
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
