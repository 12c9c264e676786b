"""Cut a chunk around every synapse of a table: in which order, in which processes, shard by shard."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from synapseclr.errors import ConfigurationError, DecoderError, TableError, VolumeError
from synapseclr.storage.dask_client import TASK_RETRIES, connected, number_of_workers, results_as_completed
from synapseclr.volumes.layers.blocks import BlockCache
from synapseclr.volumes.layers.resampling import ResampledLayer, open_on_grid
from synapseclr.volumes.store.shards import ChunkBatch, ChunkStream, ShardRecord, ShardSource
from synapseclr.volumes.synapse_cutter import RejectedError, Site, SynapseCutter
from synapseclr.volumes.synapse_table import POSITION_COLUMNS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synapseclr.volumes.config import PreprocessingConfig
    from synapseclr.volumes.layers.layer import OpenLayer, VolumeLayer


logger = logging.getLogger(__name__)
TASKS_PER_WORKER = 4
SHARDS_PER_TASK = 256
_READ_AHEAD = 16
CUTTING_VERSION = 1
"""Goes up when the same inputs would give other chunks."""
_BYTES_PER_VOXEL = 2  # of a decoded block: intensities take 1, ids 1 or 2


@dataclass(frozen=True)
class CuttingPlan:
    """Rows to cut, in cutting order.

    Attributes:
        synapse_id: int64 (n,).
        roots: Ids of the pre- and postsynaptic neurons, 64-bit integers, each (n,).
        centre_vx: int64 (n, 3), at the resolution of the chunks.
        fingerprint: Digest of table, parameters and volumes.
        points_vx: Presynaptic and postsynaptic points, float64 (n, 2, 3), in voxels of the chunks whose centres are
            whole numbers; None where they are not known or not needed.
    """

    synapse_id: NDArray[np.int64]
    roots: tuple[NDArray[np.int64], NDArray[np.int64]]
    centre_vx: NDArray[np.int64]
    fingerprint: str
    points_vx: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.synapse_id)

    def site(self, row: int) -> Site:
        """The synapse of a row."""
        pre, post = (int(root_id_n[row]) for root_id_n in self.roots)
        points_vx = None if self.points_vx is None else self.points_vx[row]
        return Site(self.centre_vx[row], pre, post, int(self.synapse_id[row]), points_vx)

    def part(self, rows: slice) -> CuttingPlan:
        """Some consecutive rows."""
        return replace(
            self,
            synapse_id=self.synapse_id[rows],
            roots=(self.roots[0][rows], self.roots[1][rows]),
            centre_vx=self.centre_vx[rows],
            points_vx=None if self.points_vx is None else self.points_vx[rows],
        )


def plan_cutting(layers: list[OpenLayer], synapses: pd.DataFrame, config: PreprocessingConfig) -> CuttingPlan:
    """Order the synapses of a table, and digest all that determines their chunks.

    Synapses go tile by tile, and in a tile by the storage block of their centre: z slowest, x fastest. A tile is as
    wide as the cache allows: the blocks that consecutive layers of a tile share fit into it.

    Args:
        layers: EM, segmentation and clefts.
        synapses: As :func:`synapseclr.volumes.synapse_table.check_synapse_table` returns it.
        config: Sizes and limits.
    """
    centre_vx = centres_vx(synapses, config.position_unit_nm, config)
    block = centre_vx // layers[1].block_size_vx
    tile = block[:, :2] // tile_blocks(layers, config)
    order = np.lexsort((centre_vx[:, 2], block[:, 0], block[:, 1], block[:, 2], tile[:, 0], tile[:, 1]))
    columns = [synapses[name].to_numpy()[order] for name in ("id", "pre_root_id", "post_root_id")]
    digest = hashlib.sha256(
        json.dumps([CUTTING_VERSION, config.chunk_parameters(), [layer.identity() for layer in layers]]).encode()
    )
    points_n23 = points_vx(synapses, config) if config.cleft == "painted" else None
    points_n23 = None if points_n23 is None else points_n23[order]
    for array in (*columns, centre_vx[order], *([] if points_n23 is None else [points_n23])):
        digest.update(np.ascontiguousarray(array).tobytes())
    return CuttingPlan(columns[0], (columns[1], columns[2]), centre_vx[order], digest.hexdigest(), points_n23)


def centres_vx(
    synapses: pd.DataFrame, unit_nm: tuple[float, float, float], config: PreprocessingConfig
) -> NDArray[np.int64]:
    """Centres (n, 3) in voxels of the chunks' resolution, of positions (x, y, z) with a unit of this size."""
    scale = np.asarray(unit_nm) / np.asarray(config.voxel_size_nm)
    return np.floor(synapses[POSITION_COLUMNS].to_numpy() * scale).astype(np.int64)


