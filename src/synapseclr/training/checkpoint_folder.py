"""A run's folder of checkpoints, local or remote: files appear under their names only when they are complete."""

from __future__ import annotations

import io
import os
import posixpath
import shutil
from typing import Any

import torch

from synapseclr.errors import CheckpointError
from synapseclr.storage.addresses import is_local, open_filesystem

LAST, PREVIOUS, BEST = "last.ckpt", "last-previous.ckpt", "best.ckpt"
_PARTIAL = ".partial"


class CheckpointFolder:
    """Reads and writes checkpoints.

    Args:
        url: Local path or fsspec URL of the folder; made when the first checkpoint is written.

    Attributes:
        url: As given, without a trailing slash.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._filesystem, self._path = open_filesystem(self.url)
        self._is_local = is_local(self.url)

    def locate(self, name: str) -> str:
        """Path or URL of a file of this folder."""
        return f"{self.url}/{name}"

    def names(self) -> list[str]:
        """Names of the complete checkpoints in this folder, sorted."""
        self._filesystem.invalidate_cache()
        if not self._filesystem.isdir(self._path):
            return []
        paths = self._filesystem.ls(self._path, detail=False)
        return sorted(name for path in paths if (name := posixpath.basename(path)).endswith(".ckpt"))

    def read(self, name: str) -> bytes:
        """All bytes of a file."""
        content: bytes = self._filesystem.cat_file(self._at(name))
        return content

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
        partial = self._at(LAST + _PARTIAL)
        try:
            self._filesystem.makedirs(self._path, exist_ok=True)
            self._write(content, partial)
            if keep_previous and self._filesystem.exists(self._at(LAST)):
                self._move(self._at(LAST), self._at(PREVIOUS))
            self._move(partial, self._at(LAST))
        except OSError as error:
            self._discard(partial)
            raise CheckpointError(self._unwritable(error, len(content))) from error

    def keep_last_as(self, name: str) -> None:
        """Give ``last.ckpt`` a second name; it stays when ``last.ckpt`` is replaced.

        Raises:
            CheckpointError: If it cannot be written. What lay there before is untouched.
        """
        last, partial = self._at(LAST), self._at(name + _PARTIAL)
        try:
            self._discard(partial)
            if self._is_local:
                try:
                    os.link(last, partial)  # checkpoints are never changed in place
                except OSError:  # a file system without links
                    shutil.copyfile(last, partial)
                    _sync(partial)
            else:
                self._filesystem.copy(last, partial)
            self._move(partial, self._at(name))
        except OSError as error:
            self._discard(partial)
            raise CheckpointError(self._unwritable(error, self._filesystem.size(last))) from error

    def remove(self, name: str) -> None:
        """Remove a file."""
        self._filesystem.rm_file(self._at(name))

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}"

    def _write(self, content: memoryview, path: str) -> None:
        if not self._is_local:
            self._filesystem.pipe_file(path, bytes(content))
            return
        with open(path, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def _move(self, source: str, target: str) -> None:
        """Rename; on a local disk in one step that replaces the target."""
        if self._is_local:
            os.replace(source, target)
            _sync(self._path)
        else:
            self._filesystem.mv(source, target)

    def _discard(self, path: str) -> None:
        if self._filesystem.exists(path):
            self._filesystem.rm_file(path)

    def _unwritable(self, error: OSError, n_bytes: int) -> str:
        kept = [name for name in (LAST, PREVIOUS) if name in self.names()]
        advice = (
            f"{kept[0]} there is intact: run the same command, and the training continues from it."
            if kept
            else "No earlier checkpoint lies there."
        )
        return (
            f"A checkpoint of {n_bytes / 2**20:.1f} MiB could not be written to {self.url} "
            f"({error.strerror or error}). "
            "Make room there (last, last-previous and best are kept, and every checkpoints.every_n_epochs-th), or "
            f"choose another folder. {advice}"
        )


def _sync(path: str) -> None:
    """Have a file's content, or a folder's entries, reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
