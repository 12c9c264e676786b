"""Throughput of a training, and the parts of a step's time, measured without slowing the steps."""

from __future__ import annotations

import logging
import time
from collections import deque
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import lightning
import torch
from lightning.fabric.utilities.throughput import measure_flops
from lightning.pytorch.profilers import Profiler

from synapseclr.training.config import PretrainingConfig

SECTIONS = ("augment", "forward", "backward", "optimiser")
"""Parts of a training step; what is left of its time are the copy to the device and the work of other callbacks."""

SHARES = ("data_wait", *(f"{section}_share" for section in SECTIONS))
"""Shares of the training steps' time, each in [0, 1]: waiting for the loader, or for views that are drawn
ahead, then the parts of a step; ``augment`` is 0 where views are drawn ahead."""

WALL_CLOCK_METRICS = ("seconds", *SHARES, "synapses_per_second", "tflops_per_second", "gpu_memory_gb")
"""Columns of a training history that are measured, not learned: two runs that are otherwise equal differ in them.

``seconds``: of the epoch, with validation and probe. ``data_wait`` and ``<section>_share``: see :data:`SHARES`.
``synapses_per_second``: over the training steps, of all processes. ``tflops_per_second``: 10^12 floating point
operations of the model per second, of all processes. ``gpu_memory_gb``: the most that tensors held since the epoch
began, in GB of 10^9 bytes, on the first process's device; there is no such column on a CPU. Times are the first
process's; on CUDA they are the device's, so a wait that the device does not notice does not count.
"""

AUGMENT = "augment"
_FETCH, _BATCH, _STEP, _BACKWARD = "train_dataloader_next", "run_training_batch", "training_step", "backward"
_ACTIONS = {_FETCH, _BATCH, _STEP, _BACKWARD, AUGMENT}
logger = logging.getLogger(__name__)

_VIEWS = 2
_FORWARD_AND_BACKWARD = 3
_TERA = 1e12
_GIGA = 1e9


def profiled(module: lightning.LightningModule, action: str) -> AbstractContextManager[Any]:
    """Time what is inside as ``action``, if a trainer with a profiler runs the module; else do nothing."""
    try:
        trainer = module.trainer
    except RuntimeError:
        return nullcontext()
    context: AbstractContextManager[Any] = trainer.profiler.profile(action)  # type: ignore[attr-defined]
    return context


class Clock:
    """The processor's clock: moments, and the seconds between two of them once both have passed."""

    def now(self) -> Any:
        """The present moment."""
        return time.perf_counter()

    def seconds(self, start: Any, stop: Any) -> float:
        """Seconds from ``start`` to ``stop``."""
        return float(stop - start)

    def passed(self, moment: Any) -> bool:
        """True if ``moment`` can be read without waiting: always, on the processor."""
        return True

    def release(self, moments: list[Any]) -> None:
        """Take moments back that are not needed any more."""


class CUDAClock(Clock):
    """Events in the device's queue: the device's own time, for which the host never waits.

    A wait of the host that the device does not notice, since its queue is full, takes no time on this clock.
    """

    def __init__(self) -> None:
        self._free: list[torch.cuda.Event] = []

    def now(self) -> torch.cuda.Event:
        """An event behind all work that was queued so far."""
        event = self._free.pop() if self._free else torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, start: torch.cuda.Event, stop: torch.cuda.Event) -> float:
        """Seconds on the device from ``start`` to ``stop``; waits for ``stop``."""
        stop.synchronize()
        return start.elapsed_time(stop) / 1000

    def passed(self, moment: torch.cuda.Event) -> bool:
        """True if the device has come to this event."""
        return moment.query()

    def release(self, moments: list[torch.cuda.Event]) -> None:
        """Events to use again."""
        self._free += moments


@dataclass
class StepTimes:
    """Sums over training steps, in seconds.

    Attributes:
        steps: How many there were.
        total: From asking for a batch to asking for the next one.
        wait: Waiting for the loader.
        sections: Seconds by the names in ``SECTIONS``.
    """

    steps: int = 0
    total: float = 0.0
    wait: float = 0.0
    sections: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SECTIONS, 0.0))


