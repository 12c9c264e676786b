"""Chunks from outside of the chunk store, to search for synapses like them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from synapseclr.errors import VolumeError
from synapseclr.storage.addresses import open_filesystem, plain_address
from synapseclr.storage.foreign_files import check_zarr_array, parse_npy
from synapseclr.volumes.store.shards import CHANNELS, MASK_CODES

MOST_CHUNKS = 24


@dataclass(frozen=True)
class QueryChunks:
    """Chunks to search with.

    Attributes:
        names: The file's name, with ``#1``, ``#2``, ... where it holds several.
        chunk_qcxyz: uint8 (q, 2, x, y, z): intensity, mask codes; q is 0 where nothing is asked for.
    """

    names: tuple[str, ...] = ()
    chunk_qcxyz: np.ndarray = field(default_factory=lambda: np.empty((0, len(CHANNELS), 0, 0, 0), np.uint8))

    def __len__(self) -> int:
        return len(self.names)

    def check_size(self, chunk_size_vx: tuple[int, int, int]) -> None:
        """Refuse chunks of another size than those that were embedded; raises :class:`VolumeError`."""
        found = self.chunk_qcxyz.shape[2:]
        if len(self) and tuple(found) != tuple(chunk_size_vx):
            raise VolumeError(
                f"The query {self.names[0]} has {' x '.join(map(str, found))} voxels, but the embedded chunks have "
                f"{' x '.join(map(str, chunk_size_vx))}. Cut it at that size and at the same voxel size."
            )


def read_query_chunks(url: str, storage_options: dict[str, Any] | None = None) -> QueryChunks:
    """Read chunks from a file.

    Args:
        url: Local path or fsspec URL of a ``.npy`` file or a Zarr array (also the ``chunks`` of a chunk store): uint8
            ``(2, x, y, z)``, or ``(q, 2, x, y, z)`` with at most 24 chunks. Channels are intensity and mask codes
            0 background, 1 presynaptic, 2 cleft, 3 postsynaptic.
        storage_options: Passed to fsspec.

    Returns:
        The chunks.

    Raises:
        VolumeError: If the file cannot be read or holds something else; says what it holds and what was expected.
    """
    array = _read_npy(url, storage_options) if url.endswith(".npy") else _open_zarr(url, storage_options)
    shape, expected = array.shape, "uint8 (2, x, y, z) or (q, 2, x, y, z): intensity and mask codes"
    if array.dtype != np.uint8 or len(shape) not in (4, 5) or shape[-4] != len(CHANNELS) or not np.prod(shape):
        raise VolumeError(f"The query {url} holds {array.dtype} {tuple(shape)}, expected {expected}.")
    if len(shape) == 5 and shape[0] > MOST_CHUNKS:
        raise VolumeError(
            f"The query {url} holds {shape[0]} chunks, expected at most {MOST_CHUNKS}. Give a part of it."
        )
    if not isinstance(array, np.ndarray):
        check_zarr_array(array, f"The query {url}")
    chunk_qcxyz = np.asarray(array[...])
    chunk_qcxyz = chunk_qcxyz[None] if len(shape) == 4 else chunk_qcxyz
    codes = np.unique(chunk_qcxyz[:, 1])
    if codes.max() >= len(MASK_CODES) or not (codes == MASK_CODES["synaptic_cleft"]).any():
        raise VolumeError(
            f"The query {url} has the mask codes {codes[:8].tolist()}, expected 0 background, 1 presynaptic, 2 cleft "
            "and 3 postsynaptic, with a cleft among them."
        )
    name = PurePosixPath(url.rstrip("/")).name.replace("+", "_")
    names = (name,) if len(chunk_qcxyz) == 1 else tuple(f"{name}#{row + 1}" for row in range(len(chunk_qcxyz)))
    return QueryChunks(names, chunk_qcxyz)


def _read_npy(url: str, storage_options: dict[str, Any] | None) -> np.ndarray:
    try:
        filesystem, path = open_filesystem(url, storage_options)
        return parse_npy(filesystem.cat_file(path))
    except FileNotFoundError as error:
        raise VolumeError(f"There is no query {url}. Give synapse ids, or the path of a .npy file.") from error
    except (OSError, ValueError) as error:
        raise VolumeError(f"The query {url} cannot be read as an array ({error}).") from error


def _open_zarr(url: str, storage_options: dict[str, Any] | None) -> Any:
    import zarr

    try:
        return zarr.open_array(plain_address(url), mode="r", storage_options=storage_options)
    except (FileNotFoundError, ValueError, KeyError, OSError, TypeError, RecursionError) as error:
        raise VolumeError(
            f"The query {url} is neither synapse ids (12 or 12+34), nor a .npy file, nor a Zarr array that can be read."
        ) from error
