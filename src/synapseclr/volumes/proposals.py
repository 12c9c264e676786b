"""Settings proposed for tables and volumes of one's own: voxel size, sizes of chunk and crop, unit of the positions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from synapseclr.errors import VolumeError
from synapseclr.volumes.layers.layer import SCALE_TOLERANCE, NoScaleError, VolumeLayer

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from synapseclr.volumes.layers.layer import OpenLayer

VoxelSize: TypeAlias = tuple[float, float, float]

_PREFERRED_NM = 8.0  # in plane, as published: vesicles are 5 voxels wide
_CHUNK_NM, _CROP_NM = 1024.0, 768.0  # the chunk is larger by a third, so that the crop can turn in it
_NOT_A_SIZE_NM = (1e-6, 1e-6, 1e-6)
_SEED = 0
_MOST_TRIED = 12  # synapses by which a unit is judged
_REACH_NM = 150.0  # from a centre to both of its neurites
_LEAST_INSIDE, _LEAST_FITTING = 0.75, 0.5


def voxel_sizes_nm(layer: VolumeLayer) -> list[VoxelSize]:
    """Voxel sizes (x, y, z) of all scales of a layer.

    Raises:
        VolumeError: If nothing readable lies at its address, or it has no scale.
        UnreachableError: If the store does not answer, or refuses access.
    """
    try:
        layer.at_resolution(_NOT_A_SIZE_NM)  # which no volume has: the error lists those that there are
    except NoScaleError as error:
        if error.sizes_nm:
            return error.sizes_nm
    raise VolumeError(f"The {layer.role} at {layer.uri} has no scale. Write it anew, or name another volume.")


def propose_voxel_size(sizes_of_layers: Sequence[Sequence[VoxelSize]]) -> VoxelSize:
    """Choose the voxel size of the chunks.

    Args:
        sizes_of_layers: Voxel sizes (x, y, z) in nm by layer, of the EM first.

    Returns:
        Of the sizes that all layers have, the one nearest to the published 8 nm in plane; without any, of the EM's
        sizes the one nearest to the finest that all layers resolve, to which the others are then resampled.
    """
    first, *others = sizes_of_layers
    shared = [size for size in first if all(is_among(size, sizes) for sizes in others)]
    if shared:
        return min(shared, key=lambda size: abs(np.log(size[0] / _PREFERRED_NM)))
    resolved_x = max(min(size[0] for size in sizes) for sizes in sizes_of_layers)
    return min(first, key=lambda size: abs(np.log(size[0] / max(resolved_x, _PREFERRED_NM))))


def is_among(wanted_nm: VoxelSize, sizes_nm: Iterable[VoxelSize]) -> bool:
    """Tell whether one of the sizes is the wanted one."""
    return any(np.allclose(size, wanted_nm, rtol=SCALE_TOLERANCE, atol=0) for size in sizes_nm)


def nearest_size(wanted_nm: VoxelSize, sizes_nm: Sequence[VoxelSize]) -> VoxelSize:
    """The size that differs least from the wanted one, by ratio along x."""
    return min(sizes_nm, key=lambda size: abs(np.log(size[0] / wanted_nm[0])))


def propose_chunk_size(voxel_size_nm: VoxelSize, extent_nm: NDArray[np.float64]) -> tuple[int, int, int]:
    """Voxels (x, y, z) of a chunk of about 1 um in each direction, even, and no larger than the volume (3,)."""
    even = (
        2 * max(1, round(min(_CHUNK_NM, extent) / size / 2))
        for size, extent in zip(voxel_size_nm, extent_nm, strict=True)
    )
    fitting = (min(n, int(extent / size)) for n, size, extent in zip(even, voxel_size_nm, extent_nm, strict=True))
    x, y, z = fitting
    return x, y, z


def propose_crop_size(voxel_size_nm: VoxelSize, chunk_size_vx: tuple[int, int, int]) -> int:
    """Voxels along x of the cube that the network sees: 0.77 um, less in a small chunk; even."""
    smallest_nm = min(n * size for n, size in zip(chunk_size_vx, voxel_size_nm, strict=True))
    return 2 * max(1, int(min(_CROP_NM, 0.75 * smallest_nm) / voxel_size_nm[0] / 2))


@dataclass(frozen=True)
class UnitFit:
    """Fit of positions to the segmentation, read in one unit.

    Attributes:
        unit_nm: Size (x, y, z) in nm of one unit.
        inside: Share of the synapses inside of the segmentation.
        fitting: Share of the synapses tried that have both of their neurites within 150 nm.
    """

    unit_nm: VoxelSize
    inside: float
    fitting: float


def find_unit(
    synapses: pd.DataFrame, segmentation: OpenLayer, size_nm: VoxelSize, sizes_nm: Iterable[VoxelSize]
) -> UnitFit | None:
    """Find the unit of a table's positions by its neurites: only in the right unit are both of them at the centre.

    Args:
        synapses: Of the standard form, with positions ``ctr_pos_{x,y,z}_vx``.
        segmentation: A scale of root ids.
        size_nm: Its voxel size.
        sizes_nm: Voxel sizes of the layers, which are tried first; then halves and quarters of them in plane, and nm.

    Returns:
        The unit that fits best; None if in no unit half of the synapses tried are where their neurites are.
    """
    rng = np.random.default_rng(_SEED)
    rows = np.sort(rng.choice(len(synapses), min(_MOST_TRIED, len(synapses)), replace=False))
    positions = synapses[[f"ctr_pos_{axis}_vx" for axis in "xyz"]].to_numpy(np.float64)
    roots = np.stack(
        [synapses[f"{side}_root_id"].to_numpy()[rows].astype(np.uint64) for side in ("pre", "post")], axis=1
    )
    best: UnitFit | None = None
    for unit in _units(sizes_nm):
        voxel_n3 = np.floor(positions * np.asarray(unit) / np.asarray(size_nm)).astype(np.int64)
        is_inside = ((voxel_n3 >= segmentation.lower_vx) & (voxel_n3 < segmentation.upper_vx)).all(axis=1)
        if is_inside.mean() < _LEAST_INSIDE:
            continue
        has_both = [_has_ids(segmentation, voxel_n3[row], size_nm, ids) for row, ids in zip(rows, roots, strict=True)]
        found = UnitFit(unit, float(is_inside.mean()), float(np.mean(has_both)))
        if best is None or found.fitting > best.fitting:
            best = found
    return best if best is not None and best.fitting >= _LEAST_FITTING else None


def _units(sizes_nm: Iterable[VoxelSize]) -> list[VoxelSize]:
    sizes = list(dict.fromkeys(sizes_nm))
    finer = [(x * f, y * f, z) for f in (1 / 2, 1 / 4, 2) for x, y, z in sizes]
    return list(dict.fromkeys([*sizes, *finer, (1.0, 1.0, 1.0), (1000.0, 1000.0, 1000.0)]))


def _has_ids(layer: OpenLayer, voxel: NDArray[np.int64], size_nm: VoxelSize, ids: NDArray[np.uint64]) -> bool:
    reach_vx = np.ceil(_REACH_NM / np.asarray(size_nm)).astype(np.int64)
    if ((voxel + reach_vx < layer.lower_vx) | (voxel - reach_vx >= layer.upper_vx)).any():
        return False
    return bool(np.isin(ids, np.unique(layer.read(voxel - reach_vx, 2 * reach_vx + 1))).all())
