"""What happens beside the training step: the k-NN probe, and the record of every epoch."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any

import lightning

from synapseclr.training.extraction import embed_batches
from synapseclr.training.module import BACKBONE, PretrainingModule
from synapseclr.training.prepared import PreparedStore
from synapseclr.training.probe_targets import ProbeTargets
from synapseclr.training.quality import knn_roc_auc
from synapseclr.training.scale.processes import join_shares, own_share
from synapseclr.training.throughput import ThroughputMonitor

logger = logging.getLogger(__name__)

EpochReport = Callable[[int, dict[str, float]], None]


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
        """Whether some rows have scores of a probe."""
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
