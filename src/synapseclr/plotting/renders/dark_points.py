"""The dark structures inside of a synapse: membranes, vesicles, densities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class DarkPoints(NamedTuple):
    """Voxels that stand for dark structures.

    Attributes:
        positions_p3: float32 (p, 3): x, y, z in nm, counted from the middle of the chunk's first voxel.
        intensity_p: uint8 (p,).
        code_p: uint8 (p,): mask code of each.
    """

    positions_p3: np.ndarray
    intensity_p: np.ndarray
    code_p: np.ndarray


def dark_points(
    chunk_cxyz: np.ndarray,
    voxel_size_nm: Sequence[float],
    erosion_vx: int = 2,
    max_points: int = 6_000,
    seed: int = 0,
) -> DarkPoints:
    """Select voxels darker than their section's Otsu threshold, inside the masks and away from their outer border.

    Args:
        chunk_cxyz: uint8 (2, x, y, z): intensity, mask codes.
        voxel_size_nm: Voxel size (x, y, z).
        erosion_vx: Width of the border that is left out within each section, where the neurite's own membrane would
            hide what lies inside.
        max_points: Limit of points; of more, as many are drawn at random.
        seed: Seed of that draw.

    Returns:
        The points, none where a section has no masks or a single grey value.

    Source: published renders; the threshold, Otsu 1979, doi:10.1109/TSMC.1979.4310076.
    """
    from scipy.ndimage import binary_erosion, generate_binary_structure
    from skimage.filters import threshold_otsu

    intensity_xyz, mask_xyz = chunk_cxyz
    is_inside_xyz = mask_xyz > 0
    if erosion_vx > 0:
        in_section = generate_binary_structure(2, 1)[:, :, None]
        # A mask that is cut by the chunk's border has no membrane there.
        is_inside_xyz = binary_erosion(is_inside_xyz, in_section, iterations=erosion_vx, border_value=1)
    is_dark_xyz = np.zeros_like(is_inside_xyz)
    for section in np.flatnonzero(is_inside_xyz.any(axis=(0, 1))):
        grey_xy, inside_xy = intensity_xyz[:, :, section], is_inside_xyz[:, :, section]
        inside = grey_xy[inside_xy]
        if inside.min() < inside.max():
            is_dark_xyz[:, :, section] = inside_xy & (grey_xy <= threshold_otsu(inside))
    positions_p3 = np.argwhere(is_dark_xyz)
    if len(positions_p3) > max_points:
        chosen = np.random.default_rng(seed).choice(len(positions_p3), size=max_points, replace=False)
        positions_p3 = positions_p3[np.sort(chosen)]
    places = tuple(positions_p3.T)
    size_nm = np.asarray(voxel_size_nm, dtype=np.float32)
    return DarkPoints(positions_p3.astype(np.float32) * size_nm, intensity_xyz[places], mask_xyz[places])
