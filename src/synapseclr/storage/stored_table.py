"""A table that stays in its Parquet file, of which columns are read when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import pandas as pd

STORED_FROM_BYTES = 200_000_000
"""Size of a file from which on ``in_memory: auto`` leaves the table in it: about two million synapses."""


class StoredTable:
    """Columns of a Parquet file, as ``table["name"]`` and ``table[["one", "other"]]`` read them off a pandas table.

    Nothing is kept: a column that is asked for twice is read twice. Small enough to be sent to a worker.

    Args:
        location: Local path or fsspec URL.
        storage_options: Passed to fsspec for a URL.
    """

    def __init__(self, location: str, storage_options: Mapping[str, Any] | None = None) -> None:
        import pyarrow.parquet as pq

        self.location, self._options = location, dict(storage_options or {})
        if "://" in location:
            import fsspec

            with fsspec.open(location, **self._options) as file:
                schema, metadata = pq.read_schema(file), pq.read_metadata(file)
        else:
            schema, metadata = pq.read_schema(location), pq.read_metadata(location)
        self._length = int(metadata.num_rows)
        self.columns: list[str] = [name for name in schema.names if not name.startswith("__index_level_")]
        self.empty = self._length == 0

    def __len__(self) -> int:
        return self._length

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    @overload
    def __getitem__(self, names: str) -> pd.Series: ...

    @overload
    def __getitem__(self, names: list[str]) -> pd.DataFrame: ...

    def __getitem__(self, names: str | list[str]) -> pd.Series | pd.DataFrame:
        """Read a column, or several; raises KeyError for one that is not there."""
        import pandas as pd
        import pyarrow

        wanted = [names] if isinstance(names, str) else list(names)
        if missing := [name for name in wanted if name not in self.columns]:
            raise KeyError(f"{self.location} has no column {missing[0]!r}")
        options = self._options if "://" in self.location else None
        table = pd.read_parquet(self.location, columns=wanted, storage_options=options)[wanted]
        pyarrow.default_memory_pool().release_unused()
        return table[names] if isinstance(names, str) else table
