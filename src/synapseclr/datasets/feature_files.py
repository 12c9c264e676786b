"""Features in the published form, as a Kedro dataset."""

from __future__ import annotations

from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError

from synapseclr.volumes.importing.features import FeatureFiles


class FeatureFilesDataset(AbstractDataset[None, FeatureFiles]):
    """Loads a :class:`FeatureFiles` handle on ``extracted_features__node.<i>__epoch.<e>__<layer>.npy``.

    Args:
        filepath: Local path or fsspec URL of the folder.
        epoch: Which epoch's features; default: the only one that is there.
        credentials: Passed to fsspec.
    """

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

    def save(self, data: None) -> NoReturn:
        """Not possible."""
        raise DatasetError("Published features are read, never written; embeddings are stored as synapse_embeddings.")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._files.url, "epoch": self._files.epoch}
