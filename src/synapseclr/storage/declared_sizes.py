"""Sizes that a file declares, compared with what lies there and what is expected, before memory is taken.

A description of 400 bytes can claim an array of terabytes: Zarr fills what is missing, a tensor may repeat one number.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from typing import TYPE_CHECKING, Any

from synapseclr.errors import VolumeError

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
        VolumeError: If an array has other rows than the table of observations (or of variables), or declares far more
            than is stored; names the array.
    """
    import anndata
    import zarr

    try:
        group: Any = zarr.open_group(path, mode="r")
        arrays = dict(_arrays(group))
        rows = {name: _index_length(group, name) for name in ("obs", "var") if name in group}
    except RecursionError as error:
        raise VolumeError(f"{address} cannot be read: a description in it is nested too deeply.") from error
    indices = {f"{table}/{group[table].attrs['_index']}" for table in rows}
    for name, array in arrays.items():
        if name in indices or not name.startswith(("obs/", "var/")):
            check_zarr_array(array, f"{address}/{name}")
        _check_rows(name, array, rows, address)  # all that columns need: constant ones are stored in next to nothing
    return anndata.read_zarr(path)


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
