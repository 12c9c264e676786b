"""Files that somebody else has made: what they declare is compared with what lies there before memory is taken.

A description of 400 bytes can claim an array of terabytes: Zarr fills what is missing, a tensor may repeat one number.
Arrays in ``.npy`` files, alone or in a folder, are read whole after their header was compared with the file.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from synapseclr.errors import VolumeError
from synapseclr.storage.addresses import open_filesystem
from synapseclr.storage.object_folder import object_version

if TYPE_CHECKING:
    from anndata import AnnData

UNCHECKED_BYTES = 2**28
"""An array up to this size is read whatever its file says: 256 MiB."""
MOST_EXPANSION = 4096
"""Largest ratio of declared to stored bytes for a larger array; zstd of a constant is denser, data are not."""

_TABLE_OF = {
    "obs": "obs",
    "obsm": "obs",
    "obsp": "obs",
    "X": "obs",
    "layers": "obs",
    "var": "var",
    "varm": "var",
    "varp": "var",
}
_NPY_MAGIC = b"\x93NUMPY"


def parse_json(text: str | bytes) -> Any:
    """Read JSON that somebody else may have written.

    Raises:
        json.JSONDecodeError: If it is none, or is nested so deeply that the parser gives up.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise json.JSONDecodeError("nested too deeply", "", 0) from error


def check_zarr_array(array: Any, address: str) -> None:
    """Refuse a Zarr array that declares far more than is stored.

    Args:
        array: Opened, of any dimensions; nothing of it is read.
        address: Where it lies, for the message.

    Raises:
        VolumeError: With both sizes.
    """
    declared = math.prod(array.shape) * max(array.dtype.itemsize, 1)
    if declared <= UNCHECKED_BYTES:
        return
    stored = array.nbytes_stored()
    if declared > MOST_EXPANSION * stored:
        raise VolumeError(
            f"{address} declares {array.dtype} {tuple(array.shape)}, {_size(declared)}, but {_size(stored)} are there: "
            "its description is damaged, or its data are missing. Copy or write it anew."
        )


def read_anndata(path: str, address: str) -> AnnData:
    """Read an annotated matrix from Zarr, if its arrays have the sizes that its index says and its files can hold.

    Args:
        path: Local path of the Zarr group.
        address: Where it comes from, for messages.

    Raises:
        VolumeError: As :func:`check_anndata` says.
    """
    import anndata
    import zarr

    try:
        check_anndata(zarr.open_group(path, mode="r"), address)
    except RecursionError as error:
        raise VolumeError(f"{address} cannot be read: a description in it is nested too deeply.") from error
    return anndata.read_zarr(path)


def check_anndata(group: Any, address: str) -> None:
    """Compare the sizes that an annotated matrix declares with each other and with its files; no data are read.

    Args:
        group: Of Zarr, opened.
        address: Where it comes from, for messages.

    Raises:
        VolumeError: If an array has other rows than the table of observations (or of variables), or declares far more
            than is stored; names the array.
    """
    try:
        arrays = dict(_arrays(group))
        rows = {name: _index_length(group, name) for name in ("obs", "var") if name in group}
    except RecursionError as error:
        raise VolumeError(f"{address} cannot be read: a description in it is nested too deeply.") from error
    indices = {f"{table}/{group[table].attrs['_index']}" for table in rows}
    for name, array in arrays.items():
        if name in indices or not name.startswith(("obs/", "var/")):
            check_zarr_array(array, f"{address}/{name}")
        _check_rows(name, array, rows, address)  # all that columns need: constant ones are stored in next to nothing


def check_zip_content(content: bytes, address: str) -> None:
    """Refuse a zip archive whose files would take more memory than the archive itself, as PyTorch's never do.

    Args:
        content: Of the archive; anything else is let through.
        address: Where it lies, for the message.

    Raises:
        VolumeError: With both sizes.
    """
    if content[:2] != b"PK":
        return
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            declared = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return  # the reader says what is wrong with it
    if declared > len(content):
        raise VolumeError(f"{address} has {_size(len(content))} and declares contents of {_size(declared)}.")


def _arrays(group: Any) -> list[tuple[str, Any]]:
    return [(name, member) for name, member in group.members(max_depth=None) if hasattr(member, "dtype")]


def _index_length(group: Any, table: str) -> int:
    """Rows of a table, each of which has a name that is stored."""
    return int(group[table][str(group[table].attrs["_index"])].shape[0])


def _check_rows(name: str, array: Any, rows: dict[str, int], address: str) -> None:
    parts = name.split("/")
    table = _TABLE_OF.get(parts[0], "")
    if table not in rows or not array.shape:
        return
    if parts[0] in ("obs", "var") and len(parts) > 2:  # of a column: codes and categories, values and mask
        is_wrong = array.shape[0] > rows[table]
    else:
        is_sparse = len(parts) > (1 if parts[0] == "X" else 2)
        is_wrong = not is_sparse and array.shape[0] != rows[table]
    if is_wrong:
        raise VolumeError(
            f"{address}/{name} has {array.shape[0]} rows, but the table {table} has {rows[table]}. Write it anew."
        )


def _size(n_bytes: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"


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
    if content[:6] != _NPY_MAGIC:
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
