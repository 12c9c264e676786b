"""Pieces of a store's shards: from files, or from a bucket through a bounded cache on this machine."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synapseclr.errors import UnreachableError, VolumeError
from synapseclr.volumes.storage_errors import is_unreachable, reaching, unreachable
from synapseclr.volumes.store.chunk_layout import shard_key

if TYPE_CHECKING:
    from synapseclr.volumes.objects import ObjectFolder
    from synapseclr.volumes.store.local_cache import LocalCache

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
                with reaching(self._folder.address(shard_key(shard))):
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
