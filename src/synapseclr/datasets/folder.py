"""A folder that a node manages itself, such as that of the training checkpoints."""

from __future__ import annotations

from typing import Any, NoReturn

import fsspec
from kedro.io import AbstractDataset, DatasetError


class FolderDataset(AbstractDataset[None, str]):
    """Loads as the folder's path or URL; the folder is made when it is missing.

    Args:
        filepath: Local path or fsspec URL.
        credentials: Passed to fsspec.
    """

    def __init__(
        self, *, filepath: str, credentials: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        self._filepath = filepath
        self._filesystem, self._path = fsspec.core.url_to_fs(filepath, **(credentials or {}))
        self.metadata = metadata

    def load(self) -> str:
        """Return the path or URL."""
        self._filesystem.makedirs(self._path, exist_ok=True)
        return self._filepath

    def save(self, data: None) -> NoReturn:
        """Not possible: nodes write into the folder themselves."""
        raise DatasetError(f"{self._filepath} is a folder that nodes write into; it cannot be saved as a dataset.")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
