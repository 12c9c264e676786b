"""Reading chunks out of a sharded Zarr array, by tensorstore where that is possible."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synapseclr.errors import VolumeError

ChunkReader = Callable[[NDArray[np.int64]], NDArray[np.uint8]]
"""Takes positions (k,) in [0, n) and returns the chunks there, uint8 (k, 2, x, y, z)."""

_parent_had_tensorstore = False


def zarr_reader(array: Any) -> ChunkReader:
    """Read through zarr-python: from anywhere that fsspec reaches.

    Args:
        array: Zarr array, uint8 (n, 2, x, y, z).

    Returns:
        The reader.
    """

    def read(positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        if _is_range(positions):
            return np.asarray(array[int(positions[0]) : int(positions[-1]) + 1])
        return np.stack([np.asarray(array[int(position)]) for position in positions])

    return read


def tensorstore_reader(path: str) -> ChunkReader:
    """Read through tensorstore, which needs less processor time than zarr-python (benchmarks/chunk_reading.py).

    Args:
        path: Local folder of a Zarr v3 array, uint8 (n, 2, x, y, z).

    Returns:
        The reader.

    Raises:
        VolumeError: By the function, if a chunk cannot be decoded.
    """
    import tensorstore

    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": os.path.join(os.path.abspath(path), "")}}
    array = tensorstore.open(spec, open=True, read=True).result()

    def read(positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        chunk_ncxyz = np.empty((len(positions), *array.shape[1:]), np.uint8)
        target = tensorstore.array(chunk_ncxyz)  # writes to it land in chunk_ncxyz
        try:
            # One after the other: the buffers of one chunk serve the next, in 0.6 times the time for large chunks.
            for place, position in enumerate(positions):
                target[place].write(array[int(position)]).result()
        except ValueError as error:
            raise VolumeError(str(error).partition(" [")[0]) from error
        return chunk_ncxyz

    return read


def tensorstore_may_be_used() -> bool:
    """Whether this process may use tensorstore: it ends a forked process whose parent had it."""
    return not _parent_had_tensorstore


def _is_range(positions: NDArray[np.int64]) -> bool:
    return bool(np.all(np.diff(positions) == 1))


def _note_fork() -> None:
    global _parent_had_tensorstore
    _parent_had_tensorstore = "tensorstore" in sys.modules


os.register_at_fork(after_in_child=_note_fork)
