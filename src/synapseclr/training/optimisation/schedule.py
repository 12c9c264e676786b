"""The learning rate of every epoch, as torch and Lightning expect a scheduler."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from synapseclr.training.optimisation.config import OptimiserConfig


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
