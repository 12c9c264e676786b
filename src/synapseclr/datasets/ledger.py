"""A small JSON object that runs keep about themselves, such as the seconds of the pipelines."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import fsspec
from kedro.io import AbstractDataset

from synapseclr.storage.bookkeeping import parse_json_object, read_json_object, update_json

logger = logging.getLogger(__name__)


class LedgerDataset(AbstractDataset[dict[str, Any], dict[str, Any]]):
    """Saves entries into a JSON object, beside those that are there; loads all of them.

    Several runs may save at once: on a local disk the file is locked while it is changed, and replaced as a whole. A
    missing or damaged file loads as an empty object, and one that cannot be written costs a warning: bookkeeping never
    ends a run.

    Args:
        filepath: Local path or fsspec URL.
        credentials: Passed to fsspec.
    """

    def __init__(
        self, *, filepath: str, credentials: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        self._filepath = filepath
        self._filesystem, self._path = fsspec.core.url_to_fs(filepath, **(credentials or {}))
        self._has_warned = False
        self.metadata = metadata

    @property
    def local_path(self) -> Path | None:
        """Path of the file on this machine; None if it is remote."""
        return Path(self._path) if "file" in self._filesystem.protocol else None

    def load(self) -> dict[str, Any]:
        """Return all entries."""
        try:
            if self.local_path is not None:
                return read_json_object(self.local_path)
            return parse_json_object(self._filesystem.cat_file(self._path), self._filepath)
        except FileNotFoundError:
            return {}
        except Exception as error:  # a bucket's client raises what it likes
            self._warn("read", error)
            return {}

    def save(self, data: dict[str, Any]) -> None:
        """Add entries, or replace those of the same name."""
        try:
            if self.local_path is not None:
                update_json(self.local_path, data)
            else:
                self._filesystem.pipe_file(self._path, json.dumps({**self.load(), **data}).encode())
        except Exception as error:
            self._warn("written", error)

    def _warn(self, what: str, error: Exception) -> None:
        if not self._has_warned:
            self._has_warned = True
            logger.warning("%s could not be %s: %s. The run goes on without it.", self._filepath, what, error)

    def _exists(self) -> bool:
        try:
            return bool(self._filesystem.exists(self._path))
        except Exception:
            return False

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
