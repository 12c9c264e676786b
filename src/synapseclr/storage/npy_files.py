"""Arrays in ``.npy`` files that somebody else has made, alone or in a folder, local or remote.

The header is compared with the file before memory is taken.
"""

from __future__ import annotations

import io
import math
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from synapseclr.errors import VolumeError
from synapseclr.storage.addresses import open_filesystem
from synapseclr.storage.object_folder import object_version

_MAGIC = b"\x93NUMPY"


class NpyError(ValueError):
    """Bytes are no ``.npy`` file that can be read; the message says why, without the file's name."""


def parse_npy(content: bytes) -> NDArray[Any]:
    """Read the content of a ``.npy`` file.

    Source: NumPy, Enhancement Proposal 1, A simple file format for NumPy arrays.

    Args:
        content: All bytes of the file.

    Raises:
        NpyError: If they are of another kind, such as an ``.npz`` archive or pickled objects, the header cannot be
            read, or the file is not exactly as long as the header says.
    """
    if content[:2] == b"PK":
        raise NpyError("an .npz archive of several arrays, expected one array as np.save writes it")
    if content[:6] != _MAGIC:
        raise NpyError("no .npy file")
    stream = io.BytesIO(content)
    try:
        shape, _, dtype = _read_header(stream)
    except NpyError:
        raise
    except Exception as error:  # a parser's: ValueError, SyntaxError, RecursionError, TokenError, MemoryError, ...
        raise NpyError(f"its header is damaged ({type(error).__name__})") from error
    if dtype.hasobject:
        raise NpyError("it holds pickled objects, which are refused")
    if any(isinstance(n, bool) or n < 0 for n in shape):
        raise NpyError(f"its header gives the shape {shape}")
    declared, present = math.prod(shape) * dtype.itemsize, len(content) - stream.tell()
    if declared != present:
        kind = "truncated" if declared > present else "too long"
        raise NpyError(f"it is {kind}: {dtype} {shape} takes {declared} bytes, and {present} are there")
    stream.seek(0)
    array: NDArray[Any] = np.load(stream, allow_pickle=False)
    return array


def _read_header(stream: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy_format.read_magic(stream)
    if version == (1, 0):
        return npy_format.read_array_header_1_0(stream)
    if version in ((2, 0), (3, 0)):  # they differ in the encoding of field names only, which images do not have
        return npy_format.read_array_header_2_0(stream)
    raise NpyError(f"it has the format version {version[0]}.{version[1]}, expected 1.0 to 3.0")


class UnusableFileError(Exception):
    """A file is missing or holds something else than it should; the message names it."""


class NpyFolder:
    """A folder of arrays.

    Args:
        url: Local path or fsspec URL.
        storage_options: Passed to fsspec, such as ``{"token": "anon"}`` for a public bucket.
    """

    def __init__(self, url: str, storage_options: Mapping[str, Any] | None = None) -> None:
        self.url = url.rstrip("/")
        try:
            self._filesystem, self._path = open_filesystem(self.url, storage_options)
        except (ValueError, ImportError) as error:
            raise VolumeError(f"{url} is no path or URL that can be read here ({error}).") from error

    @cached_property
    def files(self) -> dict[str, Mapping[str, Any]]:
        """Information of the file system on every file, by its name.

        Raises:
            VolumeError: If there is no such folder, or it may not be listed.
        """
        try:
            found = self._filesystem.ls(self._path, detail=True)
        except FileNotFoundError as error:
            raise VolumeError(f"There is no folder {self.url}. Check the path in the catalog.") from error
        except Exception as error:  # what a refused or broken connection raises differs between file systems
            raise VolumeError(
                f"The folder {self.url} cannot be listed ({type(error).__name__}: {error}). Check the path and your "
                "access to it."
            ) from error
        return {str(info["name"]).rstrip("/").rpartition("/")[2]: info for info in found}

    @property
    def names(self) -> Collection[str]:
        """Names of all files; raises as :attr:`files` does."""
        return self.files.keys()

    def version_of(self, name: str) -> str:
        """Size of a file and when it was written, or what else its store tells versions by; empty if there is none."""
        return "" if name not in self.files else object_version(self.files[name])

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

    def array(self, name: str, most_bytes: int | None = None) -> NDArray[Any]:
        """Content of a ``.npy`` file; pickled objects are refused. Raises as :meth:`bytes_of` does.

        Args:
            name: Of the file.
            most_bytes: A larger file is refused without being read, where the file system told its size.
        """
        size = self.files.get(name, {}).get("size") if most_bytes is not None and "files" in self.__dict__ else None
        if most_bytes is not None and size is not None and size > most_bytes:
            raise UnusableFileError(f"{self.url}/{name} has {size} bytes; at most {most_bytes} were expected")
        content = self.bytes_of(name)
        try:
            return parse_npy(content)
        except NpyError as error:
            raise UnusableFileError(
                f"{self.url}/{name} ({len(content)} bytes) is no .npy file that can be read: {error}"
            ) from error
