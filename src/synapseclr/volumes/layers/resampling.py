"""Layers of another voxel size than the chunks': where voxels lie in each other, and how they are read.

All layers share one frame, in nm: voxel ``i`` of an axis covers ``origin + i * size`` to ``origin + (i + 1) * size``,
as in Neuroglancer, so that voxels of different sizes share edges and not centres. Along each axis, intensities are
averaged over the voxels that a coarser one covers, or interpolated linearly between the centres of coarser ones; an id
is that of the voxel in which the centre lies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.errors import VolumeError
from synapseclr.volumes.layers.layer import NoScaleError, OpenLayer, VolumeLayer, as_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

VoxelSize = tuple[float, float, float]
RESAMPLING_VERSION = 1
"""Goes up when the same layer would give other voxels."""

_ON_EDGE = 1e-6
"""Voxels that a position may be off by, for want of exact numbers; one on an edge belongs to the upper voxel."""

_LEAST_KNOWN = 0.5
"""A section is missing if less than this share of its weight lies on sections that are there."""


@dataclass(frozen=True)
class Taps:
    """Voxels of one axis of a layer that voxels of the chunks' grid are made of.

    Attributes:
        place_tk: Voxels of the layer by voxel of the grid, int64 (t, k).
        weight_tk: Their weights, float32 (t, k); the sum is 1.
    """

    place_tk: NDArray[np.int64]
    weight_tk: NDArray[np.float32]

    @property
    def bounds(self) -> tuple[int, int]:
        """First voxel of the layer that is needed, and one past the last."""
        return int(self.place_tk.min()), int(self.place_tk.max()) + 1

    @property
    def is_copy(self) -> bool:
        """Tell whether voxels are taken one by one, as they are."""
        return self.place_tk.shape[1] == 1 and bool((np.diff(self.place_tk[:, 0]) == 1).all())

    def without(self, is_missing_s: NDArray[np.bool_]) -> Taps:
        """Weights that leave out voxels of the layer: what remains is scaled up, or 0 if it is less than half.

        Args:
            is_missing_s: By voxel of the layer, from the first one of ``bounds`` on, boolean (s,).
        """
        kept_tk = np.where(is_missing_s[self.place_tk - self.bounds[0]], 0, self.weight_tk)
        known_t = kept_tk.sum(axis=1, keepdims=True)
        scaled_tk = kept_tk / np.maximum(known_t, _LEAST_KNOWN)
        is_known = known_t > _LEAST_KNOWN - _ON_EDGE
        return Taps(self.place_tk, np.where(is_known, scaled_tk, 0).astype(np.float32))


@dataclass(frozen=True)
class ResampledLayer(OpenLayer):
    """One scale of a layer, read on a grid of another voxel size that begins at 0 nm.

    A voxel of the grid is inside of the volume if its centre is.

    Attributes:
        layer: Where it lies.
        source: The scale as it is stored.
        source_size_nm: Voxel size of that (x, y, z).
        voxel_size_nm: Voxel size of the grid (x, y, z).
        holds_ids: Whether voxels are ids, not intensities.
    """

    layer: VolumeLayer
    source: OpenLayer
    source_size_nm: VoxelSize
    voxel_size_nm: VoxelSize
    holds_ids: bool

    @property
    def stored(self) -> OpenLayer:
        """The scale whose blocks are read."""
        return self.source

    @cached_property
    def lower_vx(self) -> NDArray[np.int64]:
        """First voxel of the grid whose centre lies in the volume (x, y, z)."""
        return self._first_inside(self.source.lower_vx)

    @cached_property
    def upper_vx(self) -> NDArray[np.int64]:
        """One past the last voxel of the grid whose centre lies in the volume (x, y, z)."""
        return self._first_inside(self.source.upper_vx)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a voxel."""
        return self.source.dtype

    @property
    def codec(self) -> str:
        """Encoding of the storage blocks, as the volume names it."""
        return self.source.codec

    @property
    def block_size_vx(self) -> NDArray[np.int64]:
        """Size of a storage block in voxels of the grid, rounded up (x, y, z)."""
        return np.ceil(self.source.block_size_vx / self._ratio - _ON_EDGE).astype(np.int64)

    @property
    def n_stored_per_voxel(self) -> float:
        """Voxels that are read for one of the grid."""
        return float(self._ratio.prod())

    def __str__(self) -> str:
        """Both voxel sizes as text: "EM volume: 7.5 x 7.5 x 50 nm, resampled to 8 x 8 x 40 nm"."""
        return f"{self.layer.role}: {as_size(self.source_size_nm)}, resampled to {as_size(self.voxel_size_nm)}"

    def identity(self) -> str:
        """Digest of the scale and of how it is resampled."""
        how = (RESAMPLING_VERSION, self.source_size_nm, self.voxel_size_nm, self.holds_ids)
        return hashlib.sha256(f"{self.source.identity()}{how}".encode()).hexdigest()

    @property
    def _ratio(self) -> NDArray[np.float64]:
        return np.asarray(self.voxel_size_nm) / np.asarray(self.source_size_nm)

    def _first_inside(self, edge_vx: NDArray[np.int64]) -> NDArray[np.int64]:
        edge_nm = self.source.origin_nm + edge_vx * np.asarray(self.source_size_nm)
        return np.ceil(edge_nm / np.asarray(self.voxel_size_nm) - 0.5 - _ON_EDGE).astype(np.int64)

    def nearest(self, axis: int, start: int, stop: int) -> NDArray[np.int64]:
        """Voxels of the stored scale in which the centres of the grid's voxels lie.

        Args:
            axis: 0, 1 or 2: x, y or z.
            start: First voxel of the grid, inside of the volume.
            stop: One past the last one.

        Returns:
            Ascending, int64 (stop - start,).
        """
        centre_t = self._in_stored(axis, np.arange(start, stop) + 0.5)
        lower, upper = int(self.source.lower_vx[axis]), int(self.source.upper_vx[axis])
        return np.clip(np.floor(centre_t + _ON_EDGE).astype(np.int64), lower, upper - 1)

    def taps(self, axis: int, start: int, stop: int) -> Taps:
        """Voxels of the stored scale and their weights, of which intensities are made; arguments as of ``nearest``."""
        edge_t = self._in_stored(axis, np.arange(start, stop + 1))
        if self._ratio[axis] > 1 + _ON_EDGE:  # coarser: the part of every voxel that lies between two edges
            first_t = np.floor(edge_t[:-1] + _ON_EDGE).astype(np.int64)
            n_taps = int((np.ceil(edge_t[1:] - _ON_EDGE) - first_t).max())
            place_tk = first_t[:, None] + np.arange(n_taps)
            parts_tk = np.minimum(place_tk + 1, edge_t[1:, None]) - np.maximum(place_tk, edge_t[:-1, None])
            weight_tk = np.clip(parts_tk, 0, None) / self._ratio[axis]
        else:  # finer: the centres on either side
            centre_t = (edge_t[:-1] + edge_t[1:]) / 2 - 0.5
            first_t = np.floor(centre_t + _ON_EDGE).astype(np.int64)
            share_t = np.clip(centre_t - first_t, 0, 1)
            place_tk, weight_tk = first_t[:, None] + np.arange(2), np.stack([1 - share_t, share_t], axis=1)
        is_used = weight_tk.max(axis=0) > _ON_EDGE
        # beyond the border, voxels are taken to be as the last one
        place_tk = np.clip(place_tk[:, is_used], self.source.lower_vx[axis], self.source.upper_vx[axis] - 1)
        weight_tk = weight_tk[:, is_used]
        return Taps(place_tk, (weight_tk / weight_tk.sum(axis=1, keepdims=True)).astype(np.float32))

    def _in_stored(self, axis: int, position_t: NDArray[Any]) -> NDArray[np.float64]:
        """Positions on the grid, whose voxel ``t`` covers ``t`` to ``t + 1``, likewise in the stored scale."""
        position_nm = position_t * self.voxel_size_nm[axis] - self.source.origin_nm[axis]
        return np.asarray(position_nm / self.source_size_nm[axis], np.float64)

    def _voxels(self, start: NDArray[np.int64], stop: NDArray[np.int64]) -> NDArray[Any]:
        if self.holds_ids:
            index = [self.nearest(axis, int(start[axis]), int(stop[axis])) for axis in range(3)]
            lower, upper = (np.array([f(places) for places in index]) for f in (np.min, np.max))
            box_xyz = self.source.download(lower, upper + 1)
            return box_xyz[np.ix_(*(places - first for places, first in zip(index, lower, strict=True)))]
        taps = [self.taps(axis, int(start[axis]), int(stop[axis])) for axis in range(3)]
        bounds = np.array([each.bounds for each in taps])
        return weighted_means(self.source.download(bounds[:, 0], bounds[:, 1]), taps)