def points_vx(synapses: pd.DataFrame, config: PreprocessingConfig) -> NDArray[np.float64] | None:
    """Presynaptic and postsynaptic points (n, 2, 3) in voxels of the chunks whose centres are whole numbers.

    They are the columns ``{pre,post}_pos_{x,y,z}_nm``, or ``..._vx`` in the unit of the centres.

    Returns:
        None if the table does not have all of them.

    Raises:
        TableError: If one is not a number.
    """
    voxel_nm = np.asarray(config.voxel_size_nm)
    for suffix, unit_nm, in_voxel in (("nm", np.ones(3), 0.0), ("vx", np.asarray(config.position_unit_nm), 0.5)):
        names = [[f"{side}_pos_{axis}_{suffix}" for axis in "xyz"] for side in ("pre", "post")]
        if all(name in synapses for side in names for name in side):
            columns = [[pd.to_numeric(synapses[name], errors="coerce") for name in side] for side in names]
            points_n23 = (np.asarray(columns, np.float64).transpose(2, 0, 1) + in_voxel) * unit_nm / voxel_nm - 0.5
            bad = ~np.isfinite(points_n23).all(axis=(1, 2))
            if bad.any():
                raise TableError(
                    f"The synapse table has no number in one of {', '.join(names[0] + names[1])} for synapse "
                    f"{synapses['id'][bad].iloc[0]}: clefts are painted between these points. Complete the columns, or "
                    "leave all six out: clefts are then painted at the contact nearest to the centre."
                )
            return points_n23
    return None


def tile_blocks(layers: list[OpenLayer], config: PreprocessingConfig) -> NDArray[np.int64]:
    """Width of a tile in blocks of the segmentation (x, y).

    Every layer has ``config.volume_cache_mb``. While a tile is swept along z, the cache holds the blocks of a slab: a
    chunk and two blocks thick, and a chunk and two blocks wider than the tile.
    """
    chunk_vx = np.asarray(config.chunk_size_vx)
    widths = []
    for layer in layers:
        margin_vx = chunk_vx + 2 * layer.block_size_vx
        extent_vx = layer.upper_vx - layer.lower_vx
        thickness_vx = min(int(margin_vx[2]), int(extent_vx[2]))
        area_vx = config.volume_cache_mb * 2**20 / (_BYTES_PER_VOXEL * layer.n_stored_per_voxel * thickness_vx)
        if extent_vx[0] * extent_vx[1] <= area_vx:
            widths.append(extent_vx[:2] + layer.block_size_vx[:2])
        else:
            widths.append(np.maximum(int(area_vx**0.5) - margin_vx[:2], 1))
    block_vx = layers[1].block_size_vx[:2]
    width_vx = np.min(widths, axis=0)
    whole = layers[1].upper_vx[:2] - layers[1].lower_vx[:2]
    blocks = np.maximum(width_vx // block_vx, 1)
    return np.where(width_vx >= whole, np.iinfo(np.int32).max, blocks).astype(np.int64)


def cut_chunks(
    em: VolumeLayer,
    segmentation: VolumeLayer,
    cleft: VolumeLayer | None,
    synapses: pd.DataFrame,
    config: PreprocessingConfig,
) -> ChunkStream:
    """Cut all synapses, in an order in which neighbours share storage blocks, so that each is decoded about once.

    Chunks that hang over the volume's edge are padded with zeros, and the padded voxels are counted. The cleft of a
    synapse is the labelled cleft whose nearest voxel lies closest to its centre.

    Args:
        em: Intensities, uint8.
        segmentation: Root ids.
        cleft: Cleft ids, unrelated to the ids of the synapse table unless ``config.cleft_match`` says so; not read, and
            may be None, where clefts are painted.
        synapses: As :func:`synapseclr.volumes.synapse_table.check_synapse_table` returns it.
        config: Sizes, limits and workers.

    Returns:
        A stream that cuts while it is stored. It raises :class:`TableError` when more than
        ``config.max_rejected_fraction`` of the synapses had to be rejected, naming the reasons.

    Raises:
        VolumeError: If a volume is missing, has no scale near the wanted resolution, or does not fit the chunks.
    """
    layers = open_layers((em, segmentation, cleft), config)
    for layer in layers:
        check_layer(layer, config, holds_ids=layer is not layers[0])
        if isinstance(layer, ResampledLayer):
            logger.info("%s.", layer)
    source = CuttingSource((em, segmentation, cleft), plan_cutting(layers, synapses, config), config)
    return ChunkStream(source, config.chunk_size_vx, config.voxel_size_nm, config.synapses_per_shard)


def layers_to_read(volumes: Sequence[VolumeLayer | None], config: PreprocessingConfig) -> list[VolumeLayer]:
    """Layers that chunks are made of: EM, segmentation, and the clefts unless they are painted.

    Raises:
        ConfigurationError: If there is no cleft volume, and clefts are to come from one.
    """
    em, segmentation, cleft = volumes
    layers = [em, segmentation] if config.cleft == "painted" else [em, segmentation, cleft]
    present = [layer for layer in layers if layer is not None]
    if len(present) < len(layers):
        raise ConfigurationError(
            "There is no cleft volume, and preprocessing.cleft is layer: name one as cleft_volume in the catalog, or "
            "set preprocessing.cleft to painted."
        )
    return present


def open_layers(volumes: Sequence[VolumeLayer | None], config: PreprocessingConfig) -> list[OpenLayer]:
    """Open EM, segmentation and clefts at the chunks' voxel size; what has no such scale is resampled."""
    return [
        open_on_grid(layer, config.voxel_size_nm, config.max_resampling, holds_ids=number > 0)
        for number, layer in enumerate(layers_to_read(volumes, config))
    ]


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
    """Put a cache of decoded blocks before each of EM, segmentation and clefts, if there are; threads fetch blocks."""
    n_threads = config.fetch_threads
    if all(layer.layer.is_local for layer in layers):  # there is nothing to wait for
        n_threads = min(n_threads, 1 if config.is_distributed else os.cpu_count() or 1)
    executor = ThreadPoolExecutor(n_threads, thread_name_prefix="fetch") if n_threads > 1 else None
    em, segmentation, *clefts = (
        BlockCache(layer, config.volume_cache_mb, config.read_attempts, executor) for layer in layers
    )
    return SynapseCutter(em, segmentation, clefts[0] if clefts else None, config)


@dataclass(frozen=True)
class CuttingSource(ShardSource):
    """Chunks to be cut, shard by shard. Small enough, with the rows of a few shards, to be sent to a worker.

    Attributes:
        volumes: EM, segmentation and clefts.
        plan: The rows of shards ``first_shard`` onwards.
        config: Sizes, limits and workers.
        first_shard: Shard that the first row of ``plan`` belongs to.
    """

    volumes: tuple[VolumeLayer, VolumeLayer, VolumeLayer | None]
    plan: CuttingPlan
    config: PreprocessingConfig
    first_shard: int = 0

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("volumes", "plan", "config", "first_shard")}

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
        return replace(self, plan=self.plan.part(rows), first_shard=shards.start)

    @cached_property
    def cutter(self) -> SynapseCutter:
        """Opens the volumes, on first use, with a cache of their blocks."""
        return open_cutter(open_layers(self.volumes, self.config), self.config)

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
            try:
                chunk_cxyz, record = self.cutter.cut(self.plan.site(row))
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


