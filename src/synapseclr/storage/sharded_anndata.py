"""Annotated matrices larger than memory: written shard by shard, by any number of processes, and opened lazily.

``X`` and the arrays of ``obsm`` are Zarr v3 arrays of AnnData's own format, so that scanpy and
``anndata.experimental.read_lazy`` open them. A shard, one file, holds ``SHARD_ROWS`` rows in inner chunks of
``CHUNK_ROWS``, each with a checksum. ``obs`` lies in memory as a whole: 200 bytes a synapse with int64 ids, float32
measurements and categories, 2 GB at ten million.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.errors import OutputError
from synapseclr.storage.atomic_files import MANIFEST, write_manifest
from synapseclr.storage.foreign_files import check_anndata
from synapseclr.storage.object_folder import ObjectFolder

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

CHUNK_ROWS = 256
"""Rows of an inner chunk, the smallest part that is read: 0.5 MB of 512 features.

Twenty single rows, as a search reads them, take 13 ms; of chunks of 4,096 rows they took 286. Blocks take as long.
"""
SHARD_ROWS = 400 * CHUNK_ROWS
"""Rows of a shard: 102,400, 210 MB of 512 features."""
BLOCK_ROWS = 80 * CHUNK_ROWS
"""Rows of a block of a lazy array: 20,480, 42 MB of 512 features."""
_RECORDS = ".records"
_PLAN = "plan.json"
_PATIENCE_S, _POLL_S = 1800.0, 0.5
_NAMES_AT_ONCE = 1_000_000
_MEMORY_SHARE = 14  # analyses hold six to seven copies of features in memory, 12.5 kB a synapse of 512
_MOST_IN_MEMORY = 4.0e9  # bytes of features


def fits_in_memory(stored_bytes: float) -> bool:
    """Tell whether features are few enough for the analyses to hold them in memory, several times over.

    They are up to 4 GB, and up to a fourteenth of the machine's (or the container's) memory, so that these copies take
    half of it: 900,000 synapses of 512 features with 24 GB.

    Args:
        stored_bytes: Size of the matrix's files.
    """
    return stored_bytes <= min(_MOST_IN_MEMORY, memory_bytes() / _MEMORY_SHARE)


def memory_bytes() -> int:
    """Memory of the machine, or of the container where that is less."""
    import psutil

    total = int(psutil.virtual_memory().total)
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(limit).read_text()))
        except (OSError, ValueError):  # no control group, or no limit
            continue
    return total


def open_lazily(
    location: str, storage_options: Mapping[str, Any] | None = None, address: str = "", block_rows: int = BLOCK_ROWS
) -> AnnData:
    """Open an annotated matrix whose ``X`` and ``obsm`` stay where they are, as dask arrays; the rest is read.

    Args:
        location: Local path or fsspec URL of the Zarr group.
        storage_options: Passed to fsspec for a URL.
        address: Name for messages; default: the location.
        block_rows: Rows of a block, about; blocks hold whole chunks and all columns.

    Returns:
        The matrix. The names of its dask arrays are digests of what is stored, so that results derived from them can
        be told from those of other features.

    Raises:
        VolumeError: If an array has other rows than the table of observations, or declares far more than is stored.
    """
    import anndata

    # Names are the ids, which are checked where they are written; checking them takes 100 bytes a synapse.
    with anndata.settings.override(check_uniqueness=False):
        return anndata.AnnData(**lazy_parts(location, storage_options, address, block_rows))


def lazy_parts(
    location: str,
    storage_options: Mapping[str, Any] | None = None,
    address: str = "",
    block_rows: int = BLOCK_ROWS,
    without: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Open the parts of an annotated matrix by name: ``X`` and ``obsm`` as dask arrays, the rest is read.

    Args:
        location: Local path or fsspec URL of the Zarr group.
        storage_options: Passed to fsspec for a URL.
        address: Name for messages; default: the location.
        block_rows: Rows of a block, about.
        without: Parts that are not read, such as ``obs``.

    Raises:
        VolumeError: As of :func:`open_lazily`.
    """
    import anndata
    import zarr

    folder = ObjectFolder(location if "://" in location else str(Path(location).resolve()), dict(storage_options or {}))
    options = folder.storage_options or None
    group: Any = zarr.open_group(folder.url, mode="r", storage_options=options)
    check_anndata(group, address or location)
    digest = content_digest(folder)
    parts: dict[str, Any] = {}
    for name, member in group.members():
        if name in without:
            continue
        if name == "X" and hasattr(member, "shape"):
            parts[name] = _as_dask(member, name, digest, block_rows)
        elif name == "obsm":
            parts[name] = {
                layer: _as_dask(found, f"obsm/{layer}", digest, block_rows)
                if hasattr(found, "shape")
                else anndata.io.read_elem(found)
                for layer, found in member.members()
            }
        elif name == "obs":
            parts[name] = _read_obs(member)
        elif name in ("X", "var", "uns", "varm", "layers", "obsp", "varp"):
            parts[name] = anndata.io.read_elem(member)
    return parts


