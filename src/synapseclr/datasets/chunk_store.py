"""The chunk store as a Kedro dataset."""

from __future__ import annotations

from typing import Any

from kedro.io import AbstractDataset

from synapseclr.volumes.store.chunk_store import ChunkStore, ChunkStream, write_chunk_store


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
        import fsspec

        filesystem, path = fsspec.core.url_to_fs(self._filepath, **(self._storage_options or {}))
        return bool(filesystem.exists(f"{path}/zarr.json"))

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
