"""Checkpoints of a training: the folder they lie in, when one is written, and how a training continues from it.

Lightning does not save the sums of a begun epoch; they are part of these checkpoints.
"""

from __future__ import annotations

import hashlib
import io
import logging
import math
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import lightning
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import CheckpointIO
from torch import Tensor

from synapseclr.errors import CheckpointError, ConfigurationError, OutputError, TrainingInterrupted
from synapseclr.models.foreign_checkpoints import UNREADABLE
from synapseclr.storage.atomic_files import remove_leftovers, written_whole
from synapseclr.storage.foreign_files import check_zip_content
from synapseclr.storage.object_folder import ObjectFolder
from synapseclr.training.callbacks import EpochRecorder, TrainingGuard
from synapseclr.training.config import CheckpointConfig
from synapseclr.training.workers import world_size

if TYPE_CHECKING:
    from synapseclr.training.config import PretrainingConfig
    from synapseclr.training.positives import NeuriteTable
    from synapseclr.volumes import ChunkStore

logger = logging.getLogger(__name__)

LAST, PREVIOUS, BEST = "last.ckpt", "last-previous.ckpt", "best.ckpt"
FINGERPRINT, INTERRUPTED = "synapseclr_fingerprint", "synapseclr_interrupted"
_NEEDED = ("state_dict", "loops", "callbacks", "optimizer_states", "lr_schedulers")

_WITHOUT_INFLUENCE = {
    "resume",
    "num_workers",
    "view_threads",
    "prefetch_factor",
    "chunk_cache_mb",
    "accelerator",
    "monitoring",
    "checkpoints",
    "devices",
    "nodes",
    "rendezvous",
}