def _read_obs(group: Any) -> pd.DataFrame:
    """Read the table of observations, whose names take 27 bytes each here: as Python's strings they take 76."""
    import anndata
    import pandas as pd
    import pyarrow as pa

    index = str(group.attrs["_index"])
    columns = {str(name): anndata.io.read_elem(group[name]) for name in group.attrs["column-order"]}
    stored = group[index]
    if not hasattr(stored, "shape"):
        names = pd.Index(anndata.io.read_elem(stored))
    else:
        parts = [
            pa.array(stored[first : first + _NAMES_AT_ONCE].astype(object), pa.large_string(), from_pandas=True)
            for first in range(0, stored.shape[0], _NAMES_AT_ONCE)
        ]
        names = pd.Index(pd.array(pa.chunked_array(parts, pa.large_string()), dtype="string[pyarrow]"))
        pa.default_memory_pool().release_unused()
    return pd.DataFrame(columns, index=names.rename(None if index == "_index" else index), copy=False)


def _with_plain_names(obs: pd.DataFrame) -> pd.DataFrame:
    """Give observations names of a type that all versions of AnnData read."""
    return obs.set_axis(obs.index.astype(object)) if obs.index.dtype == "string" else obs


def _as_dask(array: Any, name: str, digest: str, block_rows: int) -> Any:
    import dask.array as da

    n_chunk = int(array.chunks[0])
    rows = min(max(block_rows // n_chunk, 1) * n_chunk, max(int(array.shape[0]), 1))
    return da.from_array(
        array, chunks=(rows, *array.shape[1:]), name=f"{name}-{digest}-{rows}", lock=False, inline_array=True
    )


def content_digest(folder: ObjectFolder) -> str:
    """Digest of the list of files; where there is none, of their names, sizes and times of writing."""
    try:
        return hashlib.sha256(folder.read(MANIFEST)).hexdigest()[:16]
    except FileNotFoundError:
        filesystem, root = folder.filesystem
        found = filesystem.find(root, detail=True)
        known = [
            [name, info.get("size"), str(info.get("mtime", info.get("etag", info.get("generation"))))]
            for name, info in sorted(found.items())
        ]
        return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]


def write_sharded(data: AnnData, folder: str | Path) -> None:
    """Write a matrix, in memory or lazy, to a new local folder; long dense arrays shard by shard.

    A lazy array that is stored in this form on the same disk is not copied: its files get a second name.

    Args:
        data: Synapses by features.
        folder: Path, not there yet.
    """
    import anndata
    import zarr

    with anndata.settings.override(zarr_write_format=3, auto_shard_zarr_v3=False):
        long = {
            name: array
            for name, array in (("X", data.X), *((f"obsm/{layer}", data.obsm[layer]) for layer in data.obsm))
            if type(array).__name__ != "DataFrame" and is_dense(array) and (is_lazy(array) or len(array) > CHUNK_ROWS)
        }
        if not long:
            if data.obs.index.dtype == "string":
                data = data.copy()
                data.obs = _with_plain_names(data.obs)
            data.write_zarr(folder)
            return
        rest = anndata.AnnData(
            X=None if "X" in long else data.X,
            obs=_with_plain_names(data.obs),
            var=data.var,
            uns=dict(data.uns),
            obsm={layer: data.obsm[layer] for layer in data.obsm if f"obsm/{layer}" not in long},
            varm=dict(data.varm),
            layers=dict(data.layers),
            obsp=dict(data.obsp),
            varp=dict(data.varp),
        )
        rest.write_zarr(folder)
        group = zarr.open_group(str(folder), mode="r+")
        for name, array in long.items():
            stored = _create(group, name, array.shape, array.dtype)
            if _link_shards(array, stored, Path(folder, name)):
                continue
            for first in range(0, len(array), SHARD_ROWS):
                stored[first : first + SHARD_ROWS] = np.asarray(array[first : first + SHARD_ROWS])
        zarr.consolidate_metadata(group.store)


def is_lazy(array: Any) -> bool:
    """Tell a dask array from one in memory, without importing dask."""
    return type(array).__module__.split(".")[0] == "dask" or hasattr(array, "dask")


def stored_array(features: Any) -> Any | None:
    """The Zarr array below a dask array that is nothing but its blocks: dask would read a whole block for one row."""
    if hasattr(features, "oindex"):
        return features
    layers = getattr(getattr(features, "dask", None), "layers", {})
    # Of from_array there is one layer, the blocks, or two, the second one holding the array.
    if len([name for name in layers if not str(name).startswith("original-")]) != 1:
        return None
    for task in features.dask.values():
        for argument in (task, *getattr(task, "args", ())):
            found = getattr(argument, "value", argument)
            if hasattr(found, "oindex") and found.shape == features.shape and found.dtype == features.dtype:
                return found
    return None


def _link_shards(array: Any, stored: Any, folder: Path) -> bool:
    """Give an array the very files of a lazy one that is stored in the same form on this disk, if it is.

    Files of a matrix are never changed, only replaced as a whole folder, so that two matrices can share them.
    """
    source = stored_array(array)
    root = None if source is None else getattr(source.store, "root", None)
    if source is None or root is None:
        return False
    if source.metadata.codecs != stored.metadata.codecs or source.shards != stored.shards:
        return False
    shards = Path(str(root), source.path, "c")
    if source.metadata.chunk_grid != stored.metadata.chunk_grid or not shards.is_dir():
        return False
    try:
        shutil.copytree(shards, folder / "c", copy_function=os.link)
    except (OSError, shutil.Error):  # another file system, or one without links
        shutil.rmtree(folder / "c", ignore_errors=True)
        return False
    return True


def is_dense(array: Any) -> bool:
    """Tell whether something is a dense array with rows: in memory or lazy, not sparse, not a table, not None."""
    return isinstance(array, np.ndarray) or is_lazy(array)


def _create(group: Any, name: str, shape: tuple[int, ...], dtype: Any, rows: tuple[int, int] | None = None) -> Any:
    """Make an empty array with the attributes that AnnData looks for; rows of its chunks and shards may be given."""
    from zarr.codecs import Crc32cCodec, ZstdCodec

    n_chunk, n_shard = rows or (CHUNK_ROWS, SHARD_ROWS)
    array = group.create_array(
        name,
        shape=shape,
        chunks=(n_chunk, *shape[1:]),
        shards=(n_shard, *shape[1:]),
        dtype=dtype,
        compressors=[ZstdCodec(), Crc32cCodec()],
        overwrite=True,
    )
    array.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    return array


@dataclass(frozen=True)
class MatrixShards:
    """An annotated matrix in the making, to which processes and machines that share its folder add shards.

    A shard belongs to it from the moment its record is there; a process that is killed leaves a shard without record,
    which the next one writes anew. Small enough to be sent to a worker.

    Attributes:
        url: Local path or fsspec URL of the folder, ``<final place>.partial``.
        n_rows: Synapses.
        widths: Columns of each layer, by name; ``X`` is one of them, the others become ``obsm``.
        fingerprint: Digest of all that determines the features: what another one has left in the folder is deleted.
        storage_options: Passed to fsspec for a URL.
        shard_rows: Rows of a shard, a multiple of ``chunk_rows``.
        chunk_rows: Rows of an inner chunk.
    """

    url: str
    n_rows: int
    widths: Mapping[str, int]
    fingerprint: str
    storage_options: dict[str, Any] | None = None
    shard_rows: int = SHARD_ROWS
    chunk_rows: int = CHUNK_ROWS

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @cached_property
    def folder(self) -> ObjectFolder:
        """The matrix's files."""
        return ObjectFolder(self.url, self.storage_options)

    @cached_property
    def records(self) -> ObjectFolder:
        """Records of shards, with their digests, and the plan: they lie beside the matrix until it is whole."""
        return ObjectFolder(f"{self.url.rstrip('/')}{_RECORDS}", self.storage_options)

    @property
    def n_shards(self) -> int:
        """Number of shards, of which the last one may be shorter."""
        return math.ceil(self.n_rows / self.shard_rows)

    def rows(self, shard: int) -> range:
        """Rows of a shard."""
        return range(shard * self.shard_rows, min((shard + 1) * self.shard_rows, self.n_rows))

    def begin(self) -> list[int]:
        """Make the arrays, or continue what an interrupted run has left; one process does this before the others write.

        Returns:
            Shards that are still to be written.
        """
        import zarr

        plan = {
            "fingerprint": self.fingerprint,
            "n_rows": self.n_rows,
            "widths": dict(self.widths),
            "rows": [self.chunk_rows, self.shard_rows],
        }
        if self._plan() != plan or not self._is_begun():
            self.records.clear()
            self.folder.clear()
            group = zarr.open_group(
                self.folder.url, mode="w", zarr_format=3, storage_options=self.folder.storage_options
            )
            group.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
            obsm = group.create_group("obsm")
            obsm.attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
            for name, width in self.widths.items():
                rows = (self.chunk_rows, self.shard_rows)
                _create(group, self._key(name), (self.n_rows, width), np.float32, rows)
            self.records.write(_PLAN, json.dumps(plan).encode(), scratch=None)
        left = self.unfinished()
        if len(left) < self.n_shards:
            logger.info("%d of %d shards are there already: going on.", self.n_shards - len(left), self.n_shards)
        return left

    def unfinished(self) -> list[int]:
        """Shards without record."""
        there = set(self.records.keys(""))
        return [shard for shard in range(self.n_shards) if f"{shard:06d}.json" not in there]

    def write(self, shard: int, layers: Mapping[str, NDArray[np.float32]]) -> None:
        """Write the rows of one shard, then its record.

        Args:
            shard: Number of the shard; no other process may write the same one.
            layers: float32 (rows of the shard, columns of the layer), by name.
        """
        import zarr

        rows = self.rows(shard)
        group: Any = zarr.open_group(self.folder.url, mode="r+", storage_options=self.folder.storage_options)
        files = {}
        for name in self.widths:
            key = self._key(name)
            group[key][rows.start : rows.stop] = layers[name]
            stored = f"{key}/c/{shard}/0"
            if not self.folder.is_remote and not Path(self.folder.url, stored).exists():
                continue  # all zeros are not stored
            content = self.folder.read(stored)
            files[stored] = [len(content), hashlib.sha256(content).hexdigest()]
        self.records.write(f"{shard:06d}.json", json.dumps(files).encode(), scratch=None)

    def finish(self, obs: pd.DataFrame, uns: Mapping[str, Any]) -> None:
        """Add the tables, and the list of all files with their digests: the matrix is whole from then on.

        No feature is read: digests of shards are in their records.

        Args:
            obs: One row per synapse; the index are their names.
            uns: What else is to be known, such as the provenance.

        Raises:
            OutputError: If shards are missing.
        """
        import anndata
        import pandas as pd
        import zarr

        if left := self.unfinished():
            raise OutputError(f"{self.url} lacks {len(left)} of {self.n_shards} shards, such as {left[0]}.")
        with anndata.settings.override(zarr_write_format=3, auto_shard_zarr_v3=False):
            group: Any = zarr.open_group(self.folder.url, mode="r+", storage_options=self.folder.storage_options)
            rest = anndata.AnnData(obs=_with_plain_names(obs), uns=dict(uns))
            rest.strings_to_categoricals()
            width = int(self.widths["X"])
            anndata.io.write_elem(group, "obs", rest.obs)
            anndata.io.write_elem(group, "var", pd.DataFrame(index=pd.RangeIndex(width).astype(str)))
            anndata.io.write_elem(group, "uns", dict(rest.uns))
            for name in ("layers", "obsp", "varm", "varp"):
                anndata.io.write_elem(group, name, {})
            zarr.consolidate_metadata(group.store)
        known: dict[str, Any] = {}
        for shard in range(self.n_shards):
            known |= json.loads(self.records.read(f"{shard:06d}.json"))
        if not self.folder.is_remote:
            write_manifest(Path(self.folder.url), known)
            return
        files = dict(known)
        for key in self.folder.keys(""):
            if key not in files and key != MANIFEST:
                content = self.folder.read(key)
                files[key] = [len(content), hashlib.sha256(content).hexdigest()]
        self.folder.write(MANIFEST, json.dumps({"pipeline": "", "files": files}).encode())

    def forget(self) -> None:
        """Delete the records of shards, which nothing needs any more once the matrix is in its place."""
        self.records.clear()

    def wait_until_moved(self, timeout_s: float = _PATIENCE_S) -> None:
        """Wait for another machine that puts the matrix into its place, the last thing of which is :meth:`forget`.

        Raises:
            OutputError: If it takes longer than it ever should.
        """
        deadline = time.monotonic() + timeout_s
        while self.records.has(_PLAN):
            if time.monotonic() > deadline:
                raise OutputError(f"No machine has put {self.url} into its place within {timeout_s:.0f} s.")
            time.sleep(_POLL_S)

    def _is_begun(self) -> bool:
        try:
            return bool(self.folder.read("zarr.json"))
        except FileNotFoundError:
            return False

    def _plan(self) -> Any:
        try:
            return json.loads(self.records.read(_PLAN))
        except (FileNotFoundError, ValueError):
            return None

    @staticmethod
    def _key(name: str) -> str:
        return name if name == "X" else f"obsm/{name}"


@dataclass(frozen=True)
class ShardedMatrix:
    """A matrix whose features are stored and whose tables are not yet: what a node returns to be saved.

    Attributes:
        shards: The features, all shards written.
        obs: One row per synapse.
        uns: What else is to be known.
    """

    shards: MatrixShards
    obs: pd.DataFrame
    uns: Mapping[str, Any]
