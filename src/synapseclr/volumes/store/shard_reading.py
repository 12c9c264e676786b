"""Reading single chunks out of the shards of a store, by their place in the shard's index.

zarr-python and tensorstore read the same shards. They cost two to three times the processor time of a chunk
(benchmarks/chunk_reading.py), as they decode into memory of their own and copy from there; here a chunk is decoded to
where it is wanted. Arrays with other codecs than a chunk store's are left to zarr-python.

Source: Zarr v3, sharding codec, https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from synapseclr.errors import UnreachableError, VolumeError
from synapseclr.storage.addresses import explained, is_unreachable, unreachable
from synapseclr.volumes.store.shards import shard_key

if TYPE_CHECKING:
    from synapseclr.storage.object_folder import LocalCache, ObjectFolder


Piece = tuple[int, int, int]
"""Shard, first byte, number of bytes."""


class ShardObjects(ABC):
    """The objects that hold shards."""

    @abstractmethod
    def tail(self, shard: int, nbytes: int) -> bytes | None:
        """The last bytes of a shard; None if there is no such object."""

    @abstractmethod
    def read(self, pieces: Sequence[Piece]) -> Iterator[bytes | memoryview]:
        """Yield pieces in the order asked for; each is valid until the next one is taken."""


class LocalShards(ShardObjects):
    """Shards in files.

    Args:
        folder: The store.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._own = threading.local()  # a buffer for each thread that reads

    def tail(self, shard: int, nbytes: int) -> bytes | None:
        """The last bytes of a shard; None if there is no such file."""
        try:
            with (self._folder / shard_key(shard)).open("rb") as file:
                file.seek(max(os.fstat(file.fileno()).st_size - nbytes, 0))
                return file.read()
        except FileNotFoundError:
            return None

    def read(self, pieces: Sequence[Piece]) -> Iterator[memoryview]:
        """Yield pieces; those that a thread reads share one buffer."""
        for shard, offset, nbytes in pieces:
            buffer = getattr(self._own, "buffer", b"")
            if len(buffer) < nbytes:
                buffer = self._own.buffer = bytearray(nbytes + nbytes // 4)
            target = memoryview(buffer)[:nbytes]
            with (self._folder / shard_key(shard)).open("rb", buffering=0) as file:
                file.seek(offset)
                n_read = 0
                while n_read < nbytes and (n := file.readinto(target[n_read:])):
                    n_read += n
            yield target[:n_read]


class RemoteShards(ShardObjects):
    """Shards in a bucket; several pieces are fetched at once.

    Args:
        folder: The store.
        cache: Keeps what was fetched, on this machine.
        version: Tells this store from another one at the same place, in the cache.
        check: Raises if another store has taken this one's place.
    """

    def __init__(
        self, folder: ObjectFolder, cache: LocalCache | None, version: str, check: Callable[[], None] = lambda: None
    ) -> None:
        self._check = check
        self._folder = folder
        self._filesystem, self._root = folder.filesystem
        self._cache = cache
        self._version = version

    def tail(self, shard: int, nbytes: int) -> bytes | None:
        """The last bytes of a shard; None if there is no such object."""
        key = self._cache_key(shard, -nbytes, nbytes)
        data = self._cache.get(key) if self._cache else None
        if data is None or len(data) != nbytes:  # not kept, or cut short by a power cut
            try:
                with explained(self._folder.address(shard_key(shard))):
                    data = bytes(self._filesystem.cat_file(f"{self._root}/{shard_key(shard)}", start=-nbytes))
            except FileNotFoundError:
                self._check()
                return None
            self._check()
            if self._cache:
                self._cache.put(key, data)
        return data

    def read(self, pieces: Sequence[Piece]) -> Iterator[bytes]:
        """Fetch what the cache lacks, then yield all pieces."""
        kept = {piece: self._cache.get(self._cache_key(*piece)) if self._cache else None for piece in pieces}
        missing = [piece for piece, data in kept.items() if data is None or len(data) != piece[2]]
        fetched = self._fetch(missing) if missing else []
        for piece, data in zip(missing, fetched, strict=True):
            if isinstance(data, BaseException):
                raise self._failure(piece[0], data) from data
            kept[piece] = data
            if self._cache and len(data) == piece[2]:
                self._cache.put(self._cache_key(*piece), data)
        for piece in pieces:
            found = kept[piece]
            assert found is not None  # fetched above
            yield found

    def _fetch(self, pieces: list[Piece]) -> list[bytes | BaseException]:
        """Fetch pieces and look meanwhile if the store is the same: one is emptied long before it is replaced."""
        with ThreadPoolExecutor(1) as pool:
            looking = pool.submit(self._check)
            fetched: list[bytes | BaseException] = self._filesystem.cat_ranges(
                [f"{self._root}/{shard_key(shard)}" for shard, _, _ in pieces],
                [offset for _, offset, _ in pieces],
                [offset + nbytes for _, offset, nbytes in pieces],
                on_error="return",
            )
        looking.result()
        return fetched

    def _cache_key(self, *piece: int) -> str:
        return f"{self._folder.url} {self._version} {piece}"

    def _failure(self, shard: int, error: BaseException) -> Exception:
        address = self._folder.address(shard_key(shard))
        if is_unreachable(error):
            return UnreachableError(unreachable(address, error))
        return VolumeError(f"{address} cannot be read ({type(error).__name__}: {error})")


def open_shards(
    folder: ObjectFolder, version: str, cache: LocalCache | None = None, check: Callable[[], None] = lambda: None
) -> ShardObjects:
    """The shards of a store, wherever it is; arguments as of :class:`RemoteShards`."""
    is_remote: Any = folder.is_remote
    return RemoteShards(folder, cache, version, check) if is_remote else LocalShards(folder.url)


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
    """Tell whether a Zarr array's shards are those that a chunk store has, which are read without Zarr."""
    codecs = array.metadata.to_dict()["codecs"]
    sharding = codecs[0]["configuration"] if len(codecs) == 1 and codecs[0]["name"] == "sharding_indexed" else {}
    return (
        sharding.get("index_location") == "end"
        and [codec["name"] for codec in sharding["codecs"]] == ["bytes", "blosc", "crc32c"]
        and [codec["name"] for codec in sharding["index_codecs"]] == ["bytes", "crc32c"]
    )


def _is_range(positions: NDArray[np.int64]) -> bool:
    return bool(np.all(np.diff(positions) == 1))
