"""Optimisers and schedule, on their own."""

import copy

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from synapseclr.training import PretrainingConfig
from synapseclr.training.config import OptimiserConfig
from synapseclr.training.optimiser import CosineWithRestarts, build_optimiser


@pytest.fixture
def network():
    """A convolution, a norm and a linear layer with a bias, with gradients."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv3d(1, 4, 3, bias=False), torch.nn.BatchNorm3d(4), torch.nn.Flatten(), torch.nn.Linear(32, 5)
    )
    model(torch.randn(6, 1, 4, 4, 4)).square().sum().backward()
    return model


def moved(model, config, rate=None, steps=1):
    """How far each parameter goes, with the gradients that the model has."""
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    model = copy.deepcopy(model)
    optimiser = build_optimiser(model, config)
    for group in optimiser.param_groups if rate is not None else ():
        group["lr"] = rate
    for _ in range(steps):
        for name, parameter in model.named_parameters():
            parameter.grad = gradients[name].clone()
        optimiser.step()
    return {name: parameter.detach() - before[name] for name, parameter in model.named_parameters()}


def test_lars_follows_its_formula(network):
    config = OptimiserConfig(name="lars", weight_decay=0.01, trust_coefficient=0.02)
    expected = {}
    for name, parameter in network.named_parameters():
        w, g = parameter.detach().double(), parameter.grad.double()
        adapted = 0.02 * w.norm() / (g.norm() + 0.01 * w.norm()) * (g + 0.01 * w)
        expected[name] = -0.3 * (adapted if w.ndim > 1 else g)
    found = moved(network, config)
    for name in expected:
        assert found[name].abs().max() > 0
        torch.testing.assert_close(found[name].double(), expected[name], rtol=1e-4, atol=1e-6)


def test_lars_moves_every_matrix_by_the_same_share_of_its_norm(network):
    found = moved(network, OptimiserConfig(name="lars", weight_decay=0.0), rate=0.5)
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            assert float(found[name].norm() / parameter.detach().norm()) == pytest.approx(0.5 * 1e-3, rel=1e-3)


def test_lars_has_momentum(network):
    plain = moved(network, OptimiserConfig(name="lars", momentum=0.0, weight_decay=0.0), rate=1e-3, steps=2)
    heavy = moved(network, OptimiserConfig(name="lars", momentum=0.5, weight_decay=0.0), rate=1e-3, steps=2)
    for name in plain:  # 1 + 1.5 steps instead of 2, with gradients that stay
        torch.testing.assert_close(heavy[name], plain[name] * 1.25, rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "lars"])
def test_biases_and_norms_are_not_decayed(network, name):
    for parameter in network.parameters():
        parameter.grad.zero_()
    found = moved(network, OptimiserConfig(name=name, weight_decay=0.1, learning_rate=0.1))
    for key, parameter in network.named_parameters():
        if parameter.ndim > 1:
            assert torch.equal(torch.sign(found[key]), -torch.sign(parameter))
        else:
            assert not found[key].any()


def test_adam_is_as_before(network):
    expected = copy.deepcopy(network)
    for theirs, ours in zip(expected.parameters(), network.parameters(), strict=True):
        theirs.grad = ours.grad.clone()
    before = {name: parameter.detach().clone() for name, parameter in expected.named_parameters()}
    torch.optim.Adam(expected.parameters(), lr=2e-4, weight_decay=0.1).step()
    found = moved(network, OptimiserConfig(weight_decay=0.1))
    for name, parameter in expected.named_parameters():
        assert torch.equal(found[name], parameter.detach() - before[name])


def test_defaults_follow_the_optimiser():
    adam, lars, adamw = OptimiserConfig(), OptimiserConfig(name="lars"), OptimiserConfig(name="adamw")
    assert (adam.learning_rate, adam.final_learning_rate, adam.weight_decay) == (2e-4, 2e-5, 0.0)
    assert (lars.weight_decay, lars.final_learning_rate) == (1e-6, 0.0)
    assert (adamw.learning_rate, adamw.weight_decay) == (2e-4, 0.01)
    assert OptimiserConfig(name="lars", learning_rate=1.0, weight_decay=0.0).weight_decay == 0.0
    for config in (adam, lars, adamw):
        assert OptimiserConfig.model_validate_json(config.model_dump_json()) == config


def test_the_published_lars_rate_is_scaled_by_the_global_batch():
    lars = OptimiserConfig(name="lars")
    assert lars.learning_rate_at(0, 100, synapses_per_step=4 * 48) == pytest.approx(0.3 * 192 / 256)
    assert OptimiserConfig().learning_rate_at(0, 100, synapses_per_step=4 * 48) == 2e-4


def test_the_module_counts_processes_batch_and_accumulation(tiny_config):
    from synapseclr.training.module import PretrainingModule

    config = tiny_config.model_copy(update={"optimiser": OptimiserConfig(name="lars"), "accumulate_batches": 4})
    made = PretrainingModule(config).configure_optimizers()["optimizer"]
    assert [group["lr"] for group in made.param_groups] == [pytest.approx(0.3 * 4 * 4 / 256)] * 2


def test_warm_up_rises_linearly_in_every_stage():
    config = OptimiserConfig(learning_rate=1.0, final_learning_rate=0.0, warmup_epochs=3, restarts=1)
    rates = [config.learning_rate_at(epoch, 20) for epoch in range(20)]
    np.testing.assert_allclose(rates[:4], [0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(rates[3:10], (1 + np.cos(np.pi * np.arange(7) / 7)) / 2)
    assert rates[10:] == rates[:10]


@pytest.mark.parametrize("reset", [True, False])
def test_a_restart_forgets_the_moments_if_it_is_asked_to(reset):
    parameter = torch.nn.Parameter(torch.ones(2))
    config = OptimiserConfig(restarts=1, reset_at_restart=reset)
    optimiser = build_optimiser(torch.nn.ParameterList([parameter]), config)
    schedule = CosineWithRestarts(optimiser, config, 4, 48)
    steps = []
    for _ in range(4):
        parameter.grad = torch.ones(2)
        optimiser.step()
        steps.append(int(optimiser.state[parameter]["step"]))
        schedule.step()
    assert steps == ([1, 2, 1, 2] if reset else [1, 2, 3, 4])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "sgd"}, "'adam', 'adamw' or 'lars'"),
        ({"momentum": 0.5}, "momentum is 0.5, but the optimiser 'adam' has no such parameter"),
        ({"name": "adamw", "trust_coefficient": 0.1}, "choose the optimiser 'lars'"),
        ({"learning_rate": 0}, "greater than 0"),
        ({"learning_rate": float("inf")}, "finite"),
        ({"restarts": 2}, r"epochs is 100, .* into 3 equal stages. Set epochs to a multiple of 3, 102"),
        ({"warmup_epochs": 50, "restarts": 1}, "warmup_epochs is 50, but a stage has 50 epochs"),
    ],
)
def test_what_cannot_be_is_an_error(given, message):
    with pytest.raises(ValidationError, match=message):
        PretrainingConfig.model_validate({"optimiser": given})


def test_a_dump_has_what_acts_on_the_run():
    assert "momentum" not in OptimiserConfig().model_dump()
    assert OptimiserConfig(name="lars").model_dump()["momentum"] == 0.9