_sources: dict[str, CuttingSource] = {}


def write_distributed(
    source: CuttingSource, shards: Sequence[int], write: Callable[[int, ChunkBatch], ShardRecord]
) -> Iterator[ShardRecord]:
    """Cut and store shards on the workers of a dask scheduler, or of one started here.

    A task is a run of consecutive shards, whose synapses share storage blocks. When a worker is lost, dask gives its
    task to another one, which writes the same shards again.

    Args:
        source: What to cut.
        shards: Which shards.
        write: Stores a shard; sent to the workers.

    Yields:
        The record of every shard, as tasks end.

    Raises:
        ConfigurationError: If no scheduler answers at ``preprocessing.scheduler_address``.
        WorkerError: If a task was lost with several workers.
    """
    config = source.config
    if not shards:
        return
    with connected(config.scheduler_address, config.workers, "preprocessing") as client:
        n_workers = max(number_of_workers(client), config.workers, 1)
        tasks = [
            client.submit(_cut, source.select(run), run, write, pure=False, retries=TASK_RETRIES)
            for run in runs(shards, n_workers)
        ]
        advice = (
            "The shards of chunks stored so far are kept: run `kedro run --pipeline=preprocessing` again, with more "
            "memory a worker or a smaller preprocessing.volume_cache_mb."
        )
        for records in results_as_completed(tasks, advice):
            yield from records


def runs(shards: Sequence[int], n_workers: int) -> list[range]:
    """Divide ascending shard numbers into runs of consecutive ones, several a worker."""
    longest = min(max(len(shards) // (TASKS_PER_WORKER * n_workers), 1), SHARDS_PER_TASK)
    found: list[range] = []
    for shard in shards:
        if found and found[-1].stop == shard and len(found[-1]) < longest:
            found[-1] = range(found[-1].start, shard + 1)
        else:
            found.append(range(shard, shard + 1))
    return found


def _cut(source: CuttingSource, shards: range, write: Callable[[int, ChunkBatch], Any]) -> list[ShardRecord]:
    """Runs on a worker; volumes stay open, and blocks decoded, from one task to the next."""
    before = _sources.get(source.fingerprint)
    if before is None:
        _sources.clear()
        _sources[source.fingerprint] = before = source
    source.__dict__["cutter"] = before.cutter
    return [write(shard, source.cut(shard)) for shard in shards]
