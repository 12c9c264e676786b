import pytest
import torch

from synapseclr.models import EncoderWeights, ModelConfig
from synapseclr.training import adapted_weights, untrained_weights


@pytest.mark.parametrize("encoder", ["region_resnet", "resnet18"])
def test_batch_norms_know_the_views_and_nothing_else_changes(chunks, tiny_config, encoder):
    model = ModelConfig(encoder=encoder, in_channels=1, width_factor=0.125, projection_dims=(16, 8))
    weights = untrained_weights(model, chunks, tiny_config)
    fresh = model.build(tiny_config.seed).state_dict()
    changed = {name for name, tensor in weights.state_dict.items() if not torch.equal(tensor, fresh[name])}
    assert changed == {name for name in fresh if "running_" in name or name.endswith("num_batches_tracked")}
    assert weights.sha256 == untrained_weights(model, chunks, tiny_config).sha256
    assert weights.provenance["epochs"] == "0"


def test_a_network_without_batch_norms_stays_as_it_was_drawn(chunks, tiny_config):
    model = ModelConfig(encoder="single_convolution", in_channels=1, width_factor=0.25, projection_dims=(16, 8))
    weights = untrained_weights(model, chunks, tiny_config)
    fresh = model.build(tiny_config.seed).state_dict()
    assert torch.equal(weights.state_dict["encoder.conv1.weight"], fresh["encoder.conv1.weight"])
    assert weights.build().encoder.n_features == 16


def test_adapted_weights_have_the_statistics_of_the_chunks_and_the_same_parameters(chunks, tiny_config):
    model = ModelConfig(encoder="region_resnet", in_channels=1, width_factor=0.125, projection_dims=(16, 8))
    calibrated = untrained_weights(model, chunks, tiny_config)
    elsewhere = {
        name: tensor * 3 + 1 if "running_" in name else tensor for name, tensor in calibrated.state_dict.items()
    }
    foreign = EncoderWeights(elsewhere, model, {"trained_on": "another volume"})
    adapted = adapted_weights(foreign, chunks, tiny_config)
    assert adapted.sha256 == EncoderWeights(calibrated.state_dict, model, foreign.provenance).sha256
    assert adapted.provenance == foreign.provenance
    assert torch.equal(foreign.state_dict["encoder.bn1.running_mean"], elsewhere["encoder.bn1.running_mean"])