_KEY = "synapseclr_partial_epoch"
_GO_ON, _WRITE, _STOP = 0, 1, 2  # decisions of a process, by urgency
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class CheckpointFolder:
    """Reads and writes checkpoints.

    Args:
        url: Local path or fsspec URL of the folder; made when the first checkpoint is written.

    Attributes:
        url: As given, without a trailing slash.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._objects = ObjectFolder(self.url)

    def locate(self, name: str) -> str:
        """Path or URL of a file of this folder."""
        return f"{self.url}/{name}"

    def names(self) -> list[str]:
        """Names of the complete checkpoints in this folder, sorted."""
        return [name for name in self._objects.keys("") if name.endswith(".ckpt") and "/" not in name]

    def read(self, name: str) -> bytes:
        """All bytes of a file."""
        return self._objects.read(name)

    def write_last(self, checkpoint: dict[str, Any], keep_previous: bool) -> None:
        """Write ``last.ckpt``.

        Args:
            checkpoint: What ``torch.save`` takes.
            keep_previous: Whether the present ``last.ckpt`` becomes ``last-previous.ckpt``; otherwise it is replaced.

        Raises:
            CheckpointError: If it cannot be written. What lay there before is untouched.
        """
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        content = buffer.getbuffer()
        keep_previous = keep_previous and LAST in self.names()
        with self._said(len(content)):
            if self._objects.is_remote:
                if keep_previous:
                    self.keep_last_as(PREVIOUS)
                self._objects.write(LAST, bytes(content))
                return
            remove_leftovers(self._objects.url)
            with written_whole(self._path(LAST), is_recorded=False) as partial:
                partial.write_bytes(content)
                if keep_previous:  # not before there is room for the new one
                    self.keep_last_as(PREVIOUS)

    def keep_last_as(self, name: str) -> None:
        """Give ``last.ckpt`` a second name; it stays when ``last.ckpt`` is replaced.

        Raises:
            CheckpointError: If it cannot be written. What lay there before is untouched.
        """
        if self._objects.is_remote:
            filesystem, root = self._objects.filesystem
            with self._said(filesystem.size(f"{root}/{LAST}")):
                filesystem.copy(f"{root}/{LAST}", f"{root}/{name}")
            return
        last = self._path(LAST)
        with self._said(last.stat().st_size), written_whole(self._path(name), is_recorded=False) as partial:
            try:
                os.link(last, partial)  # checkpoints are never changed in place
            except OSError:  # a file system without links
                shutil.copyfile(last, partial)

    def remove(self, name: str) -> None:
        """Remove a file."""
        self._objects.delete(name)

    def _path(self, name: str) -> Path:
        return Path(self._objects.url, name)

    @contextmanager
    def _said(self, n_bytes: int) -> Iterator[None]:
        """Say what becomes of a training whose checkpoint cannot be written."""
        try:
            yield
        except (OSError, OutputError) as error:
            raise CheckpointError(self._unwritable(error, n_bytes)) from error

    def _unwritable(self, error: Exception, n_bytes: int) -> str:
        kept = [name for name in (LAST, PREVIOUS) if name in self.names()]
        advice = (
            f"{kept[0]} there is intact: run the same command, and the training continues from it."
            if kept
            else "No earlier checkpoint lies there."
        )
        return (
            f"A checkpoint of {n_bytes / 2**20:.1f} MiB could not be written to {self.url} "
            f"({getattr(error.__cause__ or error, 'strerror', None) or error}). "
            "Make room there (last, last-previous and best are kept, and every checkpoints.every_n_epochs-th), or "
            f"choose another folder. {advice}"
        )


@dataclass(frozen=True)
class Resumption:
    """Checkpoint found in a folder.

    Attributes:
        path: Path or URL of the checkpoint to continue from; None to train from the start.
        checkpoint: Its content.
        last_is_good: Whether ``last.ckpt`` can be read and belongs to this run.
    """

    path: str | None = None
    checkpoint: dict[str, Any] | None = None
    last_is_good: bool = False


@dataclass(frozen=True)
class Progress:
    """Progress of a training at a checkpoint.

    Attributes:
        epochs: Epochs that are complete.
        batches: Batches of the epoch after those.
    """

    epochs: int
    batches: int

    @classmethod
    def of(cls, checkpoint: dict[str, Any]) -> Progress:
        """Read it from the state of Lightning's loops."""
        loop = checkpoint["loops"]["fit_loop"]
        epochs = loop["epoch_progress"]["current"]
        batches = loop["epoch_loop.batch_progress"]["current"]["ready"] if epochs["ready"] > epochs["processed"] else 0
        return cls(epochs["processed"], batches)

    def __str__(self) -> str:
        return f"epoch {self.epochs}" + (f" and {self.batches} batches" if self.batches else "")


def fingerprint(store: ChunkStore, config: PretrainingConfig, neurites: NeuriteTable | None = None) -> str:
    """Name of a run's checkpoint folder: the same for the same configuration on the same data."""
    relevant = config.model_dump_json(exclude=_WITHOUT_INFLUENCE)
    processes = world_size()  # it decides on the batches
    relevant += f"on {processes} processes" if processes > 1 else ""
    pairs = neurites.sha256 if neurites is not None and config.positives.kind == "same_neurite" else ""
    return hashlib.sha256(f"{relevant}{store.sha256}{pairs}".encode()).hexdigest()[:16]


def find_unfinished(folder: CheckpointFolder, module: torch.nn.Module, config: PretrainingConfig) -> Resumption:
    """Find the checkpoint to continue from; a finished run is not continued but done again.

    A run that was stopped by a signal in its last moment, its result not yet handed back, is still to be continued.

    Candidates are ``last.ckpt``, the one before it, the kept epochs from the latest on, and ``best.ckpt``. The first
    one that can be read and fits is taken.

    Args:
        folder: Named after the run's fingerprint.
        module: What is trained; a checkpoint must have its tensors.
        config: The run's parameters.

    Raises:
        CheckpointError: If there are checkpoints, but none that can be continued; names the file, and what to do.
    """
    if not config.resume:
        return Resumption()
    failures: list[CheckpointError] = []
    last_is_good = False
    for name in _candidates(folder.names()):
        path = folder.locate(name)
        try:
            checkpoint = _read(folder, name)
            _check(checkpoint, path, module, folder.url.rsplit("/", 1)[-1])
        except CheckpointError as error:
            failures.append(error)
            continue
        last_is_good = name == LAST
        progress = Progress.of(checkpoint)
        if failures:
            logger.warning("%s Continuing from %s (after %s) instead.", failures[0], path, progress)
        if progress.epochs >= config.epochs and not checkpoint.get(INTERRUPTED):
            return Resumption(last_is_good=last_is_good)
        logger.info("Continuing the unfinished training in %s after %s of %d.", path, progress, config.epochs)
        return Resumption(path, checkpoint, last_is_good)
    if failures:
        raise CheckpointError(
            f"{failures[0]} No other checkpoint in {folder.url} can be used. Delete the file, or train from the start "
            f"with pretraining.resume: false."
        )
    return Resumption()


