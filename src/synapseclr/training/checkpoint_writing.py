"""When a training writes a checkpoint, and when it stops after one."""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from types import FrameType
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Checkpoint

from synapseclr.errors import ConfigurationError, TrainingInterrupted
from synapseclr.training.callbacks import EpochRecorder, TrainingGuard
from synapseclr.training.checkpoint_folder import BEST, LAST, CheckpointFolder
from synapseclr.training.config import CheckpointConfig
from synapseclr.training.resuming import FINGERPRINT, INTERRUPTED

logger = logging.getLogger(__name__)

_GO_ON, _WRITE, _STOP = 0, 1, 2  # decisions of a process, by urgency
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Checkpoints(Checkpoint):
    """Writes ``last.ckpt`` within and at the end of epochs, and keeps the best and every n-th.

    Within an epoch a checkpoint is written only where the optimiser has just stepped: accumulated gradients are not
    part of it. All processes take part; the first one writes.

    Lightning's ``ModelCheckpoint`` is not its base: its triggers (steps, minutes, epochs) exclude each other, it writes
    every kept file anew where a link does, and it forgets the best score when the folder has another path.

    Args:
        folder: Where; the last part of its name is the run's fingerprint.
        config: When.
        recorder: Its rows decide on the best epoch.
        guard: Asked before anything is written.
    """

    def __init__(
        self, folder: CheckpointFolder, config: CheckpointConfig, recorder: EpochRecorder, guard: TrainingGuard
    ) -> None:
        self._folder = folder
        self._config = config
        self._recorder = recorder
        self._guard = guard
        self._stop = StopRequest()
        self._written = time.monotonic()
        self._best_score: float | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock, and listen to signals."""
        steps = torch.tensor(trainer.global_step, device=pl_module.device)
        if int(trainer.strategy.reduce(steps, reduce_op="max")) != trainer.global_step:
            raise ConfigurationError(
                f"Processes found different checkpoints in {self._folder.url}: this one continues from step "
                f"{trainer.global_step}, another from a later one. The folder must be the same for all machines: "
                "put it on a shared disk or give an fsspec URL."
            )
        self._stop.listen()
        self._written = time.monotonic()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write within an epoch if it is time; the end of an epoch has its own."""
        if trainer.is_last_batch or trainer.fit_loop._should_accumulate():
            return
        decision = self._decide(trainer)
        if decision >= _WRITE:
            self._write(trainer)
        if decision == _STOP:
            self._interrupt()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write, and keep what is to be kept."""
        epoch = trainer.current_epoch + 1
        is_best = trainer.is_global_zero and self._is_best(self._recorder.rows[-1])
        decision = self._decide(trainer)
        self._write(trainer)
        if trainer.is_global_zero:
            if is_best:
                self._folder.keep_last_as(BEST)
            if self._config.every_n_epochs is not None and epoch % self._config.every_n_epochs == 0:
                self._folder.keep_last_as(f"epoch-{epoch:04d}.ckpt")
        if decision == _STOP:
            self._interrupt()

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Say whose checkpoint it is, and whether its run was stopped from outside."""
        checkpoint[FINGERPRINT] = self._folder.url.rsplit("/", 1)[-1]
        checkpoint[INTERRUPTED] = self._stop.signal is not None

    def state_dict(self) -> dict[str, Any]:
        """The best score, for the checkpoint."""
        return {"best_score": self._best_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the best score back."""
        self._best_score = state_dict["best_score"]

    def _decide(self, trainer: lightning.Trainer) -> int:
        """The most urgent decision among all processes, the same on each."""
        own = self._decide_alone(trainer)
        if trainer.world_size == 1:
            return own
        decision = torch.tensor(own, device=trainer.lightning_module.device)
        return int(trainer.strategy.reduce(decision, reduce_op="max"))

    def _decide_alone(self, trainer: lightning.Trainer) -> int:
        if self._stop.signal is not None:
            return _STOP
        minutes, steps = self._config.every_n_minutes, self._config.every_n_steps
        if steps is not None and (trainer.fit_loop.total_batch_idx + 1) % steps == 0:
            return _WRITE
        is_time = minutes is not None and time.monotonic() - self._written >= 60 * minutes
        return _WRITE if is_time and trainer.is_global_zero else _GO_ON

    def _write(self, trainer: lightning.Trainer) -> None:
        self._guard.check_before_checkpoint(trainer)
        path = self._folder.locate(LAST)
        trainer.save_checkpoint(path)
        self._written = time.monotonic()
        self._guard.last_good = f"{path}, written in epoch {trainer.current_epoch + 1} after batch " + str(
            trainer.fit_loop.batch_idx + 1
        )

    def _interrupt(self) -> None:
        number = self._stop.signal or signal.SIGTERM
        logger.warning(
            "%s: the training has stopped, its checkpoint is %s. Run the same command again to continue.",
            number.name,
            self._folder.locate(LAST),
        )
        raise TrainingInterrupted(number)

    def _is_best(self, row: dict[str, float]) -> bool:
        """Compare an epoch with the best one so far, and remember the better."""
        score = monitored_score(row, self._config, self._recorder.has_probe)
        if score is None or not self._guard.is_healthy:
            return False
        if self._best_score is not None and score <= self._best_score:
            return False
        self._best_score = score
        return True


def monitored_score(row: dict[str, float], config: CheckpointConfig, has_probe: bool) -> float | None:
    """Score of an epoch: higher is better.

    Args:
        row: The epoch's metrics.
        config: Which of them decides, see ``CheckpointConfig.monitor``.
        has_probe: Whether some of the run's epochs are probed; then only those have a score by default.

    Returns:
        The score, or None if this epoch has none.

    Raises:
        ConfigurationError: If the configured metric does not exist.
    """
    probed = {name: value for name, value in row.items() if name.startswith("knn_")}
    if config.monitor is not None:
        awaited = config.monitor.startswith("knn_") and has_probe and not probed
        if config.monitor not in row and not awaited:
            raise ConfigurationError(
                f"pretraining.checkpoints.monitor is '{config.monitor}', expected a metric of the history: "
                f"{', '.join(sorted(set(row) - {'epoch', 'seconds'}))}."
            )
        score = row.get(config.monitor, math.nan) * (1 if config.monitor_mode == "max" else -1)
    elif has_probe:
        score = sum(probed.values()) / len(probed) if probed else math.nan
    else:
        score = -row.get("validation_loss", row["train_loss"])
    return score if math.isfinite(score) else None


class StopRequest:
    """Takes note of SIGTERM (preemption) and SIGINT (Ctrl-C).

    A second Ctrl-C stops at once, without a checkpoint. Handlers can only be set in a process's main thread; elsewhere
    (a notebook's or a Kedro ThreadRunner's worker thread) the signals keep their meaning.

    Attributes:
        signal: The signal that was received, or None.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def listen(self) -> None:
        """Take over the two signals. Lightning gives them back when the training ends, as it does with its own."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._note)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is None:
            self.signal = signal.Signals(number)
            logger.warning("%s: the training stops after this step and writes a checkpoint.", self.signal.name)
