import json
import subprocess
import sys

import pytest
import torch
from pydantic import ValidationError

from synapseclr.objectives import ObjectiveConfig, dcl, nt_xent, vicreg_loss
from synapseclr.training import PretrainingConfig, fit
from synapseclr.training import module as training_module
from synapseclr.training.config import ObjectiveConfig as FromTraining
from synapseclr.training.module import PretrainingModule

FUNCTIONS = {"nt_xent": nt_xent, "decoupled": dcl, "vicreg": vicreg_loss}


def chosen(tiny_config, name, **parameters):
    return PretrainingConfig.model_validate(
        tiny_config.model_dump() | {"objective": {"name": name, **parameters}, "epochs": 1}
    )


@pytest.fixture
def views():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(4, 3, generator=generator) for _ in range(2)]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("nt_xent", {"temperature": 0.2}), ("decoupled", {"temperature": 0.2}), ("vicreg", {"invariance": 3.0})],
)
def test_a_configuration_builds_its_objective_with_its_parameters(name, parameters, views):
    built, function = ObjectiveConfig(name=name, **parameters).build(), FUNCTIONS[name]
    assert built(*views) == function(*views, **parameters)
    assert built(*views) != function(*views)


def test_the_defaults_are_those_of_the_functions(views):
    for name, function in FUNCTIONS.items():
        assert ObjectiveConfig(name=name).build()(*views) == function(*views)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "barlow"}, "'nt_xent', 'decoupled' or 'vicreg'"),
        ({"temperature": 0}, "greater than 0"),
        ({"temperature": float("inf")}, "finite"),
        ({"name": "vicreg", "covariance": -1}, "greater than or equal to 0"),
        ({"name": "vicreg", "temperature": 0.1}, r"temperature is 0.1, but the objective 'vicreg' has no such"),
        (
            {"name": "decoupled", "variance": 10},
            r"variance is 10.0, but .* Leave variance out, or choose the objective 'vicreg'",
        ),
        ({"tempreature": 0.1}, "Extra inputs"),
    ],
)
def test_what_does_not_fit_is_refused(given, message):
    with pytest.raises(ValidationError, match=message):
        ObjectiveConfig.model_validate(given)


def test_a_base_configuration_with_the_default_temperature_can_become_vicreg():
    assert ObjectiveConfig.model_validate({"name": "vicreg", "temperature": 0.5}) == ObjectiveConfig(name="vicreg")


def test_the_dump_holds_what_acts_and_reads_back():
    dumps = {
        "nt_xent": {"name": "nt_xent", "temperature": 0.5},  # as before there was a choice: old digests stay
        "decoupled": {"name": "decoupled", "temperature": 0.5},
        "vicreg": {"name": "vicreg", "invariance": 25.0, "variance": 25.0, "covariance": 1.0},
    }
    for name, dump in dumps.items():
        config = PretrainingConfig(objective=ObjectiveConfig(name=name))
        assert json.loads(config.model_dump_json(exclude={"resume"}))["objective"] == dump
        assert list(config.objective.model_dump()) == list(dump)
        assert PretrainingConfig.model_validate_json(config.model_dump_json()) == config
    assert FromTraining is ObjectiveConfig


@pytest.mark.parametrize("name", ["nt_xent", "decoupled", "vicreg"])
def test_training_minimises_the_chosen_objective_over_all_processes(chunks, tiny_config, name, monkeypatch):
    """The module hands the un-normalised projections to the gather, and what it gathers to the objective."""
    seen = []
    monkeypatch.setattr(training_module, "gather_views", lambda *z: seen.append(z) or tuple(2 * side + 1 for side in z))
    monkeypatch.setattr(PretrainingModule, "log", lambda *_, **__: None)
    monkeypatch.setattr(PretrainingModule, "current_epoch", 0)
    module = PretrainingModule(chosen(tiny_config, name))
    loss = module.training_step(torch.from_numpy(chunks.read(list(range(4)))), 0)
    ((z_i, z_j),) = seen
    assert z_i.shape == z_j.shape == (4, 8)
    assert not torch.allclose(z_i.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(loss, FUNCTIONS[name](2 * z_i + 1, 2 * z_j + 1))
    loss.backward()
    assert all(parameter.grad is not None for parameter in module.model.parameters())


def test_another_objective_is_another_run_with_other_weights(chunks, tiny_config, tmp_path):
    configs = [
        chosen(tiny_config, "decoupled"),
        chosen(tiny_config, "vicreg"),
        chosen(tiny_config, "vicreg", variance=9),
    ]
    results = [fit(chunks, config, str(tmp_path)) for config in configs]
    assert len(list(tmp_path.iterdir())) == len({result.weights.sha256 for result in results}) == 3
    for result in results:
        assert result.history[["train_loss", "validation_loss", "alignment"]].notna().all(axis=None)


def test_configurations_do_not_import_torch():
    code = (
        "import sys, synapseclr.training\nfrom synapseclr.objectives import ObjectiveConfig\n"
        "assert 'torch' not in sys.modules; ObjectiveConfig().build(); assert 'torch' in sys.modules\n"
        "import synapseclr.objectives.views, synapseclr.objectives.losses\n"
        "from synapseclr.objectives import dcl, gather_views, nt_xent, vicreg_loss\n"
        "assert all(map(callable, (dcl, gather_views, nt_xent, vicreg_loss)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
