"""AnnData in Zarr as Kedro datasets, local or remote: one matrix, or all those of a folder."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NewType

from kedro.io import AbstractDataset

from synapseclr.datasets.files import AtAddress, ReadOnlyDataset
from synapseclr.storage.atomic_files import MANIFEST, check_folder, folder_written_whole, settle_folder, write_manifest

if TYPE_CHECKING:
    from anndata import AnnData


TablePreview = NewType("TablePreview", dict)
"""The return type by whose name kedro-viz recognises a table."""


class AnnDataZarrDataset(AtAddress, AbstractDataset["AnnData", "AnnData"]):
    """Annotated matrix stored as Zarr v3, the form that scanpy and CELLxGENE open.

    Args:
        filepath: Local path or fsspec URL of the Zarr group.
        credentials: Passed to fsspec.
    """

    def load(self) -> AnnData:
        """Read the whole matrix into memory.

        Raises:
            OutputError: If a file of it is missing or not as it was written; Zarr would read a missing one as zeros.
            VolumeError: If an array declares another size than its table has, or than its files can hold.
        """
        from synapseclr.storage.foreign_files import read_anndata

        if self._is_local:
            settle_folder(self._path)
            check_folder(self._path)
            return read_anndata(self._path, self._filepath)
        place = self._staging if self._is_staged() else self._path
        with tempfile.TemporaryDirectory() as folder:
            self._filesystem.get(f"{place}/", f"{folder}/adata.zarr/", recursive=True)
            check_folder(f"{folder}/adata.zarr", self._filepath)
            return read_anndata(f"{folder}/adata.zarr", self._filepath)

    def save(self, data: AnnData) -> None:
        """Write beside the old matrix, then put the new one in its place.

        In a bucket the new one is whole when its manifest lies at ``<filepath>.partial``: from then on it is what is
        read, while its objects are copied over the old ones.
        """
        if self._is_local:
            with folder_written_whole(self._path) as written:
                self._write(data, written)
            return
        with tempfile.TemporaryDirectory() as folder:
            written = Path(folder) / "adata.zarr"
            self._write(data, written)
            write_manifest(written)
            manifest = (written / MANIFEST).read_bytes()
            (written / MANIFEST).unlink()
            if self._is_staged():
                self._filesystem.rm_file(f"{self._staging}/{MANIFEST}")
            if self._filesystem.exists(self._staging):
                self._filesystem.rm(self._staging, recursive=True)
            self._filesystem.put(f"{written}/", f"{self._staging}/", recursive=True)
            self._filesystem.pipe_file(f"{self._staging}/{MANIFEST}", manifest)
        self._replace_by_staged(json.loads(manifest)["files"])

    @staticmethod
    def _write(data: AnnData, folder: Path) -> None:
        import anndata

        with anndata.settings.override(zarr_write_format=3):
            data.write_zarr(folder)

    @property
    def _staging(self) -> str:
        return f"{self._path}.partial"

    def _is_staged(self) -> bool:
        """Tell whether a whole matrix lies beside, where a killed run has left it."""
        self._filesystem.invalidate_cache()
        return bool(self._filesystem.exists(f"{self._staging}/{MANIFEST}"))

    def _replace_by_staged(self, keys: Iterable[str]) -> None:
        """Copy the objects of the staged matrix to their place; the manifests go first and come last."""
        keys = list(keys)
        there = self._filesystem.find(self._path) if self._filesystem.exists(self._path) else []
        names = {path[len(self._path.rstrip("/")) + 1 :] for path in there}
        if MANIFEST in names:
            self._filesystem.rm_file(f"{self._path}/{MANIFEST}")
        for key in (*keys, MANIFEST):
            self._filesystem.cp_file(f"{self._staging}/{key}", f"{self._path}/{key}")
        for name in names.difference(keys, {MANIFEST}):
            self._filesystem.rm_file(f"{self._path}/{name}")
        self._filesystem.rm_file(f"{self._staging}/{MANIFEST}")
        self._filesystem.rm(self._staging, recursive=True)

    def preview(self, nrows: int = 10) -> TablePreview:
        """The first rows of ``obs``, for kedro-viz; features are not read."""
        import anndata
        import zarr

        location = self._path if self._is_local else self._filepath
        options = None if self._is_local else self._credentials
        obs = anndata.io.read_elem(zarr.open_group(location, mode="r", storage_options=options)["obs"]).head(nrows)
        return TablePreview(json.loads(obs.to_json(orient="split", default_handler=str)))

    def _exists(self) -> bool:
        if self._is_local:
            settle_folder(self._path)
            return Path(self._path, "zarr.json").exists()
        return self._is_staged() or bool(self._filesystem.exists(f"{self._path}/zarr.json"))


class AnnDataFolderDataset(AtAddress, ReadOnlyDataset[dict[str, "AnnData"]]):
    """Every ``<name>.zarr`` of a folder, by name, in alphabetical order; nothing where there is no folder.

    Args:
        filepath: Local path or fsspec URL of the folder.
        credentials: Passed to fsspec.
    """

    refusal = "{filepath} is filled by hand: copy the embeddings to be compared there."

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
