"""Smooth surfaces around masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_SMOOTHING_STEPS = 24
_PASS_BAND = 0.06  # of Taubin's filter: below it lie the steps between voxels
_SIMPLIFIED_AT_MOST = 8_000  # triangles


class Surface(NamedTuple):
    """A closed triangle mesh.

    Attributes:
        vertices_v3: float32 (v, 3): x, y, z in nm, counted from the middle of the chunk's first voxel.
        triangles_t3: int32 (t, 3): indices of vertices.
    """

    vertices_v3: np.ndarray
    triangles_t3: np.ndarray

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return len(self.triangles_t3) == 0


EMPTY_SURFACE = Surface(np.empty((0, 3), np.float32), np.empty((0, 3), np.int32))


def mask_surface(is_inside_xyz: np.ndarray, voxel_size_nm: Sequence[float], max_triangles: int = 8_000) -> Surface:
    """Mesh a mask: marching cubes, smoothed without shrinking, simplified to a limit.

    Args:
        is_inside_xyz: Boolean (x, y, z). The surface is closed where the mask meets the chunk's border.
        voxel_size_nm: Voxel size (x, y, z).
        max_triangles: Limit of triangles, at least 16; more are merged where the surface is flattest.

    Returns:
        The surface; an empty one for an empty mask. A single voxel makes an octahedron.

    Source: Lewiner et al. 2003, doi:10.1080/10867651.2003.10487582; smoothing, Taubin et al. 1996,
    doi:10.1007/3-540-61123-1_170; simplification, Garland & Heckbert 1997, doi:10.1145/258734.258849.
    """
    occupied = [np.flatnonzero(is_inside_xyz.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    if not len(occupied[0]):
        return EMPTY_SURFACE
    start = np.array([indices[0] for indices in occupied])
    box = tuple(slice(indices[0], indices[-1] + 1) for indices in occupied)
    size_nm = np.asarray(voxel_size_nm, dtype=np.float64)
    filled_xyz, middle = is_inside_xyz[box].astype(np.float32), start * size_nm
    surface = _marched(filled_xyz, size_nm, middle)
    while len(surface.triangles_t3) > max(max_triangles, _SIMPLIFIED_AT_MOST):
        # Simplifying a large surface takes longer than making a coarser one.
        factors = np.where((size_nm < 2 * size_nm.min()) & (np.array(filled_xyz.shape) > 1), 2, 1)
        filled_xyz, middle = _pooled(filled_xyz, factors), middle + (factors - 1) / 2 * size_nm
        size_nm = size_nm * factors
        surface = _marched(filled_xyz, size_nm, middle)
    return _smoothed(surface, max_triangles)


def _marched(filled_xyz: np.ndarray, size_nm: np.ndarray, middle: np.ndarray) -> Surface:
    """Surface at the level of a half; ``middle`` is the position of the first voxel's middle in nm."""
    from skimage.measure import marching_cubes

    padded_xyz = np.pad(filled_xyz, 1)
    if padded_xyz.max() <= 0.5:  # pooled away: too thin to be drawn at this size
        return EMPTY_SURFACE
    vertices_v3, triangles_t3, _, _ = marching_cubes(padded_xyz, 0.5)
    return Surface((vertices_v3 - 1) * size_nm + middle, triangles_t3)


def _pooled(filled_xyz: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Means over blocks; what does not fill a block is filled up with emptiness."""
    missing = [(0, -n % int(factor)) for n, factor in zip(filled_xyz.shape, factors, strict=True)]
    whole_xyz = np.pad(filled_xyz, missing)
    shape = [
        size for n, factor in zip(whole_xyz.shape, factors, strict=True) for size in (n // int(factor), int(factor))
    ]
    return np.asarray(whole_xyz.reshape(shape).mean(axis=(1, 3, 5)))


def _smoothed(surface: Surface, max_triangles: int) -> Surface:
    import pyvista

    if surface.is_empty:
        return EMPTY_SURFACE
    mesh = pyvista.PolyData.from_regular_faces(surface.vertices_v3.astype(np.float64), surface.triangles_t3)
    if len(surface.triangles_t3) > 64:  # a handful of voxels has no shape beyond its steps
        mesh = mesh.smooth_taubin(n_iter=_SMOOTHING_STEPS, pass_band=_PASS_BAND)
    if mesh.n_cells > max_triangles:
        mesh = mesh.decimate(1.0 - max_triangles / mesh.n_cells)
    return Surface(np.asarray(mesh.points, np.float32), np.asarray(mesh.regular_faces, np.int32))
