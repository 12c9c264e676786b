"""Embeddings of further representations, as many as lie in a folder."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NoReturn

import fsspec
from kedro.io import AbstractDataset, DatasetError

from synapseclr.datasets.anndata_zarr import AnnDataZarrDataset

if TYPE_CHECKING:
    from anndata import AnnData


class AnnDataFolderDataset(AbstractDataset[None, dict[str, "AnnData"]]):
    """Every ``<name>.zarr`` of a folder, by name, in alphabetical order; nothing where there is no folder.

    Args:
        filepath: Local path or fsspec URL of the folder.
        credentials: Passed to fsspec.
    """

    def __init__(
        self, *, filepath: str, credentials: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        self._filepath, self._credentials = filepath, credentials
        self._filesystem, self._path = fsspec.core.url_to_fs(filepath, **(credentials or {}))
        self.metadata = metadata

    def load(self) -> dict[str, AnnData]:
        """Read all of them."""
        if not self._filesystem.exists(self._path):
            return {}
        names = sorted(PurePosixPath(path).name for path in self._filesystem.ls(self._path, detail=False))
        return {
            name.removesuffix(".zarr"): AnnDataZarrDataset(
                filepath=f"{self._filepath}/{name}", credentials=self._credentials
            ).load()
            for name in names
            if name.endswith(".zarr")
        }

    def save(self, data: None) -> NoReturn:
        """Not possible: put embeddings there by hand."""
        raise DatasetError(f"{self._filepath} is filled by hand: copy the embeddings to be compared there.")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