def _candidates(names: list[str]) -> Iterator[str]:
    special = (LAST, PREVIOUS, BEST)
    kept = sorted((name for name in names if name not in special), reverse=True)
    yield from (name for name in (LAST, PREVIOUS, *kept, BEST) if name in names)


def _read(folder: CheckpointFolder, name: str) -> dict[str, Any]:
    try:
        content = folder.read(name)
        check_zip_content(content, str(folder.locate(name)))
        checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise CheckpointError(
            f"{folder.locate(name)} cannot be read as a checkpoint: it is truncated, damaged, or another kind of file "
            f"({type(error).__name__})."
        ) from error
    if not isinstance(checkpoint, dict) or any(key not in checkpoint for key in _NEEDED):
        raise CheckpointError(
            f"{folder.locate(name)} is not a checkpoint of this training engine: it lacks one of {', '.join(_NEEDED)}."
        )
    return checkpoint


def _check(checkpoint: dict[str, Any], path: str, module: torch.nn.Module, expected_fingerprint: str) -> None:
    """Compare the checkpoint's tensors with the model's, and whose checkpoint it is."""
    found = {name: tuple(tensor.shape) for name, tensor in checkpoint["state_dict"].items()}
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    differing = [name for name in expected | found if found.get(name) != expected.get(name)]
    if differing:
        examples = "; ".join(
            f"'{name}' is {found.get(name, 'missing')}, expected {expected.get(name, 'no such tensor')}"
            for name in differing[:3]
        )
        raise CheckpointError(
            f"{path} is a checkpoint of another architecture: {len(differing)} tensors differ, first {examples}."
        )
    if checkpoint.get(FINGERPRINT) != expected_fingerprint:
        raise CheckpointError(
            f"{path} belongs to another configuration or other data: its fingerprint is "
            f"{checkpoint.get(FINGERPRINT, 'missing')}, expected {expected_fingerprint}."
        )


class FolderCheckpointIO(CheckpointIO):
    """Writes ``last.ckpt`` of a folder, and loads what was found in it when the run began.

    Args:
        folder: Where checkpoints lie.
        resumption: What was found there.
    """

    def __init__(self, folder: CheckpointFolder, resumption: Resumption) -> None:
        self._folder = folder
        self._found = resumption.checkpoint
        self._last_is_good = resumption.last_is_good

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write ``last.ckpt``; a damaged one does not become the previous one."""
        self._folder.write_last(checkpoint, keep_previous=self._last_is_good)
        self._last_is_good = True

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Hand over the checkpoint, once."""
        assert self._found is not None
        found, self._found = self._found, None
        return found

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a file of the folder."""
        self._folder.remove(str(path).rsplit("/", 1)[-1])


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
            metric._computed = None  # drop the mean that Lightning cached before the sums were changed

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Forget what no later step of the epoch has logged."""
        self._saved = {}


def _combine(metric: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """Operation that joins two parts of an epoch, by the metric's reduction; a mean is kept as two sums."""
    if metric.meta.is_max_reduction:
        return torch.maximum
    return torch.minimum if metric.meta.is_min_reduction else torch.add


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
