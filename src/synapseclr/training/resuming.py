"""Continuing a training: the checkpoint to start from, Lightning's way to it, and the sums of a begun epoch."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import lightning
import torch
from lightning.pytorch.plugins.io import CheckpointIO
from torch import Tensor

from synapseclr.errors import CheckpointError
from synapseclr.models.foreign_checkpoints import UNREADABLE
from synapseclr.storage.declared_sizes import check_zip_content
from synapseclr.training.checkpoint_folder import BEST, LAST, PREVIOUS, CheckpointFolder
from synapseclr.training.processes import world_size

if TYPE_CHECKING:
    from synapseclr.training.config import PretrainingConfig
    from synapseclr.training.positives import NeuriteTable
    from synapseclr.volumes import ChunkStore

logger = logging.getLogger(__name__)

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
