"""Every encoder against what the published code recorded: names, shapes, counts, outputs, a gradient."""

import json
from math import prod

import numpy as np
import pytest
import torch

from synapseclr.models import ENCODER_NAMES, LAYERS, SimCLR, build_encoder
from synapseclr.models.simclr import Projector
from synapseclr.objectives import nt_xent

NO_MAX_POOL = "resnet18_no_max_pool"
WITH_FEATURES = ("resnet18", NO_MAX_POOL, "resnet18_no_max_pool_cifar_stem", "resnet18_medicalnet")
WITH_FC_OUT_ONLY = ("resnet34_no_max_pool", "resnet50_no_max_pool")


@pytest.fixture(scope="module")
def golden(golden_folder):
    return json.loads((golden_folder / "g08_encoders.json").read_text())


@pytest.fixture(scope="module")
def outputs(golden_folder):
    return np.load(golden_folder / "g08_nets.npz")


def hashed(j: np.ndarray, i: int) -> np.ndarray:
    """Rule B's hash: uniform in [-0.5, 0.5)."""
    h = (j.astype(np.uint64) * 2654435761 + i * 40503 + 12345) % 2**32
    for _ in range(2):
        h ^= h >> 16
        h = (h * 0x45D9F3B) % 2**32
    h ^= h >> 16
    return h / 2**32 - 0.5


def rule_a(key, shape, index):
    t = np.linspace(-0.05, 0.05, prod(shape), dtype=np.float32).reshape(shape)
    return 1 + t if key.endswith("running_var") else t


def rule_b(key, shape, index):
    u = hashed(np.arange(prod(shape)), index).reshape(shape)
    if key.endswith("running_var") or (len(shape) == 1 and key.endswith("weight")):
        return 1 + 0.5 * u
    if key.endswith(("running_mean", "bias")):
        return 0.2 * u
    return u * np.sqrt(24 / prod(shape[1:]))


RULES = {"A": rule_a, "B": rule_b}


def filled(module, rule, keys=None):
    """Fill a module as the published one was; ``keys``: those that it had, if it had more than ours."""
    state = module.state_dict()
    index_of = {key: index for index, key in enumerate(sorted(keys or state))}
    for key, tensor in state.items():
        if key.endswith("num_batches_tracked"):
            tensor.zero_()
        else:
            tensor.copy_(torch.from_numpy(RULES[rule](key, tuple(tensor.shape), index_of[key])))
    return module.eval()


def assert_equal(found, expected, tolerance=1e-4):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=tolerance, atol=tolerance * scale)


def n_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", ENCODER_NAMES)
def test_keys_shapes_and_counts_are_the_published_ones(golden, name):
    expected = {k: tuple(v[0]) for k, v in golden[name]["state_dict"].items() if not k.startswith("fc.")}
    with torch.device("meta"):
        encoder = build_encoder(name)
        two_channels = build_encoder(name, in_channels=2)
    assert {k: tuple(v.shape) for k, v in encoder.state_dict().items()} == expected
    assert encoder.n_features == golden[name]["n_features"]
    assert n_parameters(encoder) == golden[name]["n_parameters_without_fc"]
    fc = golden[name]["n_parameters"] - golden[name]["n_parameters_without_fc"]
    assert n_parameters(two_channels) == golden[name]["n_parameters_2ch"] - fc


@pytest.mark.parametrize("name", ENCODER_NAMES)
def test_the_whole_model_has_the_published_keys_and_counts(golden, name):
    expected = golden[name]["simclr_512_128"]
    with torch.device("meta"):
        model = SimCLR(build_encoder(name), (512, 128))
    state = {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
    assert {key: shape for key, shape in state.items() if not key.startswith("encoder.")} == expected["extra_keys"]
    counts = [n_parameters(part) for part in (model, model.encoder, model.projector)]
    assert counts == [expected["n_parameters"], expected["encoder"], expected["projector"]]
    widths = [model.encoder.n_features, model.projector.mlp[0].out_features, model.projector.mlp[3].out_features]
    assert widths == expected["output_dims"]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", WITH_FEATURES)
@torch.no_grad()
def test_features_equal_the_published_ones(golden, outputs, name, rule):
    encoder = filled(build_encoder(name), rule, golden[name]["state_dict"])
    assert_equal(encoder(torch.from_numpy(outputs["x"])), outputs[f"{name}__rule{rule}__features"])


@pytest.mark.parametrize("name", WITH_FC_OUT_ONLY)
@torch.no_grad()
def test_outputs_of_deep_encoders_equal_the_published_ones(golden, outputs, name):
    encoder = build_encoder(name)
    encoder.fc = torch.nn.Linear(encoder.n_features, golden[name]["fc_out"])
    filled(encoder, "B", golden[name]["state_dict"])
    expected = outputs[f"{name}__ruleB__fc_out"]
    assert_equal(encoder(torch.from_numpy(outputs["x"][: len(expected)])), expected)


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("rule", RULES)
@torch.no_grad()
def test_the_projector_equals_the_published_one(outputs, rule, mode):
    projector = filled(Projector(512), rule).train(mode == "train")
    for index, layer in enumerate(projector(torch.from_numpy(outputs["projector_in"])).values()):
        assert_equal(layer, outputs[f"projector__rule{rule}__{mode}__out{index}"])


@pytest.mark.parametrize("rule", RULES)
@torch.no_grad()
def test_the_three_recorded_layers_equal_the_published_ones(outputs, rule):
    model = filled(SimCLR(build_encoder(NO_MAX_POOL)), rule)
    layers = model(torch.from_numpy(outputs["x"]))
    for index, layer in enumerate(LAYERS):
        assert_equal(layers[layer], outputs[f"simclr_{NO_MAX_POOL}__rule{rule}__eval__out{index}"])


def test_a_training_step_has_the_published_outputs_loss_and_gradient(golden, outputs):
    model = filled(SimCLR(build_encoder(NO_MAX_POOL)), "B").train()
    x_bcxyz = torch.from_numpy(outputs["x"])
    layers = model(x_bcxyz)
    prefix = f"simclr_{NO_MAX_POOL}__ruleB__"
    for index, layer in enumerate(LAYERS):
        assert_equal(layers[layer], outputs[f"{prefix}train__out{index}"])
    other = model(x_bcxyz.flip(2))["projector.mlp.3"]
    loss = nt_xent(layers["projector.mlp.3"], other, temperature=0.5)
    assert loss.item() == pytest.approx(float(outputs[f"{prefix}train__ntxent_T0.5_x_vs_flipped_dim2"]), rel=1e-4)
    loss.backward()
    # Batch norms over two samples: the gradient in float32 is 0.5 % away from that in float64, recorded or ours.
    assert_equal(model.encoder.conv1.weight.grad[:4], outputs[f"{prefix}conv1_grad"], tolerance=1e-2)
    norms = {key: parameter.grad.norm().item() for key, parameter in model.named_parameters()}
    assert norms == pytest.approx(golden["_simclr_ruleB_train_grad_norms"], rel=5e-3)


@torch.no_grad()
def test_two_channels_give_the_published_outputs(outputs):
    model = filled(SimCLR(build_encoder(NO_MAX_POOL, in_channels=2)), "B")
    x = outputs["x"]
    layers = model(torch.from_numpy(np.concatenate([x[:1], x[1:]], axis=1)))
    for index, layer in enumerate(LAYERS):
        assert_equal(layers[layer], outputs[f"simclr_2ch__ruleB__eval__out{index}"])
