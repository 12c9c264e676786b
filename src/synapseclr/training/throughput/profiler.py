"""A Lightning profiler that says where the time of the training steps goes, without slowing them."""

from __future__ import annotations

import time
from collections import deque
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import lightning
import torch
from lightning.pytorch.profilers import Profiler

from synapseclr.training.throughput.metrics import SECTIONS

AUGMENT = "augment"
_FETCH, _BATCH, _STEP, _BACKWARD = "train_dataloader_next", "run_training_batch", "training_step", "backward"
_ACTIONS = {_FETCH, _BATCH, _STEP, _BACKWARD, AUGMENT}


def profiled(module: lightning.LightningModule, action: str) -> AbstractContextManager[Any]:
    """Time what is inside as ``action``, if a trainer with a profiler runs the module; else do nothing."""
    try:
        trainer = module.trainer
    except RuntimeError:
        return nullcontext()
    context: AbstractContextManager[Any] = trainer.profiler.profile(action)  # type: ignore[attr-defined]
    return context


class Clock(Protocol):
    """Takes moments, and tells the seconds between two of them once both have passed."""

    def now(self) -> Any:
        """The present moment."""

    def seconds(self, start: Any, stop: Any) -> float:
        """Seconds from ``start`` to ``stop``."""

    def passed(self, moment: Any) -> bool:
        """Whether ``moment`` can be read without waiting."""

    def release(self, moments: list[Any]) -> None:
        """Moments that are not needed any more."""


class HostClock:
    """The processor's clock."""

    def now(self) -> float:
        """Seconds since an arbitrary start."""
        return time.perf_counter()

    def seconds(self, start: float, stop: float) -> float:
        """Seconds from ``start`` to ``stop``."""
        return stop - start

    def passed(self, moment: float) -> bool:
        """Always: the processor knows what it has done."""
        return True

    def release(self, moments: list[float]) -> None:
        """Nothing to give back."""


class CUDAClock:
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
        """Whether the device has come to this event."""
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
        self._clock: Clock = HostClock()
        self._step: dict[str, Any] = {}
        self._pending: deque[dict[str, Any]] = deque()
        self._times = StepTimes()

    def use(self, device: torch.device) -> None:
        """Take the times of this device from now on."""
        self._clock = CUDAClock() if device.type == "cuda" else HostClock()
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
        """Whether the action belongs to a training step: validation augments, too."""
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
