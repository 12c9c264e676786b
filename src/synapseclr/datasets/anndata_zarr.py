"""AnnData in Zarr as Kedro datasets, local or remote, in memory or lazy: one matrix, or all those of a folder."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NewType

from kedro.io import AbstractDataset, DatasetError

from synapseclr.datasets.files import AtAddress, ReadOnlyDataset
from synapseclr.errors import OutputError
from synapseclr.storage.addresses import plain_address
from synapseclr.storage.atomic_files import (
    MANIFEST,
    check_folder,
    folder_written_whole,
    replace_folder,
    settle_folder,
    write_manifest,
)

if TYPE_CHECKING:
    from anndata import AnnData

    from synapseclr.storage.sharded_anndata import ShardedMatrix

logger = logging.getLogger(__name__)

TablePreview = NewType("TablePreview", dict)
"""The return type by whose name kedro-viz recognises a table."""


class AnnDataZarrDataset(AtAddress, AbstractDataset["AnnData | ShardedMatrix", "AnnData"]):
    """Annotated matrix stored as Zarr v3, the form that scanpy and CELLxGENE open.

    Args:
        filepath: Local path or fsspec URL of the Zarr group.
        credentials: Passed to fsspec.
        metadata: Of other Kedro plugins.
        in_memory: True: load features into memory; False: as dask arrays, which read them block by block where they
            are; ``auto``: by their size and the memory of this machine
            (:func:`synapseclr.storage.sharded_anndata.fits_in_memory`).
    """

    def __init__(
        self,
        *,
        filepath: str,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
        in_memory: bool | str = "auto",
    ) -> None:
        super().__init__(filepath=filepath, credentials=credentials, metadata=metadata)
        if in_memory not in (True, False, "auto"):
            raise DatasetError(f"in_memory is {in_memory!r}; it must be true, false or auto.")
        self._in_memory = in_memory
        self.is_saved_elsewhere = False  # by another machine, on a shared disk

    def load(self) -> AnnData:
        """Read the whole matrix into memory, or open it lazily.

        Raises:
            OutputError: If a file of it is missing or not as it was written; Zarr would read a missing one as zeros.
                Of a lazy matrix sizes are compared here, and checksums when a block is read.
            VolumeError: If an array declares another size than its table has, or than its files can hold.
        """
        from synapseclr.storage.foreign_files import read_anndata
        from synapseclr.storage.sharded_anndata import open_lazily

        if self._is_local:
            settle_folder(self._path)
            if not self._is_read_whole(self._path):
                check_folder(self._path, is_read=False)
                return open_lazily(self._path, address=self._filepath)
            check_folder(self._path)
            return read_anndata(self._path, self._filepath)
        place = self._staging if self._is_staged() else self._path
        if not self._is_read_whole(place):
            self._check_remote(place)
            return open_lazily(
                self._filepath.rstrip("/") + place.rstrip("/")[len(self._path.rstrip("/")) :],
                self._credentials,
                self._filepath,
            )
        with tempfile.TemporaryDirectory() as folder:
            self._filesystem.get(f"{place}/", f"{folder}/adata.zarr/", recursive=True)
            check_folder(f"{folder}/adata.zarr", self._filepath)
            return read_anndata(f"{folder}/adata.zarr", self._filepath)

    def _is_read_whole(self, place: str) -> bool:
        if self._in_memory != "auto":
            return bool(self._in_memory)
        from synapseclr.storage.sharded_anndata import fits_in_memory

        if not self._filesystem.exists(place):
            return True  # what is wrong is said by who reads
        size = float(self._filesystem.du(place))
        if fits_in_memory(size):
            return True
        logger.info(
            "%s has %.1f GB: its features stay on disk, and are read block by block (in_memory: true forces them into "
            "memory).",
            self._filepath,
            size / 1e9,
        )
        return False

    def _check_remote(self, place: str) -> None:
        """Compare names and sizes of a matrix's objects with its list."""
        try:
            files = json.loads(self._filesystem.cat_file(f"{place}/{MANIFEST}"))["files"]
        except FileNotFoundError:
            return
        start = len(place.rstrip("/")) + 1
        there = {name[start:]: info["size"] for name, info in self._filesystem.find(place, detail=True).items()}
        for key, expected in files.items():
            if there.get(key) != expected[0]:
                problem = f"has {there[key]} instead of {expected[0]} bytes" if key in there else "is missing"
                raise OutputError(
                    f"{self._filepath} is damaged: {key} {problem}. Run the pipeline that writes it again."
                )

    @property
    def work_address(self) -> str:
        """Address at which shards of the next matrix are collected until they are all there."""
        return f"{self._filepath.rstrip('/')}.partial"

    def save(self, data: AnnData | ShardedMatrix) -> None:
        """Write beside the old matrix, then put the new one in its place.

        Shards that processes have written already (:class:`synapseclr.storage.sharded_anndata.ShardedMatrix`) get their
        tables, and are moved as they are. In a bucket the new matrix is whole when its manifest lies at
        ``<filepath>.partial``: from then on it is what is read, while its objects are copied over the old ones.
        """
        from synapseclr.storage.sharded_anndata import ShardedMatrix

        if isinstance(data, ShardedMatrix):
            self._save_shards(data)
            return
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

    def _save_shards(self, data: ShardedMatrix) -> None:
        if data.shards.folder.url.rstrip("/") != plain_address(self.work_address):
            raise DatasetError(f"The shards lie at {data.shards.url}, not at {self.work_address}.")
        if self.is_saved_elsewhere:
            data.shards.wait_until_moved()
            return
        data.shards.finish(data.obs, data.uns)
        if self._is_local:
            replace_folder(Path(data.shards.folder.url), Path(self._path))
            data.shards.forget()
            return
        self._replace_by_staged(json.loads(self._filesystem.cat_file(f"{self._staging}/{MANIFEST}"))["files"])
        data.shards.forget()

    @staticmethod
    def _write(data: AnnData, folder: Path) -> None:
        from synapseclr.storage.sharded_anndata import write_sharded

        write_sharded(data, folder)

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


