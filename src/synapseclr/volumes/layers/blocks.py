"""Decoded storage blocks of a layer, kept while neighbouring synapses need them."""

from __future__ import annotations

import logging
import random
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.errors import VolumeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synapseclr.volumes.layers.layer import OpenLayer

logger = logging.getLogger(__name__)

BlockIndex = tuple[int, int, int]
FIRST_PAUSE_S = 0.5
_MAX_COMING = 64
_EVERY_BYTE = np.arange(256, dtype=np.uint8)


@dataclass(frozen=True)
class Block:
    """A decoded block.

    Attributes:
        lower_vx: Its first voxel (x, y, z).
        size_vx: Its extent, smaller than others' at the volume's end.
        array_xyz: Intensities, or, for layers of ids, positions in ``ids``; None if all voxels are the same.
        ids: Distinct ids; of voxels of one byte, intensities or ids, all 256; the one value of a block whose voxels
            are all the same.
    """

    lower_vx: tuple[int, int, int]
    size_vx: tuple[int, int, int]
    array_xyz: NDArray[Any] | None
    ids: NDArray[Any]

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return self.ids.nbytes + (0 if self.array_xyz is None else self.array_xyz.nbytes)


class BlockCache:
    """Reads a layer block by block and keeps the blocks used last.

    Args:
        layer: The layer; of one that is resampled the blocks are those of its stored scale.
        capacity_mb: Memory for decoded blocks; at least the blocks of one chunk are kept in any case by who uses them.
        attempts: How often a block is tried before its error counts. Missing blocks and refused access are not retried.
        executor: Fetches requested blocks in the background; without one they are fetched when they are needed.

    Attributes:
        n_decoded: Blocks decoded so far, counting repetitions.
    """

    def __init__(self, layer: OpenLayer, capacity_mb: int, attempts: int = 4, executor: Executor | None = None) -> None:
        self.layer = layer
        self.stored = layer.stored
        self.n_decoded = 0
        self._capacity = capacity_mb * 2**20
        self._attempts = attempts
        self._executor = executor
        self._blocks: OrderedDict[BlockIndex, Block | VolumeError] = OrderedDict()
        self._nbytes = 0
        self._coming: dict[BlockIndex, Future[Block]] = {}
        self._size_vx = self.stored.block_size_vx

    def indices(self, lower_vx: NDArray[np.int64], size_vx: NDArray[np.int64]) -> list[BlockIndex]:
        """Blocks that a box of the stored scale touches; none where it is outside of the volume."""
        start = np.maximum(lower_vx, self.stored.lower_vx) - self.stored.lower_vx
        stop = np.minimum(lower_vx + size_vx, self.stored.upper_vx) - self.stored.lower_vx
        if (stop <= start).any():
            return []
        first, last = start // self._size_vx, (stop - 1) // self._size_vx
        x, y, z = (range(int(a), int(b) + 1) for a, b in zip(first, last, strict=True))
        return list(product(x, y, z))

    @property
    def fetches_ahead(self) -> bool:
        """Tell whether requested blocks are fetched in the background."""
        return self._executor is not None

    def request(self, indices: Iterable[BlockIndex]) -> None:
        """Begin to fetch blocks in the background, where there is one; a bounded number waits there to be used."""
        if self._executor is None:
            return
        for index in indices:
            if len(self._coming) < _MAX_COMING and index not in self._blocks and index not in self._coming:
                self._coming[index] = self._executor.submit(self._fetch, index)

    def blocks(self, indices: list[BlockIndex]) -> Iterator[Block]:
        """Yield blocks, decoding those that are not held.

        Raises:
            VolumeError: If one cannot be read, each time that it is asked for.
        """
        self.request(indices)
        for index in indices:
            block = self._blocks.get(index)
            if block is None:
                block = self._take(index)
                self._keep(index, block)
            else:
                self._blocks.move_to_end(index)
            if isinstance(block, VolumeError):
                raise block
            yield block

    def _take(self, index: BlockIndex) -> Block | VolumeError:
        self.n_decoded += 1
        coming = self._coming.pop(index, None)
        try:
            return self._fetch(index) if coming is None else coming.result()
        except VolumeError as error:
            return error

    def _keep(self, index: BlockIndex, block: Block | VolumeError) -> None:
        self._blocks[index] = block
        self._nbytes += _size(block)
        while self._nbytes > self._capacity and len(self._blocks) > 1:
            self._nbytes -= _size(self._blocks.popitem(last=False)[1])

    def _fetch(self, index: BlockIndex) -> Block:
        lower = self.stored.lower_vx + np.asarray(index, np.int64) * self._size_vx
        upper = np.minimum(lower + self._size_vx, self.stored.upper_vx)
        for attempt in range(1, self._attempts + 1):
            try:
                return _compact(self.stored.download(lower, upper), lower)
            except VolumeError as error:
                if attempt == self._attempts or self.stored.is_permanent(error):
                    raise
                pause_s = FIRST_PAUSE_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)
                logger.warning("%s Attempt %d of %d; the next in %.1f s.", error, attempt, self._attempts, pause_s)
                time.sleep(pause_s)
        raise AssertionError("unreachable")


def _size(block: Block | VolumeError) -> int:
    return 0 if isinstance(block, VolumeError) else block.nbytes


def _compact(array_xyz: NDArray[Any], lower_vx: NDArray[np.int64]) -> Block:
    """Number the ids of a block, which takes 1 or 2 bytes a voxel instead of 8; intensities stay as they are."""
    import fastremap

    x, y, z = map(int, lower_vx)
    size = array_xyz.shape[0], array_xyz.shape[1], array_xyz.shape[2]
    corner = array_xyz[0, 0, 0]
    if corner == array_xyz[-1, -1, -1] and (array_xyz == corner).all():
        return Block((x, y, z), size, None, np.array([corner], array_xyz.dtype))
    if array_xyz.dtype == np.uint8:
        return Block((x, y, z), size, _in_c_order(array_xyz), _EVERY_BYTE)  # a byte is its own number
    numbers_xyz, new_of_old = fastremap.renumber(array_xyz, start=0, preserve_zero=False)
    ids = np.empty(len(new_of_old), array_xyz.dtype)
    for old, new in new_of_old.items():
        ids[int(new)] = old
    return Block((x, y, z), size, _in_c_order(numbers_xyz), ids)


def _in_c_order(array_xyz: NDArray[Any]) -> NDArray[Any]:
    from synapseclr.volumes.voxel_loops import copy_in_c_order

    copy_xyz = np.empty(array_xyz.shape, array_xyz.dtype)
    copy_in_c_order(array_xyz, copy_xyz)
    return copy_xyz
