"""Weights and features as Kedro datasets: ours, and those in a published form, which are only read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset

from synapseclr.datasets.files import AtAddress, ReadOnlyDataset
from synapseclr.storage.atomic_files import check_file, write_whole
from synapseclr.volumes.imported_features import FeatureFiles

if TYPE_CHECKING:
    from synapseclr.models import EncoderWeights


class EncoderWeightsDataset(AtAddress, AbstractDataset["EncoderWeights", "EncoderWeights"]):
    """Reads and writes :class:`synapseclr.models.EncoderWeights`; never a pickle.

    Args:
        filepath: Local path or fsspec URL of the ``.safetensors`` file.
        credentials: Passed to fsspec.
    """

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

    def _exists(self) -> bool:
        return bool(self._filesystem.exists(self._path))


class PublishedCheckpointDataset(ReadOnlyDataset["EncoderWeights"]):
    """Loads a SynapseCLR checkpoint (``model_checkpoint_<epoch>.pt``) or a MedicalNet file as our weights.

    Args:
        filepath: Local path or fsspec URL.
        model: The architecture: fields of :class:`synapseclr.models.ModelConfig`.
        voxel_size_nm: Of the chunks (x, y, z) that the weights were trained on; the file does not say.
        credentials: Passed to fsspec.
    """

    refusal = "{filepath} holds published weights and is never written."

    read_only = "It holds published weights."

    def __init__(
        self,
        *,
        filepath: str,
        model: dict[str, Any],
        voxel_size_nm: Sequence[float] | None = None,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._filepath = filepath
        self._model = model
        size = " x ".join(f"{length:g}" for length in voxel_size_nm or ())
        self._scale = {"voxel_size_nm": size} if size else {}
        self._storage_options = credentials
        self.metadata = metadata

    def load(self) -> EncoderWeights:
        """Read the file as tensors; raises CheckpointError when it does not fit the architecture."""
        from synapseclr.models import ModelConfig, import_checkpoint

        imported = import_checkpoint(self._filepath, ModelConfig(**self._model), storage_options=self._storage_options)
        return replace(imported.weights, provenance=imported.weights.provenance | self._scale)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "model": self._model}


class FeatureFilesDataset(ReadOnlyDataset[FeatureFiles]):
    """Loads a :class:`FeatureFiles` handle on ``extracted_features__node.<i>__epoch.<e>__<layer>.npy``.

    Args:
        filepath: Local path or fsspec URL of the folder.
        epoch: Which epoch's features; default: the only one that is there.
        credentials: Passed to fsspec.
    """

    refusal = "Published features are read, never written; embeddings are stored as synapse_embeddings."

    def __init__(
        self,
        *,
        filepath: str,
        epoch: int | None = None,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._files = FeatureFiles(filepath, epoch, credentials or {})
        self.metadata = metadata

    def load(self) -> FeatureFiles:
        """Return the handle; the files are read by the node."""
        return self._files

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._files.url, "epoch": self._files.epoch}
