"""Callbacks of a training: the k-NN probe, the record of every epoch, and the guard that stops a failed training."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from rich.progress import Progress
from torch import Tensor

from synapseclr.errors import TrainingDivergedError
from synapseclr.models.simclr import BACKBONE
from synapseclr.training.config import MonitoringConfig, ProbeTargets
from synapseclr.training.extraction import embed_batches
from synapseclr.training.module import PretrainingModule, TwoViews
from synapseclr.training.prepared_store import PreparedStore
from synapseclr.training.quality import has_constant_intensity, knn_roc_auc
from synapseclr.training.throughput import ThroughputMonitor
from synapseclr.training.workers import join_shares, own_share

logger = logging.getLogger(__name__)

EpochReport = Callable[[int, dict[str, float]], None]
_LEAST_SEEN = 32  # synapses, all of which must be constant to stop a training before its first epoch ends


class KNNProbe(lightning.Callback):
    """Measures how well a synapse's neighbours, from other neurites, tell its class.

    Attributes:
        scores: ROC AUC as ``knn_<trait>`` of the epoch that has just ended; empty where it was not probed.
    """

    def __init__(self, synapses: PreparedStore, targets: ProbeTargets) -> None:
        self.scores: dict[str, float] = {}
        self._synapses = synapses
        self._targets = targets

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Embed the annotated synapses, each process some batches, and score them on every process alike."""
        assert isinstance(pl_module, PretrainingModule)
        monitoring = pl_module.config.monitoring
        epoch = trainer.current_epoch + 1
        self.scores = {}
        if epoch % monitoring.probe_every_n_epochs and epoch != pl_module.config.epochs:
            return
        batch_size = pl_module.config.batch_size
        all_starts = range(0, len(self._targets.indices), batch_size)
        starts = (all_starts[batch] for batch in own_share(len(all_starts)))
        batches = (self._synapses.read(self._targets.indices[start : start + batch_size]) for start in starts)
        own = embed_batches(pl_module.model, batches, pl_module.config.augmentation, pl_module.device)
        layers = join_shares(own)
        for trait, labels in self._targets.labels.items():
            score = knn_roc_auc(layers[BACKBONE], labels, self._targets.groups[trait], monitoring.probe_neighbours)
            if math.isfinite(score):
                self.scores[f"knn_{trait}"] = score


