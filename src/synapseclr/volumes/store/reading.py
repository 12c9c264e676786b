"""Reading single chunks out of the shards of a store, by their place in the shard's index.

zarr-python and tensorstore read the same shards. They cost two to three times the processor time of a chunk
(benchmarks/chunk_reading.py), as they decode into memory of their own and copy from there; here a chunk is decoded to
where it is wanted. Arrays with other codecs than a chunk store's are left to zarr-python.

Source: Zarr v3, sharding codec, https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synapseclr.errors import VolumeError
from synapseclr.volumes.store.shard_objects import ShardObjects

ChunkReader = Callable[[NDArray[np.int64]], NDArray[np.uint8]]
"""Takes positions (k,) in [0, n) and returns the chunks there, uint8 (k, 2, x, y, z)."""

_MISSING = 2**64 - 1
_CHECKSUM_BYTES = 4
_INDICES_KEPT = 16384


def zarr_reader(array: Any) -> ChunkReader:
    """Read through zarr-python.

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


def shard_reader(array: Any, objects: ShardObjects) -> ChunkReader:
    """Read a chunk store's array.

    Args:
        array: The Zarr array, uint8 (n, 2, x, y, z), of which only the description is used.
        objects: Where its shards are.

    Returns:
        The reader. A chunk or shard that is not there reads as zeros.

    Raises:
        VolumeError: By the function, if a chunk is damaged.
    """
    from numcodecs import blosc

    if not has_our_codecs(array):
        return zarr_reader(array)
    shape, per_shard = tuple(array.shape[1:]), int(array.shards[0])
    chunk_nbytes = int(np.prod(shape))

    @lru_cache(_INDICES_KEPT)
    def index(shard: int) -> NDArray[np.uint64]:
        tail = objects.tail(shard, 16 * per_shard + _CHECKSUM_BYTES)
        if tail is None:
            return np.full((per_shard, 2), _MISSING, np.uint64)
        return np.frombuffer(_checked(tail, "the index of its shard"), "<u8").reshape(per_shard, 2)

    def read(positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        chunk_ncxyz = np.empty((len(positions), *shape), np.uint8)
        wanted = []
        for row, position in enumerate(map(int, positions)):
            offset, nbytes = map(int, index(position // per_shard)[position % per_shard])
            if offset == _MISSING:
                chunk_ncxyz[row] = 0
            else:
                wanted.append((row, (position // per_shard, offset, nbytes)))
        for (row, _), data in zip(wanted, objects.read([piece for _, piece in wanted]), strict=True):
            encoded = _checked(data, "its chunk")
            if int.from_bytes(encoded[4:8], "little") != chunk_nbytes:
                raise VolumeError(f"its chunk has another size than the {chunk_nbytes} bytes expected")
            blosc.decompress(encoded, chunk_ncxyz[row].reshape(-1))
        return chunk_ncxyz

    return read


def _checked(data: Any, what: str) -> memoryview:
    """Take the checksum off, after comparing."""
    import crc32c

    view = memoryview(data)
    content, checksum = view[:-_CHECKSUM_BYTES], view[-_CHECKSUM_BYTES:]
    if len(view) <= _CHECKSUM_BYTES or crc32c.crc32c(content) != int.from_bytes(checksum, "little"):
        raise VolumeError(f"the checksum of {what} is not that of its content")
    return content


def has_our_codecs(array: Any) -> bool:
    """Whether a Zarr array's shards are those that a chunk store has, which are read without Zarr."""
    codecs = array.metadata.to_dict()["codecs"]
    sharding = codecs[0]["configuration"] if len(codecs) == 1 and codecs[0]["name"] == "sharding_indexed" else {}
    return (
        sharding.get("index_location") == "end"
        and [codec["name"] for codec in sharding["codecs"]] == ["bytes", "blosc", "crc32c"]
        and [codec["name"] for codec in sharding["index_codecs"]] == ["bytes", "crc32c"]
    )


def _is_range(positions: NDArray[np.int64]) -> bool:
    return bool(np.all(np.diff(positions) == 1))
