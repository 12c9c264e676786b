"""Weights and architecture in one safetensors file, as a Kedro dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem
from kedro.io import AbstractDataset

from synapseclr.storage.atomic_files import check_file, write_whole

if TYPE_CHECKING:
    from synapseclr.models import EncoderWeights


class EncoderWeightsDataset(AbstractDataset["EncoderWeights", "EncoderWeights"]):
    """Reads and writes :class:`synapseclr.models.EncoderWeights`; never a pickle.

    Args:
        filepath: Local path or fsspec URL of the ``.safetensors`` file.
        credentials: Passed to fsspec.
    """

    def __init__(
        self, *, filepath: str, credentials: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        self._filepath = filepath
        self._filesystem, self._path = fsspec.core.url_to_fs(filepath, auto_mkdir=True, **(credentials or {}))
        self.metadata = metadata

    def load(self) -> EncoderWeights:
        """Read the file; raises CheckpointError when it is not one of ours, OutputError when it has changed."""
        from synapseclr.models import EncoderWeights

        if self._is_local:
            check_file(self._path)
        return EncoderWeights.from_bytes(self._filesystem.cat_file(self._path), self._filepath)

    def save(self, data: EncoderWeights) -> None:
        """Write the file; the old one stays until the new one is complete."""
        if self._is_local:
            write_whole(self._path, data.to_bytes())
        else:
            self._filesystem.pipe_file(self._path, data.to_bytes())

    @property
    def _is_local(self) -> bool:
        return isinstance(self._filesystem, LocalFileSystem)

    def _exists(self) -> bool:
        return bool(self._filesystem.exists(self._path))

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
