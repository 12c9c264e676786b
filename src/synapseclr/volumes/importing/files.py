"""Folders of ``.npy`` files, local or remote."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synapseclr.errors import VolumeError


class UnusableFileError(Exception):
    """A file is missing or holds something else than it should; the message names it."""


class NpyFolder:
    """A folder of arrays.

    Args:
        url: Local path or fsspec URL.
        storage_options: Passed to fsspec, such as ``{"token": "anon"}`` for a public bucket.
    """

    def __init__(self, url: str, storage_options: Mapping[str, Any] | None = None) -> None:
        import fsspec

        self.url = url.rstrip("/")
        try:
            self._filesystem, self._path = fsspec.core.url_to_fs(self.url, **(storage_options or {}))
        except (ValueError, ImportError) as error:
            raise VolumeError(f"{url} is no path or URL that can be read here ({error}).") from error

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of all files.

        Raises:
            VolumeError: If there is no such folder, or it may not be listed.
        """
        try:
            found = self._filesystem.ls(self._path, detail=False)
        except FileNotFoundError as error:
            raise VolumeError(f"There is no folder {self.url}. Check the path in the catalog.") from error
        except Exception as error:  # what a refused or broken connection raises differs between file systems
            raise VolumeError(
                f"The folder {self.url} cannot be listed ({type(error).__name__}: {error}). Check the path and your "
                "access to it."
            ) from error
        return frozenset(str(path).rstrip("/").rpartition("/")[2] for path in found)

    def bytes_of(self, name: str) -> bytes:
        """Content of a file.

        Raises:
            UnusableFileError: If it is missing.
            VolumeError: If it cannot be reached; this concerns the connection or the access, not this file alone.
        """
        try:
            content: bytes = self._filesystem.cat_file(f"{self._path}/{name}")
        except FileNotFoundError as error:
            raise UnusableFileError(f"the file {self.url}/{name} does not exist") from error
        except Exception as error:
            raise VolumeError(
                f"{self.url}/{name} cannot be read ({type(error).__name__}: {error}). Check your access to it, and run "
                "the same command again."
            ) from error
        return content

    def array(self, name: str) -> NDArray[Any]:
        """Content of a ``.npy`` file; pickled objects are refused. Raises as :meth:`bytes_of` does."""
        content = self.bytes_of(name)
        try:
            array: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise UnusableFileError(
                f"{self.url}/{name} ({len(content)} bytes) is no readable .npy file: truncated, damaged or of another "
                f"kind ({error})"
            ) from error
        return array
