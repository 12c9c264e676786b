"""Cut a chunk around every synapse: intensity and mask codes."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.errors import DecoderError, TableError, VolumeError
from synapseclr.volumes.cutting.plan import CuttingPlan, plan_cutting
from synapseclr.volumes.cutting.synapse_cutter import RejectedError, SynapseCutter
from synapseclr.volumes.layers.blocks import BlockCache
from synapseclr.volumes.store.chunk_stream import ChunkBatch, ChunkStream, ShardSource
from synapseclr.volumes.store.shard_record import ShardRecord

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from synapseclr.volumes.config import PreprocessingConfig
    from synapseclr.volumes.layers.layer import OpenLayer, VolumeLayer

_READ_AHEAD = 16


def cut_chunks(
    em: VolumeLayer, segmentation: VolumeLayer, cleft: VolumeLayer, synapses: pd.DataFrame, config: PreprocessingConfig
) -> ChunkStream:
    """Cut all synapses, in an order in which neighbours share storage blocks, so that each is decoded about once.

    Chunks that hang over the volume's edge are padded with zeros, and the padded voxels are counted. The cleft of a
    synapse is the labelled cleft whose nearest voxel lies closest to its centre.

    Args:
        em: Intensities, uint8.
        segmentation: Root ids.
        cleft: Cleft ids, unrelated to the ids of the synapse table.
        synapses: As :func:`synapseclr.volumes.tables.check_synapse_table` returns it.
        config: Sizes, limits and workers.

    Returns:
        A stream that cuts while it is stored. It raises :class:`TableError` when more than
        ``config.max_rejected_fraction`` of the synapses had to be rejected, naming the reasons.

    Raises:
        VolumeError: If a volume is missing, has no scale of the wanted resolution, or does not fit the chunks.
    """
    layers = [layer.at_resolution(config.voxel_size_nm) for layer in (em, segmentation, cleft)]
    for layer in layers:
        check_layer(layer, config, holds_ids=layer is not layers[0])
    source = CuttingSource((em, segmentation, cleft), plan_cutting(layers, synapses, config), config)
    return ChunkStream(source, config.chunk_size_vx, config.voxel_size_nm, config.synapses_per_shard)


def check_layer(layer: OpenLayer, config: PreprocessingConfig, holds_ids: bool) -> None:
    """Check that chunks can be cut out of a layer.

    Args:
        layer: An open scale.
        config: Size of a chunk.
        holds_ids: Whether its voxels are ids, not intensities.

    Raises:
        VolumeError: If it is smaller than a chunk, or holds numbers of another type.
    """
    name = f"{layer.layer.role} at {layer.layer.uri}"
    extent = layer.upper_vx - layer.lower_vx
    if (np.asarray(config.chunk_size_vx) > extent).any():
        raise VolumeError(
            f"A chunk of {list(config.chunk_size_vx)} voxels is larger than the {name}, which has {extent.tolist()}. "
            "Set preprocessing.chunk_size_vx to at most that."
        )
    if not holds_ids and layer.dtype != np.uint8:
        raise VolumeError(f"The {name} holds {layer.dtype}; chunks need uint8 intensities.")
    if holds_ids and not np.issubdtype(layer.dtype, np.integer):
        raise VolumeError(f"The {name} holds {layer.dtype}; ids are whole numbers. Name a layer of ids in the catalog.")


def open_cutter(layers: Sequence[OpenLayer], config: PreprocessingConfig) -> SynapseCutter:
    """Put a cache of decoded blocks before each of EM, segmentation and clefts; blocks are fetched by threads."""
    n_threads = config.fetch_threads
    if all(layer.layer.is_local for layer in layers):  # there is nothing to wait for
        n_threads = min(n_threads, 1 if config.is_distributed else os.cpu_count() or 1)
    executor = ThreadPoolExecutor(n_threads, thread_name_prefix="fetch") if n_threads > 1 else None
    em, segmentation, cleft = (
        BlockCache(layer, config.volume_cache_mb, config.read_attempts, executor) for layer in layers
    )
    return SynapseCutter(em, segmentation, cleft, config)


@dataclass(frozen=True)
class CuttingSource(ShardSource):
    """Chunks to be cut, shard by shard. Small enough, with the rows of a few shards, to be sent to a worker.

    Attributes:
        volumes: EM, segmentation and clefts.
        plan: The rows of shards ``first_shard`` onwards.
        config: Sizes, limits and workers.
        first_shard: Shard that the first row of ``plan`` belongs to.
    """

    volumes: tuple[VolumeLayer, VolumeLayer, VolumeLayer]
    plan: CuttingPlan
    config: PreprocessingConfig
    first_shard: int = 0

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("volumes", "plan", "config", "first_shard")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @property
    def n_synapses(self) -> int:  # type: ignore[override]
        """Rows of the plan."""
        return len(self.plan)

    @property
    def n_shards(self) -> int:  # type: ignore[override]
        """Shards that the rows fill."""
        return -(-len(self.plan) // self.config.synapses_per_shard)

    @property
    def fingerprint(self) -> str:  # type: ignore[override]
        """Digest of the table, the parameters and the volumes."""
        return self.plan.fingerprint

    def select(self, shards: range) -> CuttingSource:
        """The same source with the rows of some shards only."""
        n = self.config.synapses_per_shard
        rows = slice((shards.start - self.first_shard) * n, (shards.stop - self.first_shard) * n)
        plan = self.plan
        part = CuttingPlan(
            plan.synapse_id[rows], (plan.roots[0][rows], plan.roots[1][rows]), plan.centre_vx[rows], plan.fingerprint
        )
        return replace(self, plan=part, first_shard=shards.start)

    @cached_property
    def cutter(self) -> SynapseCutter:
        """Opens the volumes, on first use, with a cache of their blocks."""
        return open_cutter([layer.at_resolution(self.config.voxel_size_nm) for layer in self.volumes], self.config)

    def cut(self, shard: int) -> ChunkBatch:
        """Cut the synapses of a shard; those that cannot be cut are left out, with their reason.

        Raises:
            DecoderError: If a volume's blocks cannot be decoded here: that is no synapse's fault.
        """
        n = self.config.synapses_per_shard
        first = (shard - self.first_shard) * n
        rows = range(first, min(first + n, len(self.plan)))
        chunks: list[NDArray[np.uint8]] = []
        records: list[dict[str, int]] = []
        rejected: dict[int, str] = {}
        failed: list[int] = []
        for centre_vx in self.plan.centre_vx[first : first + _READ_AHEAD]:
            self.cutter.request(centre_vx)
        for row in rows:
            for centre_vx in self.plan.centre_vx[row + _READ_AHEAD : row + _READ_AHEAD + 1]:
                self.cutter.request(centre_vx)
            synapse_id = int(self.plan.synapse_id[row])
            pre, post = (int(roots[row]) for roots in self.plan.roots)
            try:
                chunk_cxyz, record = self.cutter.cut(self.plan.centre_vx[row], pre, post)
            except DecoderError:
                raise
            except (RejectedError, VolumeError) as reason:
                rejected[synapse_id] = str(reason)
                if isinstance(reason, VolumeError):
                    failed.append(synapse_id)
                continue
            chunks.append(chunk_cxyz)
            records.append({"synapse_id": synapse_id, **record})
        columns = {name: np.asarray([record[name] for record in records]) for name in records[0]} if records else {}
        chunk_ncxyz = np.stack(chunks) if chunks else np.empty((0,), np.uint8)
        return ChunkBatch(chunk_ncxyz, columns, rejected, tuple(failed))

    def write(self, shards: Sequence[int], write: Callable[[int, ChunkBatch], ShardRecord]) -> Iterator[ShardRecord]:
        """Cut and write shards in this process, or by dask where the configuration says so."""
        from rich.progress import Progress

        from synapseclr.volumes.cutting.distributed import write_distributed

        is_distributed = self.config.is_distributed
        written = write_distributed(self, shards, write) if is_distributed else self._write_here(shards, write)
        n = self.config.synapses_per_shard
        with Progress() as progress:
            done_before = len(self.plan) - sum(min(n, len(self.plan) - shard * n) for shard in shards)
            task = progress.add_task("Cutting chunks", total=len(self.plan), completed=done_before)
            for record in written:
                progress.advance(task, len(record) + len(record.rejected))
                yield record

    def _write_here(
        self, shards: Sequence[int], write: Callable[[int, ChunkBatch], ShardRecord]
    ) -> Iterator[ShardRecord]:
        """Encode and store a shard while the next one is cut."""
        with ThreadPoolExecutor(1, thread_name_prefix="write") as pool:
            storing = None
            for shard in shards:
                batch = self.cut(shard)
                if storing is not None:
                    yield storing.result()
                storing = pool.submit(write, shard, batch)
            if storing is not None:
                yield storing.result()

    def check(self, rejected: dict[int, str], failed: Collection[int] = ()) -> None:
        """Raise if more synapses were rejected than are allowed.

        Args:
            rejected: Reason by synapse id.
            failed: Those of ``rejected`` that touch a block that could not be read.

        Raises:
            TableError: With an example of either kind; only those that lie wrongly are a reason to doubt positions.
        """
        limit = self.config.max_rejected_fraction
        if not rejected or (len(rejected) <= limit * len(self.plan) and len(rejected) < len(self.plan)):
            return
        said = [
            f"{len(rejected)} of {len(self.plan)} synapses had to be rejected, more than "
            f"preprocessing.max_rejected_fraction = {limit:g} allows."
        ]
        misplaced = [synapse_id for synapse_id in rejected if synapse_id not in failed]
        unread = [synapse_id for synapse_id in rejected if synapse_id in failed]
        if misplaced:
            said.append(
                f"The first{' of those that could be read' * bool(unread)}, synapse {misplaced[0]}: "
                f"{rejected[misplaced[0]]}. Check that the table's positions are in units of "
                "preprocessing.position_voxel_size_nm."
            )
        if unread:
            said.append(
                f"{len(unread)} of them touch storage blocks that cannot be read. The first, synapse {unread[0]}: "
                f"{rejected[unread[0]]}"
            )
        raise TableError(" ".join(said))
