"""Which checkpoint a training continues from."""

from __future__ import annotations

import hashlib
import io
import logging
import pickle
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from synapseclr.errors import CheckpointError
from synapseclr.storage.declared_sizes import check_zip_content
from synapseclr.training.checkpoints.storage import BEST, LAST, PREVIOUS, CheckpointFolder
from synapseclr.training.scale.processes import world_size

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
_DAMAGED = (
    *(RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError, MemoryError),
    *(struct.error, pickle.UnpicklingError),
)
"""What torch.load raises on bytes that are not, or no longer, a checkpoint."""


@dataclass(frozen=True)
class Resumption:
    """What was found in a folder of checkpoints.

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
    """How far a checkpoint has come.

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
    except _DAMAGED as error:
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