class TrainingBar(lightning.Callback):
    """Progress bar over all batches of a training, in the first process.

    Lightning's own replaces the console of rich, and with it the status line of the run that is on it.
    """

    def __init__(self) -> None:
        self._bar: Progress | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Show the bar."""
        if not trainer.is_global_zero:
            return
        self._bar = Progress(transient=True)
        self._task = self._bar.add_task("Training")
        self._bar.start()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move on by a batch."""
        if self._bar is not None and trainer.max_epochs:
            n_batches, epoch = int(trainer.num_training_batches), trainer.current_epoch
            self._bar.update(
                self._task,
                total=trainer.max_epochs * n_batches,
                completed=epoch * n_batches + batch_idx + 1,
                description=f"Training, epoch {epoch + 1} of {trainer.max_epochs}",
            )

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Take the bar off the terminal."""
        self._close()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Take the bar off the terminal."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class EpochRecorder(lightning.Callback):
    """Keeps one row of metrics an epoch, in the checkpoint too, and reports each row as soon as it is known.

    Args:
        report: Called with (epoch, metrics) after every epoch, and for the epochs before a resumed one.
        probe: Its scores become part of the rows; it must come earlier in the list of callbacks.
        throughput: Its metrics become part of the rows, likewise.
    """

    def __init__(
        self, report: EpochReport, probe: KNNProbe | None = None, throughput: ThroughputMonitor | None = None
    ) -> None:
        self.rows: list[dict[str, float]] = []
        self._report = report
        self._probe = probe
        self._throughput = throughput
        self._seconds_before = 0.0
        self._started = time.monotonic()

    @property
    def has_probe(self) -> bool:
        """True if a probe is part of the training."""
        return self._probe is not None

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Report what was recorded before an interruption; the clock of an interrupted epoch goes on."""
        if not trainer.is_global_zero:
            self.rows = []
        for row in self.rows:
            self._report(int(row["epoch"]), row)
        self._started = time.monotonic()

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the epoch's clock."""
        self._seconds_before = 0.0
        self._started = time.monotonic()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Append and report the epoch's row. Epochs count from 1."""
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, PretrainingModule)
        seconds = self._seconds
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        metrics |= self._probe.scores if self._probe is not None else {}
        row = {
            "epoch": float(trainer.current_epoch + 1),
            "learning_rate": self._learning_rate,
            **metrics,
            **(self._throughput.metrics if self._throughput is not None else {}),
            "seconds": seconds,
        }
        self.rows.append(row)
        self._report(int(row["epoch"]), row)
        shown = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
        logger.info("Epoch %d of %d: %s (%.1f s)", row["epoch"], pl_module.config.epochs, shown, seconds)

    def on_train_batch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any) -> None:
        """Note the learning rate while it is the epoch's own: the schedule moves on before the epoch ends."""
        self._learning_rate = float(trainer.optimizers[0].param_groups[0]["lr"])

    def state_dict(self) -> dict[str, Any]:
        """Rows and the epoch's clock for the checkpoint, in plain types."""
        return {"rows": self.rows, "seconds": self._seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take rows and clock back."""
        self.rows = list(state_dict["rows"])
        self._seconds_before = state_dict["seconds"]

    @property
    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._started


@dataclass(frozen=True)
class _Step:
    """Loss of a step, on its way to the host.

    Attributes:
        where: Epoch, batch and learning rate, in words.
        loss: Scalar on the host; valid once the event has happened.
        arrived: None where the loss is on the host already.
    """

    where: str
    loss: Tensor
    arrived: torch.cuda.Event | None

    def value(self) -> float:
        if self.arrived is not None:
            self.arrived.synchronize()
        return float(self.loss)


class TrainingGuard(lightning.Callback):
    """Raises an error when loss or weights are not finite, inputs show nothing, or the representation has collapsed.

    On a GPU a step's loss is looked at after the next step was queued, so that the GPU never waits for the host;
    before a checkpoint is written, everything is.

    Args:
        monitoring: Threshold and patience for collapse.
        last_good: The checkpoint that is continued, if one is.

    Attributes:
        last_good: The last checkpoint that was written or continued, in words; None if there is none.
    """

    def __init__(self, monitoring: MonitoringConfig, last_good: str | None = None) -> None:
        self.last_good = last_good
        self._monitoring = monitoring
        self._unread: _Step | None = None
        self._collapsed_epochs = 0
        self._n_seen = 0
        self._n_constant: Tensor | int = 0

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the loss and, in the first epoch, at the inputs."""
        if trainer.current_epoch == 0:
            self._count_constant(batch)
        previous, self._unread = self._unread, _fetch(outputs["loss"], _where(trainer))
        if previous is not None:
            self._check(previous)
        if self._unread.arrived is None:
            self._check_unread()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Look at the effective rank of the held-out synapses and, in the first epoch, at the inputs."""
        self._check_unread()
        if trainer.current_epoch == 0:
            self._check_inputs(self._monitoring.max_constant_fraction)
        rank = float(trainer.callback_metrics.get("effective_rank", math.inf))
        floor = self._monitoring.collapse_effective_rank
        self._collapsed_epochs = self._collapsed_epochs + 1 if rank < floor else 0
        if self._collapsed_epochs >= self._monitoring.collapse_epochs:
            raise TrainingDivergedError(
                f"The representation has collapsed: the effective rank of the held-out synapses was below {floor:g} in "
                f"{self._collapsed_epochs} epochs, and is {rank:.3f} in epoch {trainer.current_epoch + 1}. "
                f"{self._kept('best.ckpt in the same folder is from the best epoch before.')} Try a lower "
                "optimiser.learning_rate, a larger batch_size, another objective.temperature or stronger augmentation; "
                "pretraining.monitoring.collapse_effective_rank sets the threshold, and 0 turns this check off."
            )

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Warn of a collapse that came too late, or in too short a training, to stop it."""
        if not self.is_healthy:
            logger.warning(
                "The training has ended with an effective rank below pretraining.monitoring.collapse_effective_rank "
                "(%g): its features hardly tell synapses apart.",
                self._monitoring.collapse_effective_rank,
            )

    def _count_constant(self, batch: Any) -> None:
        """Add up the inputs without structure, on their device; the host looks once, early, and when the epoch ends."""
        is_constant_b = has_constant_intensity(batch.chunks if isinstance(batch, TwoViews) else batch)
        were_enough = self._n_seen >= _LEAST_SEEN
        self._n_seen += len(is_constant_b)
        self._n_constant = is_constant_b.sum() + self._n_constant
        if not were_enough and self._n_seen >= _LEAST_SEEN and int(self._n_constant) == self._n_seen:
            self._check_inputs(self._monitoring.max_constant_fraction)

    def _check_inputs(self, limit: float) -> None:
        n = int(self._n_constant)
        if n > limit * self._n_seen:
            raise TrainingDivergedError(
                f"The images of {n} of the first {self._n_seen} synapses are black or of one intensity: there is "
                "nothing to learn from. Check the EM volume's path and scale (`kedro synapseclr check`) and cut the "
                "chunks again; pretraining.monitoring.max_constant_fraction sets how many may be so."
            )

    @property
    def is_healthy(self) -> bool:
        """True if the effective rank of the last epoch was above the threshold."""
        return self._collapsed_epochs == 0

    def check_before_checkpoint(self, trainer: lightning.Trainer) -> None:
        """Look at the loss, the weights and the optimiser's state, which are about to be written.

        Raises:
            TrainingDivergedError: If one is not finite.
        """
        self._check_unread()
        for name, tensor in _state(trainer):
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                raise TrainingDivergedError(self._not_finite(f"'{name}' holds NaN or infinite values", _where(trainer)))

    def state_dict(self) -> dict[str, Any]:
        """The count of collapsed epochs, for the checkpoint."""
        return {"collapsed_epochs": self._collapsed_epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the count back."""
        self._collapsed_epochs = state_dict["collapsed_epochs"]

    def _check_unread(self) -> None:
        step, self._unread = self._unread, None
        if step is not None:
            self._check(step)

    def _check(self, step: _Step) -> None:
        value = step.value()
        if not math.isfinite(value):
            raise TrainingDivergedError(self._not_finite(f"the loss is {value}", step.where))

    def _not_finite(self, what: str, where: str) -> str:
        return (
            f"The training has diverged: {what} in {where}. {self._kept()} Try a lower optimiser.learning_rate, "
            "gradient clipping or a higher objective.temperature; with precision: 16-mixed, bf16-mixed or 32-true. "
            "Changed parameters start a new training; the old one's checkpoints stay."
        )

    def _kept(self, more: str = "") -> str:
        if self.last_good is None:
            return "No checkpoint had been written yet."
        return " ".join(filter(None, (f"The last good checkpoint is {self.last_good}.", more)))


def _fetch(loss: Tensor, where: str) -> _Step:
    """Send a loss to the host without waiting for it."""
    if not loss.is_cuda:
        return _Step(where, loss.detach(), None)
    on_host = loss.detach().to("cpu", non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()
    return _Step(where, on_host, arrived)


def _where(trainer: lightning.Trainer) -> str:
    rate = trainer.optimizers[0].param_groups[0]["lr"]
    return f"epoch {trainer.current_epoch + 1}, batch {trainer.fit_loop.batch_idx + 1}, at learning rate {rate:g}"


def _state(trainer: lightning.Trainer) -> Iterator[tuple[str, Tensor]]:
    """Tensors that a checkpoint holds, with their names."""
    module = trainer.lightning_module
    yield from module.state_dict().items()
    names: dict[Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
    for optimiser in trainer.optimizers:
        for parameter, entries in optimiser.state.items():
            for key, value in entries.items():
                if isinstance(value, Tensor):
                    yield f"{names.get(parameter, 'a parameter')} ({key})", value
