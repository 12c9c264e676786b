"""Throughput of every epoch."""

from __future__ import annotations

import lightning
import torch

from synapseclr.training.throughput.flops import training_flops_per_synapse
from synapseclr.training.throughput.profiler import StepProfiler

_TERA = 1e12
_GIGA = 1e9


class ThroughputMonitor(lightning.Callback):
    """Measures how fast the training steps of an epoch ran, and what their time was spent on.

    Lightning's own monitor of this name waits for the device after every step and needs a logger; this one reads
    CUDA events when they have passed, and leaves its figures in :attr:`metrics`. Its :attr:`profiler` goes to
    the ``Trainer``.

    Attributes:
        profiler: Gets the moments from Lightning's loops.
        metrics: Of the epoch that has just ended, by the names in ``WALL_CLOCK_METRICS``, without ``seconds``. Of an
            epoch that a resumed run finishes, only its own steps are measured.
    """

    def __init__(self) -> None:
        self.profiler = StepProfiler()
        self.metrics: dict[str, float] = {}
        self._flops_per_synapse: float | None = None
        self._synapses_per_step = 0

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Count the operations of a step."""
        from synapseclr.training.module import PretrainingModule

        assert isinstance(pl_module, PretrainingModule)
        self.profiler.use(trainer.strategy.root_device)
        self._flops_per_synapse = training_flops_per_synapse(pl_module.config)
        self._synapses_per_step = pl_module.config.batch_size * trainer.world_size

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start counting anew."""
        self.profiler.collect()
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Keep the validation out of the training steps' time."""
        self.profiler.pause()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Work the epoch's figures out."""
        times = self.profiler.collect()
        self.metrics = {}
        if times.total > 0:
            rate = times.steps * self._synapses_per_step / times.total
            self.metrics["data_wait"] = times.wait / times.total
            self.metrics |= {f"{name}_share": seconds / times.total for name, seconds in times.sections.items()}
            self.metrics["synapses_per_second"] = rate
            if self._flops_per_synapse is not None:
                self.metrics["tflops_per_second"] = rate * self._flops_per_synapse / _TERA
        if pl_module.device.type == "cuda":
            self.metrics["gpu_memory_gb"] = torch.cuda.max_memory_allocated(pl_module.device) / _GIGA