def weighted_means(box_xyz: NDArray[np.uint8], taps: Sequence[Taps]) -> NDArray[np.uint8]:
    """Make voxels of the grid out of a box of the stored scale.

    Args:
        box_xyz: The box that the bounds of the taps span.
        taps: Of x, y and z.
    """
    from synapseclr.volumes.voxel_loops import weighted_sums

    means = np.ascontiguousarray(box_xyz, np.float32)
    for axis, each in enumerate(taps):
        if each.is_copy:
            continue
        before, after = int(np.prod(means.shape[:axis])), int(np.prod(means.shape[axis + 1 :]))
        sums = np.empty((before, len(each.place_tk), after), np.float32)
        weighted_sums(means.reshape(before, -1, after), each.place_tk - each.bounds[0], each.weight_tk, sums)
        means = sums.reshape(*means.shape[:axis], len(each.place_tk), *means.shape[axis + 1 :])
    return np.floor(means + 0.5).astype(np.uint8)


def open_on_grid(layer: VolumeLayer, voxel_size_nm: VoxelSize, most_ratio: float, holds_ids: bool) -> OpenLayer:
    """Open a layer at a voxel size, whether or not it has a scale of it.

    Args:
        layer: The layer.
        voxel_size_nm: Voxel size of the chunks (x, y, z).
        most_ratio: Largest ratio of two voxel sizes along an axis, in either direction, that is resampled; 1: none.
        holds_ids: Whether its voxels are ids, not intensities.

    Returns:
        The scale of this voxel size as it is stored; else that of the scales :func:`nearest_size` chooses, resampled.

    Raises:
        VolumeError: As :meth:`VolumeLayer.at_resolution`, or if every scale is too coarse or too fine.
    """
    try:
        return layer.at_resolution(voxel_size_nm)
    except NoScaleError as error:
        size_nm = nearest_size(error.sizes_nm, voxel_size_nm, most_ratio)
        if size_nm is None:
            raise VolumeError(
                f"{error} It may also be one that differs from a scale by a factor of at most "
                f"preprocessing.max_resampling = {most_ratio:g} along each axis, to which the layer is then resampled."
            ) from error
    return ResampledLayer(layer, layer.at_resolution(size_nm), size_nm, voxel_size_nm, holds_ids)


def nearest_size(sizes_nm: Sequence[VoxelSize], wanted_nm: VoxelSize, most_ratio: float) -> VoxelSize | None:
    """Choose the scale to resample: one that is not coarser than wanted, or as little as can be; of these the coarsest.

    Args:
        sizes_nm: Voxel sizes of the scales.
        wanted_nm: That of the grid.
        most_ratio: Largest ratio along an axis, in either direction.

    Returns:
        Its voxel size; None if all are too coarse or too fine.
    """

    def badness(size_nm: VoxelSize) -> tuple[float, float]:
        log_ratio = np.log(np.asarray(size_nm) / np.asarray(wanted_nm))
        return round(float(np.clip(log_ratio, 0, None).sum()), 6), -float(log_ratio.sum())

    limit = np.log(most_ratio) + _ON_EDGE
    usable = [size for size in sizes_nm if (np.abs(np.log(np.asarray(size) / np.asarray(wanted_nm))) <= limit).all()]
    return min(usable, key=badness) if usable and most_ratio > 1 else None
