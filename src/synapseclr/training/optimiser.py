"""Optimisers by name."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from synapseclr.training.config import OptimiserConfig


def build_optimiser(model: nn.Module, config: OptimiserConfig) -> Optimizer:
    """Make the optimiser of a model's parameters; the schedule sets its learning rate.

    LARS (You, Gitman & Ginsburg 2017, arXiv:1708.03888) moves a weight w with gradient g by the momentum of
    ``trust_coefficient |w| / (|g| + weight_decay |w|) (g + weight_decay w)`` times the learning rate. Biases and the
    parameters of norms, which are vectors, take neither the decay nor the factor: they follow plain momentum.

    Args:
        model: Whose parameters are optimised.
        config: Which optimiser.
    """
    rate, decay = config.learning_rate, config.weight_decay
    if config.name == "adam":
        return Adam(model.parameters(), lr=rate, weight_decay=decay)
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
    if config.name == "adamw":
        return AdamW(groups, lr=rate)
    from pytorch_optimizer import LARS

    return LARS(groups, lr=rate, momentum=config.momentum, trust_coefficient=config.trust_coefficient)


class CosineWithRestarts(LRScheduler):
    """Gives every epoch the rate of :meth:`OptimiserConfig.learning_rate_at`; to be stepped once an epoch.

    The rate is computed anew from the epoch's number, not from the rate before, so that a resumed run has the rate of
    an uninterrupted one. The state is that number alone: a checkpoint does not carry a schedule into a run that has
    another one. (torch's ``CosineAnnealingLR``, resumed with a longer ``T_max`` as in the published code, climbs back.)

    With a restart, the optimiser's moments go too (``reset_at_restart``); it happens together with the change of the
    rate, so every checkpoint has both or neither.

    Args:
        optimiser: Its parameter groups all get the same rate.
        config: The schedule.
        epochs: Length of the run.
        synapses_per_step: See :meth:`OptimiserConfig.learning_rate_at`.
    """

    def __init__(self, optimiser: Optimizer, config: OptimiserConfig, epochs: int, synapses_per_step: int) -> None:
        self._config = config
        self._epochs = epochs
        self._synapses_per_step = synapses_per_step
        super().__init__(optimiser)

    def get_lr(self) -> list[Any]:
        """Rate of the current epoch, for every parameter group."""
        rate = self._config.learning_rate_at(self.last_epoch, self._epochs, self._synapses_per_step)
        return [rate] * len(self.optimizer.param_groups)

    def step(self, epoch: int | None = None) -> None:
        """Go on to the next epoch."""
        super().step(epoch)
        if self._config.reset_at_restart and self._config.restarts_at(self.last_epoch, self._epochs):
            self.optimizer.state.clear()

    def state_dict(self) -> dict[str, Any]:
        """The epoch, counted from 0."""
        return {"last_epoch": self.last_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the epoch, and set its rate in the optimiser."""
        self.last_epoch = int(state_dict["last_epoch"])
        self._last_lr = self.get_lr()
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate
