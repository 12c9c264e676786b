"""The learning rate against the recorded one of the published code."""

import numpy as np
import pytest
import torch

from synapseclr.training.config import OptimiserConfig
from synapseclr.training.optimiser import CosineWithRestarts


@pytest.fixture
def golden(golden_folder):
    return np.load(golden_folder / "g09_lr.npz")


@pytest.fixture
def published(golden):
    return OptimiserConfig(learning_rate=golden["base_lr"], final_learning_rate=golden["eta_min"])


def test_the_defaults_are_the_published_rates(published):
    assert published == OptimiserConfig()


def test_every_epoch_has_the_recorded_rate(golden, published):
    epochs = int(golden["epochs"])
    found = [published.learning_rate_at(epoch, epochs) for epoch in range(epochs)]
    np.testing.assert_allclose(found, golden["lr_at_start_of_epoch"], rtol=1e-12)
    assert published.learning_rate_at(epochs, epochs) == golden["lr_after_epoch_99"]


def test_the_scheduler_sets_the_recorded_rates(golden, published):
    optimiser = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])
    schedule = CosineWithRestarts(optimiser, published, int(golden["epochs"]), 48)
    found = []
    for _ in range(int(golden["epochs"]) + 1):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    recorded = [*golden["lr_at_start_of_epoch"], golden["lr_after_epoch_99"]]
    np.testing.assert_allclose(found, recorded, rtol=1e-12)


def test_both_published_stages_are_one_configuration(golden, published):
    two_stages = published.model_copy(update={"restarts": 1})
    found = [two_stages.learning_rate_at(epoch, 200) for epoch in range(200)]
    np.testing.assert_allclose(found, np.tile(golden["lr_at_start_of_epoch"], 2), rtol=1e-12)


def test_more_epochs_do_not_let_the_rate_climb_back(golden, published):
    """The published code, resumed after 100 epochs and asked for 200, goes from 2e-5 back up to 2e-4."""
    assert (np.diff(golden["lr_epochs_100_to_199_after_reload_with_epochs200"]) > 0).all()

    first, second = (torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))]) for _ in range(2))
    finished = CosineWithRestarts(first, published, 100, 48)
    for _ in range(100):
        first.step()
        finished.step()
    continued = CosineWithRestarts(second, published, 200, 48)
    second.load_state_dict(first.state_dict())
    continued.load_state_dict(finished.state_dict())
    found = []
    for _ in range(100):
        found.append(second.param_groups[0]["lr"])
        second.step()
        continued.step()
    assert found == [published.learning_rate_at(epoch, 200) for epoch in range(100, 200)]
    assert (np.diff(found) < 0).all()
