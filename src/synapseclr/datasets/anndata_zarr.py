"""AnnData in Zarr as a Kedro dataset, local or remote."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NewType

import fsspec
from kedro.io import AbstractDataset

if TYPE_CHECKING:
    from anndata import AnnData

TablePreview = NewType("TablePreview", dict)
"""What kedro-viz recognises a table by: the name of the return type."""


class AnnDataZarrDataset(AbstractDataset["AnnData", "AnnData"]):
    """Annotated matrix stored as Zarr v3, the form that scanpy and CELLxGENE open.

    Args:
        filepath: Local path or fsspec URL of the Zarr group.
        credentials: Passed to fsspec.
    """

    def __init__(
        self, *, filepath: str, credentials: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        self._filepath = filepath
        self._credentials = credentials
        self._filesystem, self._path = fsspec.core.url_to_fs(filepath, **(credentials or {}))
        self.metadata = metadata

    @property
    def _is_local(self) -> bool:
        return "://" not in self._filepath

    def load(self) -> AnnData:
        """Read the whole matrix into memory, once its arrays have the sizes that they should have."""
        from synapseclr.declared_sizes import read_anndata

        if self._is_local:
            return read_anndata(self._path, self._filepath)
        with tempfile.TemporaryDirectory() as folder:
            self._filesystem.get(f"{self._path}/", f"{folder}/adata.zarr/", recursive=True)
            return read_anndata(f"{folder}/adata.zarr", self._filepath)

    def save(self, data: AnnData) -> None:
        """Write beside the old matrix, then put the new one in its place."""
        import anndata

        with tempfile.TemporaryDirectory(dir=self._make_parent() if self._is_local else None) as folder:
            written = Path(folder) / "adata.zarr"
            with anndata.settings.override(zarr_write_format=3):
                data.write_zarr(written)
            if self._is_local:
                shutil.rmtree(self._path, ignore_errors=True)
                shutil.move(written, self._path)
            else:
                if self._filesystem.exists(self._path):
                    self._filesystem.rm(self._path, recursive=True)
                self._filesystem.put(f"{written}/", f"{self._path}/", recursive=True)

    def preview(self, nrows: int = 10) -> TablePreview:
        """The first rows of ``obs``, for kedro-viz; features are not read."""
        import anndata
        import zarr

        location = self._path if self._is_local else self._filepath
        options = None if self._is_local else self._credentials
        obs = anndata.io.read_elem(zarr.open_group(location, mode="r", storage_options=options)["obs"]).head(nrows)
        return TablePreview(json.loads(obs.to_json(orient="split", default_handler=str)))

    def _make_parent(self) -> Path:
        parent = Path(self._path).parent
        parent.mkdir(parents=True, exist_ok=True)
        return parent

    def _exists(self) -> bool:
        return bool(self._filesystem.exists(f"{self._path}/zarr.json"))

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
