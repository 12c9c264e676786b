"""Chunks on their way into a store: batches, and sources that make them shard by shard."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from synapseclr.volumes.store.chunk_layout import ShardLayout

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from synapseclr.volumes.store.shard_record import ShardRecord


@dataclass(frozen=True)
class ChunkBatch:
    """Consecutive synapses on their way into the store.

    Attributes:
        chunk_ncxyz: uint8 (n, 2, x, y, z).
        records: Per-synapse columns of length n: ``synapse_id, cleft_id, n_cutout_sections, n_padded_voxels``.
        rejected: Reason by synapse id, for synapses that belong to this batch but have no chunk.
        failed: Those of ``rejected`` whose data could not be read: a later run tries them again.
    """

    chunk_ncxyz: NDArray[np.uint8]
    records: dict[str, NDArray[Any]]
    rejected: dict[int, str] = field(default_factory=dict)
    failed: tuple[int, ...] = ()


class ShardSource:
    """Chunks that can be made shard by shard, in any order: an interrupted store of them is continued.

    Subclasses set the attributes and implement :meth:`cut`; those that work in parallel override :meth:`write` too.

    Attributes:
        n_shards: Number of shards.
        n_synapses: Number of synapses, with those that turn out to be rejected.
        fingerprint: Digest of all that determines the chunks. A store with another one is begun anew.
    """

    n_shards: int
    n_synapses: int
    fingerprint: str

    def cut(self, shard: int) -> ChunkBatch:
        """Make the chunks of one shard, at most ``synapses_per_shard``."""
        raise NotImplementedError

    def write(self, shards: Sequence[int], write: Callable[[int, ChunkBatch], ShardRecord]) -> Iterator[ShardRecord]:
        """Make and write shards, yielding the record of each as soon as it is stored."""
        for shard in shards:
            yield write(shard, self.cut(shard))

    def check(self, rejected: dict[int, str], failed: Collection[int] = ()) -> None:
        """Raise if more synapses were rejected than are allowed; called as rejections come, and at the end.

        Args:
            rejected: Reason by synapse id.
            failed: Those of ``rejected`` whose data could not be read.
        """


@dataclass(frozen=True)
class ChunkStream:
    """All chunks of a run, produced while they are stored.

    Attributes:
        batches: Batches in store order, each but the last filling whole shards; or a :class:`ShardSource`, of which an
            interrupted store is continued.
        chunk_size_vx: (x, y, z) of a chunk.
        voxel_size_nm: (x, y, z) of a voxel.
        synapses_per_shard: Synapses in one shard.
    """

    batches: Iterable[ChunkBatch] | ShardSource
    chunk_size_vx: tuple[int, int, int]
    voxel_size_nm: tuple[float, float, float]
    synapses_per_shard: int = 32

    def __iter__(self) -> Iterator[ChunkBatch]:
        source = self.batches
        return map(source.cut, range(source.n_shards)) if isinstance(source, ShardSource) else iter(source)

    @property
    def layout(self) -> ShardLayout:
        """Shape and codecs of the shards."""
        return ShardLayout(self.chunk_size_vx, self.synapses_per_shard)
