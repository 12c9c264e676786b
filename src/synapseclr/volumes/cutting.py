"""Cut a chunk around every synapse: intensity and mask codes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from synapseclr.errors import TableError, VolumeError
from synapseclr.volumes.chunk_store import MASK_CODES, ChunkBatch, ChunkStream
from synapseclr.volumes.tables import POSITION_COLUMNS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synapseclr.volumes.config import PreprocessingConfig
    from synapseclr.volumes.layer import OpenLayer, VolumeLayer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Volumes:
    em: OpenLayer
    segmentation: OpenLayer
    cleft: OpenLayer


class _RejectedError(Exception):
    """A synapse cannot be cut; the message is the reason that is kept."""


def cut_chunks(
    em: VolumeLayer, segmentation: VolumeLayer, cleft: VolumeLayer, synapses: pd.DataFrame, config: PreprocessingConfig
) -> ChunkStream:
    """Cut all synapses, in an order in which neighbours share storage blocks.

    Chunks that hang over the volume's edge are padded with zeros, and the padded voxels are counted. The cleft of a
    synapse is the labelled cleft whose nearest voxel lies closest to its centre.

    Args:
        em: Intensities, uint8.
        segmentation: Root ids.
        cleft: Cleft ids, unrelated to the ids of the synapse table.
        synapses: As :func:`synapseclr.volumes.tables.check_synapse_table` returns it.
        config: Sizes and limits.

    Returns:
        A stream that cuts while it is stored. It raises :class:`TableError` when more than
        ``config.max_rejected_fraction`` of the synapses had to be rejected, naming the reasons.

    Raises:
        VolumeError: If a volume is missing, has no scale of the wanted resolution, or is smaller than a chunk.
    """
    volumes = _Volumes(
        *(layer.at_resolution(config.voxel_size_nm, config.volume_cache_mb) for layer in (em, segmentation, cleft))
    )
    for layer in (volumes.em, volumes.segmentation, volumes.cleft):
        extent = layer.upper_vx - layer.lower_vx
        if (np.asarray(config.chunk_size_vx) > extent).any():
            raise VolumeError(
                f"A chunk of {list(config.chunk_size_vx)} voxels is larger than the {layer.layer.role} at "
                f"{layer.layer.uri}, which has {extent.tolist()}. Set preprocessing.chunk_size_vx to at most that."
            )
    if volumes.em.volume.dtype != np.uint8:
        raise VolumeError(f"The EM volume at {em.uri} holds {volumes.em.volume.dtype}; chunks need uint8 intensities.")
    return ChunkStream(
        _Batches(volumes, synapses, config), config.chunk_size_vx, config.voxel_size_nm, config.synapses_per_shard
    )


@dataclass(frozen=True)
class _Batches:
    volumes: _Volumes
    synapses: pd.DataFrame
    config: PreprocessingConfig

    def __len__(self) -> int:
        return len(self.synapses)

    def __iter__(self) -> Iterator[ChunkBatch]:
        from rich.progress import track

        scale = np.asarray(self.config.position_unit_nm) / np.asarray(self.config.voxel_size_nm)
        centres_vx = np.floor(self.synapses[POSITION_COLUMNS].to_numpy() * scale).astype(np.int64)
        order = _block_order(centres_vx, self.volumes.segmentation.block_size_vx)
        ids = [self.synapses[name].to_numpy() for name in ("id", "pre_root_id", "post_root_id")]
        chunks: list[NDArray[np.uint8]] = []
        records: list[dict[str, Any]] = []
        rejected: dict[int, str] = {}
        for row in track(order, description="Cutting chunks", total=len(order)):
            synapse_id, pre, post = (int(column[row]) for column in ids)
            try:
                chunk, record = _cut(self.volumes, centres_vx[row], pre, post, self.config)
            except _RejectedError as reason:
                logger.warning("Synapse %d is rejected: %s", synapse_id, reason)
                rejected[synapse_id] = str(reason)
                continue
            chunks.append(chunk)
            records.append({"synapse_id": synapse_id, **record})
            if len(chunks) == self.config.synapses_per_shard:
                yield _batch(chunks, records, {})
                chunks, records = [], []
        self._check_rejections(rejected)
        yield _batch(chunks, records, rejected)

    def _check_rejections(self, rejected: dict[int, str]) -> None:
        limit = self.config.max_rejected_fraction
        if rejected and (len(rejected) > limit * len(self.synapses) or len(rejected) == len(self.synapses)):
            synapse_id, reason = next(iter(rejected.items()))
            raise TableError(
                f"{len(rejected)} of {len(self.synapses)} synapses had to be rejected, more than "
                f"preprocessing.max_rejected_fraction = {limit:g} allows. The first, synapse {synapse_id}: {reason}. "
                "Check that the table's positions are in units of preprocessing.position_voxel_size_nm."
            )


def _batch(chunks: list[NDArray[np.uint8]], records: list[dict[str, Any]], rejected: dict[int, str]) -> ChunkBatch:
    columns = {name: np.asarray([record[name] for record in records]) for name in records[0]} if records else {}
    return ChunkBatch(np.stack(chunks) if chunks else np.empty((0,), np.uint8), columns, rejected)


def _block_order(centres_vx: NDArray[np.int64], block_size_vx: NDArray[np.int64]) -> NDArray[np.int64]:
    """Order synapses by the storage block of their centre, so that a small cache serves neighbours."""
    block = centres_vx // block_size_vx
    return np.lexsort((centres_vx[:, 2], block[:, 0], block[:, 1], block[:, 2]))


def _cut(
    volumes: _Volumes, centre_vx: NDArray[np.int64], pre_root_id: int, post_root_id: int, config: PreprocessingConfig
) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    size_vx = np.asarray(config.chunk_size_vx, dtype=np.int64)
    em = volumes.em
    if (centre_vx < em.lower_vx).any() or (centre_vx >= em.upper_vx).any():
        raise _RejectedError(
            f"its centre, voxel {centre_vx.tolist()}, lies outside of the EM volume "
            f"({em.lower_vx.tolist()} to {em.upper_vx.tolist()})"
        )
    lower_vx = centre_vx - size_vx // 2
    cleft_id, cleft_xyz = _match_cleft(volumes.cleft.read(lower_vx, size_vx), config)
    segmentation_xyz = volumes.segmentation.read(lower_vx, size_vx)
    intensity_xyz = em.read(lower_vx, size_vx)

    inside = np.minimum(lower_vx + size_vx, em.upper_vx) - np.maximum(lower_vx, em.lower_vx)
    in_plane_voxels = int(inside[0] * inside[1])
    section_is_inside = (np.arange(size_vx[2]) + lower_vx[2] >= em.lower_vx[2]) & (
        np.arange(size_vx[2]) + lower_vx[2] < em.upper_vx[2]
    )
    n_zero = (intensity_xyz == 0).sum(axis=(0, 1)) - (size_vx[0] * size_vx[1] - in_plane_voxels)
    is_cutout = section_is_inside & (n_zero > config.cutout_zero_fraction * in_plane_voxels)
    intensity_xyz[:, :, is_cutout] = 0

    mask_xyz = np.zeros(size_vx, dtype=np.uint8)
    mask_xyz[segmentation_xyz == post_root_id] = MASK_CODES["post_synaptic_neuron"]
    mask_xyz[segmentation_xyz == pre_root_id] = MASK_CODES["pre_synaptic_neuron"]
    mask_xyz[cleft_xyz] = MASK_CODES["synaptic_cleft"]
    record = {
        "cleft_id": cleft_id,
        "n_cutout_sections": int(is_cutout.sum()),
        "n_padded_voxels": int(size_vx.prod() - inside.prod()),
    }
    return np.stack([intensity_xyz, mask_xyz]), record


def _match_cleft(cleft_ids_xyz: NDArray[Any], config: PreprocessingConfig) -> tuple[int, NDArray[np.bool_]]:
    """Find the cleft whose nearest voxel lies closest to the chunk's centre."""
    labelled = np.argwhere(cleft_ids_xyz)
    offsets_nm = (labelled - np.asarray(cleft_ids_xyz.shape) // 2) * np.asarray(config.voxel_size_nm)
    distances_nm = np.linalg.norm(offsets_nm, axis=1)
    if not len(labelled) or distances_nm.min() > config.max_cleft_distance_nm:
        found = f"the nearest is {distances_nm.min():.0f} nm away" if len(labelled) else "there is none in its chunk"
        raise _RejectedError(
            f"no labelled cleft lies within {config.max_cleft_distance_nm:g} nm of its centre; {found}"
        )
    cleft_id = cleft_ids_xyz[tuple(labelled[distances_nm.argmin()])]
    return int(cleft_id), cleft_ids_xyz == cleft_id
