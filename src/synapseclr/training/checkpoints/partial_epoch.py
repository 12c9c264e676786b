"""Means over an epoch that is interrupted: the part before the interruption travels in the checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning
import torch
from torch import Tensor

_KEY = "synapseclr_partial_epoch"


class PartialEpochMetrics(lightning.Callback):
    """Saves what the training steps of a begun epoch have logged, and adds it to what the rest of the epoch logs.

    Lightning keeps these sums in ``trainer.fit_loop.epoch_loop._results`` and does not save them. A sum is continued
    exactly: (saved + next) + ... is what an uninterrupted epoch computes.
    """

    def __init__(self) -> None:
        self._saved: dict[str, dict[str, Tensor]] = {}

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the sums into the checkpoint."""
        checkpoint[_KEY] = {
            key: {name: getattr(metric, name).detach().cpu().clone() for name in metric._defaults}
            for key, metric in trainer.fit_loop.epoch_loop._results.items()
            if metric.is_tensor and metric.meta.on_epoch and not metric.has_reset
        }

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the sums out of the checkpoint."""
        self._saved = checkpoint.get(_KEY, {})

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Forget the sums if the checkpoint was written at the end of an epoch: its row is in the history."""
        if not trainer.fit_loop.restarted_mid_epoch:
            self._saved = {}

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Add the saved sums as soon as the first step after the interruption has logged."""
        results = trainer.fit_loop.epoch_loop._results
        for key in [key for key in self._saved if key in results and not results[key].has_reset]:
            metric = results[key]
            for name, saved in self._saved.pop(key).items():
                logged = getattr(metric, name)
                setattr(metric, name, _combine(metric)(saved.to(logged.device), logged))
            metric._computed = None

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Forget what no later step of the epoch has logged."""
        self._saved = {}


def _combine(metric: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """How two parts of an epoch make one, by the metric's reduction; a mean is kept as two sums."""
    if metric.meta.is_max_reduction:
        return torch.maximum
    return torch.minimum if metric.meta.is_min_reduction else torch.add
