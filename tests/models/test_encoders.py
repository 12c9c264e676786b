import json
from math import prod

import numpy as np
import pytest
import torch

from synapseclr.errors import ConfigurationError
from synapseclr.models import ENCODER_NAMES, SimCLR, build_encoder


@pytest.fixture(scope="module")
def golden(golden_folder):
    return json.loads((golden_folder / "g08_encoders.json").read_text())


@pytest.fixture(scope="module")
def golden_outputs(golden_folder):
    return np.load(golden_folder / "g08_nets.npz")


def rule_b(j: np.ndarray, i: int) -> np.ndarray:
    """The hash that filled the recorded networks: uniform in [-0.5, 0.5)."""
    h = (j.astype(np.uint64) * 2654435761 + i * 40503 + 12345) % 2**32
    for _ in range(2):
        h ^= h >> 16
        h = (h * 0x45D9F3B) % 2**32
    h ^= h >> 16
    return h / 2**32 - 0.5


def fill_by_rule_b(module, index_of):
    for key, tensor in module.state_dict().items():
        if key.endswith("num_batches_tracked"):
            tensor.zero_()
            continue
        u = rule_b(np.arange(tensor.numel()), index_of[key])
        if key.endswith("running_var") or (tensor.ndim == 1 and key.endswith("weight")):
            values = 1 + 0.5 * u
        elif key.endswith(("running_mean", "bias")):
            values = 0.2 * u
        else:
            values = u * np.sqrt(24 / prod(tensor.shape[1:]))
        tensor.copy_(torch.from_numpy(values.reshape(tensor.shape)))


@pytest.mark.parametrize("name", ENCODER_NAMES)
def test_keys_and_shapes_are_the_published_ones(golden, name):
    expected = {k: tuple(v[0]) for k, v in golden[name]["state_dict"].items() if not k.startswith("fc.")}
    with torch.device("meta"):
        encoder = build_encoder(name)
    assert {k: tuple(v.shape) for k, v in encoder.state_dict().items()} == expected
    assert encoder.n_features == golden[name]["n_features"]
    assert sum(p.numel() for p in encoder.parameters()) == golden[name]["n_parameters_without_fc"]


@pytest.mark.parametrize("name", ["resnet18", "resnet18_medicalnet"])
def test_features_equal_the_published_ones(golden, golden_outputs, name):
    encoder = build_encoder(name)
    keys = sorted(golden[name]["state_dict"])
    fill_by_rule_b(encoder, {key: index for index, key in enumerate(keys)})
    with torch.no_grad():
        features = encoder.eval()(torch.from_numpy(golden_outputs["x"]))
    expected = golden_outputs[f"{name}__ruleB__features"]
    np.testing.assert_allclose(features.numpy(), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_the_three_recorded_layers_equal_the_published_ones(golden_outputs):
    model = SimCLR(build_encoder("resnet18_no_max_pool"))
    fill_by_rule_b(model, {key: index for index, key in enumerate(sorted(model.state_dict()))})
    with torch.no_grad():
        layers = model.eval()(torch.from_numpy(golden_outputs["x"]))
    for index, layer in enumerate(("encoder.fc", "projector.mlp.0", "projector.mlp.3")):
        expected = golden_outputs[f"simclr_resnet18_no_max_pool__ruleB__eval__out{index}"]
        np.testing.assert_allclose(layers[layer].numpy(), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_the_dilated_shortcut_passes_gradients():
    encoder = build_encoder("resnet18_medicalnet", width_factor=0.125)
    shortcut = encoder.layer2[0].downsample
    x = torch.randn(1, 8, 4, 4, 4, requires_grad=True)
    shortcut(x).sum().backward()
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("width", [0.125, 0.25])
def test_the_width_factor_scales_the_features(width):
    encoder = build_encoder("resnet18", in_channels=2, width_factor=width)
    assert encoder(torch.randn(2, 2, 16, 16, 16)).shape == (2, int(512 * width))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigurationError, match=r"Unknown encoder 'vgg'.*resnet18_no_max_pool_cifar_stem"):
        build_encoder("vgg")
