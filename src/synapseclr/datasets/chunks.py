"""Chunks as Kedro datasets: their source, the chunk store, and chunks to search with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset

from synapseclr.datasets.files import ReadOnlyDataset
from synapseclr.storage.addresses import open_filesystem
from synapseclr.volumes.imported_chunks import ChunkSource, SourceKind
from synapseclr.volumes.store.chunk_store import ChunkStore
from synapseclr.volumes.store.shards import ChunkStream
from synapseclr.volumes.store.writing import write_chunk_store
from synapseclr.volumes.synapse_table import is_chunk_path

if TYPE_CHECKING:
    from synapseclr.volumes.imported_chunks import QueryChunks


class ChunkSourceDataset(ReadOnlyDataset[ChunkSource]):
    """Loads a :class:`ChunkSource`, a choice that reads nothing yet.

    Example catalog entries::

        chunk_source:
          type: synapseclr.datasets.ChunkSourceDataset
          kind: volumes                     # em_volume, segmentation_volume and cleft_volume

        chunk_source:
          type: synapseclr.datasets.ChunkSourceDataset
          kind: processed_chunks            # <id>__2_<x>_<y>_<z>.npy, meta.csv; raw_chunks: <id>.npy, <id>_mask.npy
          filepath: gs://bucket/processed
          mask_codes: {1: synaptic_cleft}   # default: the codes 0 to 3
          credentials: gcs

    Args:
        kind: ``volumes``, ``processed_chunks`` or ``raw_chunks``.
        filepath: Local path or fsspec URL of the folder of chunks.
        mask_filepath: Folder of the masks of ``raw_chunks``, if it is another one.
        mask_codes: What the codes in the files' masks mean.
        credentials: Passed to fsspec.
    """

    refusal = "A chunk source is read, never written."

    def __init__(
        self,
        *,
        kind: SourceKind,
        filepath: str = "",
        mask_filepath: str | None = None,
        mask_codes: dict[int, str] | None = None,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._source = ChunkSource(kind, filepath, mask_filepath, mask_codes, credentials or {})
        self.metadata = metadata

    def load(self) -> ChunkSource:
        """Return the choice."""
        return self._source

    def _describe(self) -> dict[str, Any]:
        return {"kind": self._source.kind, "filepath": self._source.url}


class ChunkStoreDataset(AbstractDataset[ChunkStream, ChunkStore]):
    """Saves a :class:`ChunkStream` shard by shard; loads a :class:`ChunkStore` handle that reads lazily.

    Args:
        filepath: Local path or fsspec URL (``gs://...``) of the Zarr group.
        credentials: Passed to fsspec.
        cache_folder: Where chunks of a remote store are kept on this machine, compressed; null: nowhere.
        cache_gb: How much is kept there at most, in GB.
    """

    def __init__(
        self,
        *,
        filepath: str,
        credentials: dict[str, Any] | None = None,
        cache_folder: str | None = None,
        cache_gb: float = 20.0,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._filepath = filepath
        self._storage_options = credentials
        self._cache = (cache_folder, cache_gb)
        self.metadata = metadata

    def load(self) -> ChunkStore:
        """Return the handle."""
        return ChunkStore(self._filepath, self._storage_options, *self._cache)

    def save(self, data: ChunkStream) -> None:
        """Drain the stream into the store."""
        write_chunk_store(data, self._filepath, self._storage_options)

    def _exists(self) -> bool:
        filesystem, path = open_filesystem(self._filepath, self._storage_options)
        return bool(filesystem.exists(f"{path}/zarr.json"))

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}


class QueryChunksDataset(ReadOnlyDataset["QueryChunks"]):
    """Loads :class:`synapseclr.volumes.imported_chunks.QueryChunks` from a ``.npy`` file or a Zarr array.

    Args:
        query: Local path or fsspec URL. None, a number, or a text of synapse ids: there are no such chunks. Not called
            ``filepath``, as Kedro would make a path of ``12+34``.
        credentials: Passed to fsspec.
    """

    refusal = "A query is read, never written."

    def __init__(
        self, *, query: Any = None, credentials: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        self._filepath = query if is_chunk_path(query) else None
        self._storage_options = credentials
        self.metadata = metadata

    def load(self) -> QueryChunks:
        """Read the chunks, or none; raises VolumeError where the file holds something else."""
        from synapseclr.volumes.imported_chunks import QueryChunks, read_query_chunks

        return QueryChunks() if self._filepath is None else read_query_chunks(self._filepath, self._storage_options)

    def _describe(self) -> dict[str, Any]:
        return {"query": self._filepath}


class OnDemandDataset(ReadOnlyDataset[Callable[[], Any]]):
    """Loads as a function that loads another dataset: for inputs that a node rarely needs and that may be missing.

    Args:
        dataset: The other dataset's entry, as in the catalog.
    """

    refusal = "A dataset on demand is read, never written."

    def __init__(self, *, dataset: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
        self._dataset: AbstractDataset[Any, Any] = AbstractDataset.from_config("on_demand", dataset)
        self.metadata = metadata

    def load(self) -> Callable[[], Any]:
        """Return the function."""
        return self._dataset.load

    def _exists(self) -> bool:
        return bool(self._dataset.exists())

    def _describe(self) -> dict[str, Any]:
        return {"dataset": self._dataset._describe()}