class StepProfiler(Profiler):
    """Adds up the time of training steps by what it is spent on.

    Lightning names what it does to its profiler; the module names ``augment``. Steps whose moments have passed are
    added up while later ones run, so memory stays small and the host does not wait before :meth:`collect`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._clock = Clock()
        self._step: dict[str, Any] = {}
        self._pending: deque[dict[str, Any]] = deque()
        self._times = StepTimes()

    def use(self, device: torch.device) -> None:
        """Take the times of this device from now on."""
        self._clock = CUDAClock() if device.type == "cuda" else Clock()
        self._step = {}
        self._pending.clear()
        self._times = StepTimes()

    def start(self, action_name: str) -> None:
        """Note that an action begins."""
        action = action_name.rpartition(".")[2]
        if action not in _ACTIONS:
            return
        if action == _FETCH:
            moment = self._clock.now()
            self._finish(moment)
            self._step = {"begin": moment}
        elif self._runs(action):
            self._step[f"{action} start"] = self._clock.now()

    def stop(self, action_name: str) -> None:
        """Note that an action ends."""
        action = action_name.rpartition(".")[2]
        if action == _FETCH and self._step:
            self._step["fetched"] = self._clock.now()
        elif f"{action} start" in self._step and f"{action} stop" not in self._step:
            self._step[f"{action} stop"] = self._clock.now()

    def pause(self) -> None:
        """End the present step here: what follows, as a validation, is not part of it."""
        self._finish(self._step.get(f"{_BATCH} stop"))
        self._step = {}

    def collect(self) -> StepTimes:
        """The sums since the last call."""
        self.pause()
        while self._pending:
            self._add(self._pending.popleft())
        times, self._times = self._times, StepTimes()
        return times

    def _runs(self, action: str) -> bool:
        """Tell actions of a training step from those of validation, which augments, too."""
        if action == _BATCH:
            return "fetched" in self._step
        running = f"{_BATCH} start" in self._step and f"{_BATCH} stop" not in self._step
        return running and f"{action} start" not in self._step

    def _finish(self, end: Any) -> None:
        if f"{_BATCH} stop" in self._step:
            self._step["end"] = end
            self._pending.append(self._step)
        while self._pending and self._clock.passed(self._pending[0]["end"]):
            self._add(self._pending.popleft())

    def _add(self, step: dict[str, Any]) -> None:
        def between(start: str, stop: str) -> float:
            return self._clock.seconds(step[start], step[stop]) if start in step and stop in step else 0.0

        # the step contains the augmentation; the optimiser's part is what follows the backward pass
        sections = self._times.sections
        augment = between(f"{AUGMENT} start", f"{AUGMENT} stop")
        sections["augment"] += augment
        sections["forward"] += between(f"{_STEP} start", f"{_STEP} stop") - augment
        sections["backward"] += between(f"{_BACKWARD} start", f"{_BACKWARD} stop")
        sections["optimiser"] += between(f"{_BACKWARD} stop", f"{_BATCH} stop")
        self._times.wait += between("begin", "fetched")
        self._times.total += between("begin", "end")
        self._times.steps += 1
        self._clock.release(list({id(moment): moment for key, moment in step.items() if key != "end"}.values()))


def training_flops_per_synapse(config: PretrainingConfig) -> float | None:
    """Floating point operations that a training step spends on one synapse in encoder and projector.

    The forward pass of one view is counted by torch's ``FlopCounterMode`` at the configured view size, on the meta
    device, where nothing is computed: convolutions and matrix products, a multiplication and an addition each counting
    as one operation. There are two views, and the backward pass counts as twice the forward pass (Kaplan et al. 2020,
    arXiv:2001.08361, section 2.1); operations that are done again, as with activation checkpointing, do not count.

    Returns:
        The number, or None, with a warning in the log, if the model cannot run on the meta device.
    """
    size = config.augmentation.final_img_size
    view_bcxyz = torch.empty(1, config.model.in_channels, size, size, size, device="meta")
    mask_bcxyz = torch.empty(1, 3, size, size, size, dtype=torch.bool, device="meta")
    model = config.model.build(config.seed).eval().to("meta")
    try:
        with torch.no_grad():
            forward = measure_flops(model, lambda: model(view_bcxyz, mask_bcxyz))
    except (RuntimeError, NotImplementedError) as error:
        logger.warning(
            "The operations of encoder %s were not counted, so TFLOP/s are not recorded: %s",
            config.model.encoder,
            error,
        )
        return None
    return float(_VIEWS * _FORWARD_AND_BACKWARD * forward)


class ThroughputMonitor(lightning.Callback):
    """Measures how fast the training steps of an epoch ran, and what their time was spent on.

    Lightning's own monitor of this name waits for the device after every step and needs a logger; this one reads
    CUDA events when they have passed, and leaves its figures in :attr:`metrics`. Its :attr:`profiler` goes to
    the ``Trainer``.

    Args:
        config: The run's parameters.

    Attributes:
        profiler: Gets the moments from Lightning's loops.
        metrics: Of the epoch that has just ended, by the names in ``WALL_CLOCK_METRICS``, without ``seconds``. Of an
            epoch that a resumed run finishes, only its own steps are measured.
    """

    def __init__(self, config: PretrainingConfig) -> None:
        self.profiler = StepProfiler()
        self.metrics: dict[str, float] = {}
        self._config = config
        self._flops_per_synapse: float | None = None

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Count the operations of a step."""
        self.profiler.use(trainer.strategy.root_device)
        self._flops_per_synapse = training_flops_per_synapse(self._config)

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
            rate = times.steps * self._config.batch_size * trainer.world_size / times.total
            self.metrics["data_wait"] = times.wait / times.total
            self.metrics |= {f"{name}_share": seconds / times.total for name, seconds in times.sections.items()}
            self.metrics["synapses_per_second"] = rate
            if self._flops_per_synapse is not None:
                self.metrics["tflops_per_second"] = rate * self._flops_per_synapse / _TERA
        if pl_module.device.type == "cuda":
            self.metrics["gpu_memory_gb"] = torch.cuda.max_memory_allocated(pl_module.device) / _GIGA