class OptionalProvenanceDataset(AtAddress, ReadOnlyDataset[dict[str, Any]]):
    """Provenance of an annotated matrix, without its features and tables; empty where there is no matrix.

    Args:
        filepath: Local path or fsspec URL of the Zarr group, which :class:`AnnDataZarrDataset` writes.
        credentials: Passed to fsspec.
        metadata: Of other Kedro plugins.
    """

    refusal = "The provenance at {filepath} is written with the matrix."

    def load(self) -> dict[str, Any]:
        """Read ``uns["provenance"]``."""
        import anndata
        import zarr

        if not self._filesystem.exists(f"{self._path}/zarr.json"):
            return {}
        location, options = (self._path, None) if self._is_local else (self._filepath, self._credentials)
        group = zarr.open_group(location, mode="r", storage_options=options)
        return dict(anndata.io.read_elem(group["uns/provenance"])) if "uns/provenance" in group else {}


class AnnDataFolderDataset(AtAddress, ReadOnlyDataset[dict[str, "AnnData"]]):
    """Every ``<name>.zarr`` of a folder, by name, in alphabetical order; nothing where there is no folder.

    Args:
        filepath: Local path or fsspec URL of the folder.
        credentials: Passed to fsspec.
        metadata: Of other Kedro plugins.
        in_memory: As of :class:`AnnDataZarrDataset`.
    """

    refusal = "{filepath} is filled by hand: copy the embeddings to be compared there."

    def __init__(
        self,
        *,
        filepath: str,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
        in_memory: bool | str = "auto",
    ) -> None:
        super().__init__(filepath=filepath, credentials=credentials, metadata=metadata)
        self._in_memory = in_memory

    def load(self) -> dict[str, AnnData]:
        """Read all of them."""
        if not self._filesystem.exists(self._path):
            return {}
        names = sorted(PurePosixPath(path).name for path in self._filesystem.ls(self._path, detail=False))
        return {
            name.removesuffix(".zarr"): AnnDataZarrDataset(
                filepath=f"{self._filepath}/{name}", credentials=self._credentials, in_memory=self._in_memory
            ).load()
            for name in names
            if name.endswith(".zarr")
        }
