"""Lightning's way to the checkpoint folder."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.plugins.io import CheckpointIO

from synapseclr.training.checkpoints.resuming import Resumption
from synapseclr.training.checkpoints.storage import CheckpointFolder


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
