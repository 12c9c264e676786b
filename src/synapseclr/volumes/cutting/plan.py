"""In which order synapses are cut, so that a bounded cache serves those that share storage blocks."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from synapseclr.volumes.tables import POSITION_COLUMNS

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from synapseclr.volumes.config import PreprocessingConfig
    from synapseclr.volumes.layers.layer import OpenLayer

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
    """

    synapse_id: NDArray[np.int64]
    roots: tuple[NDArray[np.int64], NDArray[np.int64]]
    centre_vx: NDArray[np.int64]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.synapse_id)


def plan_cutting(layers: list[OpenLayer], synapses: pd.DataFrame, config: PreprocessingConfig) -> CuttingPlan:
    """Order the synapses of a table, and digest all that determines their chunks.

    Synapses go tile by tile, and in a tile by the storage block of their centre: z slowest, x fastest. A tile is as
    wide as the cache allows: the blocks that consecutive layers of a tile share fit into it.

    Args:
        layers: EM, segmentation and clefts.
        synapses: As :func:`synapseclr.volumes.tables.check_synapse_table` returns it.
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
    for array in (*columns, centre_vx[order]):
        digest.update(np.ascontiguousarray(array).tobytes())
    return CuttingPlan(columns[0], (columns[1], columns[2]), centre_vx[order], digest.hexdigest())


def centres_vx(
    synapses: pd.DataFrame, unit_nm: tuple[float, float, float], config: PreprocessingConfig
) -> NDArray[np.int64]:
    """Centres (n, 3) in voxels of the chunks' resolution, of positions (x, y, z) with a unit of this size."""
    scale = np.asarray(unit_nm) / np.asarray(config.voxel_size_nm)
    return np.floor(synapses[POSITION_COLUMNS].to_numpy() * scale).astype(np.int64)


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
        area_vx = config.volume_cache_mb * 2**20 / (_BYTES_PER_VOXEL * thickness_vx)
        if extent_vx[0] * extent_vx[1] <= area_vx:
            widths.append(extent_vx[:2] + layer.block_size_vx[:2])
        else:
            widths.append(np.maximum(int(area_vx**0.5) - margin_vx[:2], 1))
    block_vx = layers[1].block_size_vx[:2]
    width_vx = np.min(widths, axis=0)
    whole = layers[1].upper_vx[:2] - layers[1].lower_vx[:2]
    blocks = np.maximum(width_vx // block_vx, 1)
    return np.where(width_vx >= whole, np.iinfo(np.int32).max, blocks).astype(np.int64)
