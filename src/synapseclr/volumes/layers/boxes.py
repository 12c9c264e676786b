"""Boxes of a layer on the chunks' grid, put together from cached storage blocks, resampled where need be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.volumes.layers.resampling import ResampledLayer, weighted_means

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synapseclr.volumes.layers.blocks import Block, BlockCache

_ONE_NUMBER = np.zeros((1, 1, 1), np.uint8)


@dataclass(frozen=True)
class Part:
    """Part of a box that lies in one block.

    Attributes:
        block: The block.
        in_box: The part's voxels in the box (x, y, z).
        in_block: The same voxels in the block: slices, or places where the layer is resampled.
    """

    block: Block
    in_box: tuple[slice, slice, slice]
    in_block: tuple[slice | NDArray[np.int64], ...]

    @property
    def offset_vx(self) -> NDArray[np.int64]:
        """First voxel of the part in the box (x, y, z)."""
        return np.asarray([axis.start for axis in self.in_box], np.int64)

    @property
    def numbers_xyz(self) -> NDArray[Any]:
        """Number of the id of every voxel, or its intensity."""
        if self.block.array_xyz is None:
            return np.broadcast_to(_ONE_NUMBER, tuple(axis.stop - axis.start for axis in self.in_box))
        if isinstance(self.in_block[0], slice):
            return self.block.array_xyz[self.in_block]
        return self.block.array_xyz[np.ix_(*self.in_block)]


def parts_of(cache: BlockCache, lower_vx: NDArray[np.int64], size_vx: NDArray[np.int64]) -> Iterator[Part]:
    """Yield the parts of a box, block by block; of a layer that is resampled each voxel is the nearest one.

    Args:
        cache: Blocks of the layer.
        lower_vx: First voxel of the box on the chunks' grid (x, y, z); may be outside of the layer.
        size_vx: Extent in voxels.
    """
    layer = cache.layer
    if isinstance(layer, ResampledLayer) and layer.holds_ids:
        yield from _nearest_parts(cache, layer, lower_vx, size_vx)
    else:
        yield from _stored_parts(cache, lower_vx, size_vx)


def request_box(cache: BlockCache, lower_vx: NDArray[np.int64], size_vx: NDArray[np.int64]) -> None:
    """Begin to fetch the blocks of a box in the background, where the cache does that."""
    if not cache.fetches_ahead:
        return
    if isinstance(cache.layer, ResampledLayer):
        box = _stored_box(cache.layer, lower_vx, size_vx)
        if box is None:
            return
        lower_vx, size_vx = box
    cache.request(cache.indices(lower_vx, size_vx))


def write_intensity(
    cache: BlockCache, lower_vx: NDArray[np.int64], intensity_xyz: NDArray[np.uint8], cutout_zero_fraction: float
) -> None:
    """Write the intensities of a box; what lies outside of the layer stays as it is.

    Args:
        cache: Blocks of the EM.
        lower_vx: First voxel of the box (x, y, z); may be outside.
        intensity_xyz: The box, uint8, written to.
        cutout_zero_fraction: Sections of the stored scale with a larger share of zeros are missing: they are left out
            of the means of a layer that is resampled, and what consists of them for the larger part becomes zero.
    """
    layer, size_vx = cache.layer, np.asarray(intensity_xyz.shape, np.int64)
    if not isinstance(layer, ResampledLayer):
        _copy(_stored_parts(cache, lower_vx, size_vx), intensity_xyz)
        return
    inside = _inside(layer, lower_vx, size_vx)
    if inside is None:
        return
    start, stop = inside
    taps = [layer.taps(axis, int(start[axis]), int(stop[axis])) for axis in range(3)]
    bounds = np.array([each.bounds for each in taps])
    stored_xyz = np.zeros(bounds[:, 1] - bounds[:, 0], np.uint8)
    _copy(_stored_parts(cache, bounds[:, 0], bounds[:, 1] - bounds[:, 0]), stored_xyz)
    is_missing_z = (stored_xyz == 0).mean(axis=(0, 1)) > cutout_zero_fraction
    if is_missing_z.any():
        taps[2] = taps[2].without(is_missing_z)
    in_box = tuple(slice(int(a), int(b)) for a, b in zip(start - lower_vx, stop - lower_vx, strict=True))
    intensity_xyz[in_box] = weighted_means(stored_xyz, taps)


def _copy(parts: Iterator[Part], box_xyz: NDArray[np.uint8]) -> None:
    for part in parts:
        is_uniform = part.block.array_xyz is None
        box_xyz[part.in_box] = part.block.ids[0] if is_uniform else part.numbers_xyz


def _stored_parts(cache: BlockCache, lower_vx: NDArray[np.int64], size_vx: NDArray[np.int64]) -> Iterator[Part]:
    """Yield the parts of a box of the stored scale."""
    for block in cache.blocks(cache.indices(lower_vx, size_vx)):
        in_box, in_block = [], []
        for block_lower, block_size, lower, size in zip(block.lower_vx, block.size_vx, lower_vx, size_vx, strict=True):
            start, stop = max(block_lower, int(lower)), min(block_lower + block_size, int(lower + size))
            in_box.append(slice(start - int(lower), stop - int(lower)))
            in_block.append(slice(start - block_lower, stop - block_lower))
        x, y, z = in_box
        yield Part(block, (x, y, z), tuple(in_block))


def _nearest_parts(
    cache: BlockCache, layer: ResampledLayer, lower_vx: NDArray[np.int64], size_vx: NDArray[np.int64]
) -> Iterator[Part]:
    inside = _inside(layer, lower_vx, size_vx)
    if inside is None:
        return
    start, stop = inside
    places = [layer.nearest(axis, int(start[axis]), int(stop[axis])) for axis in range(3)]
    first = np.array([axis[0] for axis in places])
    extent = np.array([axis[-1] + 1 for axis in places]) - first
    for block in cache.blocks(cache.indices(first, extent)):
        in_box, in_block = [], []
        for axis, (block_lower, block_size) in enumerate(zip(block.lower_vx, block.size_vx, strict=True)):
            begin, end = np.searchsorted(places[axis], (block_lower, block_lower + block_size))  # places ascend
            offset = int(start[axis] - lower_vx[axis])
            in_box.append(slice(offset + int(begin), offset + int(end)))
            in_block.append(places[axis][begin:end] - block_lower)
        if all(len(axis) for axis in in_block):  # a voxel that is thinner than the grid's may be skipped
            x, y, z = in_box
            yield Part(block, (x, y, z), tuple(in_block))


def _inside(
    layer: ResampledLayer, lower_vx: NDArray[np.int64], size_vx: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """First voxel and one past the last of a box's part in the volume; None if there is none."""
    start, stop = np.maximum(lower_vx, layer.lower_vx), np.minimum(lower_vx + size_vx, layer.upper_vx)
    return None if (stop <= start).any() else (start, stop)


def _stored_box(
    layer: ResampledLayer, lower_vx: NDArray[np.int64], size_vx: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """First voxel and extent of what is read of the stored scale for a box; None if it is outside of the volume."""
    inside = _inside(layer, lower_vx, size_vx)
    if inside is None:
        return None
    start, stop = inside
    if layer.holds_ids:
        places = [layer.nearest(axis, int(start[axis]), int(stop[axis])) for axis in range(3)]
        bounds = np.array([(axis[0], axis[-1] + 1) for axis in places])
    else:
        bounds = np.array([layer.taps(axis, int(start[axis]), int(stop[axis])).bounds for axis in range(3)])
    return bounds[:, 0], bounds[:, 1] - bounds[:, 0]
