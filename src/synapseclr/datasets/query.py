"""What a query by an external chunk needs, as catalog entries that load nothing until there is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from kedro.io import AbstractDataset, DatasetError

if TYPE_CHECKING:
    from synapseclr.volumes.query_chunks import QueryChunks


class QueryChunksDataset(AbstractDataset[None, "QueryChunks"]):
    """Loads :class:`synapseclr.volumes.query_chunks.QueryChunks` from a ``.npy`` file or a Zarr array.

    Args:
        query: Local path or fsspec URL. None, a number, or a text of synapse ids: there are no such chunks. Not called
            ``filepath``, as Kedro would make a path of ``12+34``.
        credentials: Passed to fsspec.
    """

    def __init__(
        self, *, query: Any = None, credentials: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        from synapseclr.analysis.synapse_ids import is_chunk_path

        self._filepath = query if is_chunk_path(query) else None
        self._storage_options = credentials
        self.metadata = metadata

    def load(self) -> QueryChunks:
        """Read the chunks, or none; raises VolumeError where the file holds something else."""
        from synapseclr.volumes.query_chunks import QueryChunks, read_query_chunks

        return QueryChunks() if self._filepath is None else read_query_chunks(self._filepath, self._storage_options)

    def save(self, data: None) -> NoReturn:
        """Not possible."""
        raise DatasetError("A query is read, never written.")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"query": self._filepath}


class OnDemandDataset(AbstractDataset[None, Callable[[], Any]]):
    """Loads as a function that loads another dataset: for inputs that a node rarely needs and that may be missing.

    Args:
        dataset: The other dataset's entry, as in the catalog.
    """

    def __init__(self, *, dataset: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
        self._dataset: AbstractDataset[Any, Any] = AbstractDataset.from_config("on_demand", dataset)
        self.metadata = metadata

    def load(self) -> Callable[[], Any]:
        """Return the function."""
        return self._dataset.load

    def save(self, data: None) -> NoReturn:
        """Not possible."""
        raise DatasetError("A dataset on demand is read, never written.")

    def _exists(self) -> bool:
        return bool(self._dataset.exists())

    def _describe(self) -> dict[str, Any]:
        return {"dataset": self._dataset._describe()}
