"""A synapse in three dimensions: smooth surfaces around its masks, dark structures inside, and the camera."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from synapseclr.analysis.handcrafted import CleftPlane, cleft_plane, view_axes
from synapseclr.errors import VolumeError
from synapseclr.plotting.theme import MASK_COLOURS

_SMOOTHING_STEPS = 24
_PASS_BAND = 0.06  # of Taubin's filter: below it lie the steps between voxels
_SIMPLIFIED_AT_MOST = 8_000  # triangles
OPACITY: Mapping[int, float] = {1: 0.26, 2: 0.9, 3: 0.26}
"""Of the surfaces, by mask code: the cleft, which lies between the others, is nearly opaque."""

_CAMERA_MARGIN = 1.12


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
        """True if there is nothing to draw."""
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


@dataclass(frozen=True)
class Camera:
    """Where a synapse is seen from.

    Attributes:
        focus_xyz_nm: float64 (3,): what is in the middle of the picture.
        towards_viewer: float64 (3,): unit vector from there to the viewer, in the cleft's plane.
        up: float64 (3,): unit vector, normal to the cleft, presynaptic side up.
        radius_nm: Half of the picture's height, so that the synapse fills it.
        reach_nm: The same, so that nothing leaves the picture whichever way the synapse is turned.
    """

    focus_xyz_nm: np.ndarray
    towards_viewer: np.ndarray
    up: np.ndarray
    radius_nm: float
    reach_nm: float

    def turned(self, degrees: float) -> Camera:
        """Carry the camera around the vertical; the picture is wide enough for every angle."""
        angle = np.deg2rad(degrees)
        sideways = np.cross(self.up, self.towards_viewer)
        turned = np.cos(angle) * self.towards_viewer + np.sin(angle) * sideways
        return Camera(self.focus_xyz_nm, turned, self.up, self.reach_nm, self.reach_nm)


@dataclass(frozen=True)
class SynapseScene:
    """Surfaces, points, and the camera that shows them best.

    Attributes:
        surfaces: By mask code; empty surfaces are left out.
        points: Dark structures inside.
        plane: Of the cleft.
        camera: The standard view.
        size_nm: float64 (3,): extent of the chunk.
    """

    surfaces: Mapping[int, Surface]
    points: DarkPoints
    plane: CleftPlane
    camera: Camera
    size_nm: np.ndarray


def synapse_scene(
    chunk_cxyz: np.ndarray,
    voxel_size_nm: Sequence[float],
    max_triangles: int = 8_000,
    max_points: int = 6_000,
    erosion_vx: int = 2,
) -> SynapseScene:
    """Build the view of one synapse.

    Args:
        chunk_cxyz: uint8 (2, x, y, z): intensity, mask codes.
        voxel_size_nm: Voxel size (x, y, z).
        max_triangles: Limit per surface.
        max_points: Limit of the points inside.
        erosion_vx: As for :func:`dark_points`.

    Returns:
        The scene. An absent or tiny cleft has no plane of its own: the camera then takes the z axis for its normal.

    Raises:
        VolumeError: If the chunk has another form.
    """
    if chunk_cxyz.ndim != 4 or chunk_cxyz.shape[0] != 2:
        raise VolumeError(
            f"A chunk to draw has the form (2, x, y, z): intensity, masks. This one has {chunk_cxyz.shape}."
        )
    mask_xyz = chunk_cxyz[1]
    found = {code: mask_surface(mask_xyz == code, voxel_size_nm, max_triangles) for code in MASK_COLOURS}
    surfaces = {code: surface for code, surface in found.items() if not surface.is_empty}
    plane = cleft_plane(mask_xyz, voxel_size_nm)
    _, other = view_axes(mask_xyz, plane, voxel_size_nm)
    size_nm = np.asarray(mask_xyz.shape) * np.asarray(voxel_size_nm, dtype=np.float64)
    camera = _camera(surfaces, plane, other, size_nm)
    points = dark_points(chunk_cxyz, voxel_size_nm, erosion_vx, max_points)
    return SynapseScene(surfaces, points, plane, camera, size_nm)


def _camera(surfaces: Mapping[int, Surface], plane: CleftPlane, towards: np.ndarray, size_nm: np.ndarray) -> Camera:
    """Stand in the cleft's plane, so far off that everything is in the picture."""
    if not surfaces:
        reach = float(np.linalg.norm(size_nm)) / 2
        return Camera(size_nm / 2, towards, plane.normal_xyz, reach * _CAMERA_MARGIN, reach * _CAMERA_MARGIN)
    vertices_v3 = np.concatenate([surface.vertices_v3 for surface in surfaces.values()]).astype(np.float64)
    frame_33 = np.stack([np.cross(plane.normal_xyz, towards), plane.normal_xyz, towards], axis=1)
    seen_v3 = vertices_v3 @ frame_33
    low, high = seen_v3.min(axis=0), seen_v3.max(axis=0)
    focus = frame_33 @ ((low + high) / 2)
    radius = float((high - low)[:2].max()) / 2
    reach = float(np.linalg.norm(vertices_v3 - focus, axis=1).max())
    return Camera(focus, towards, plane.normal_xyz, max(radius * _CAMERA_MARGIN, 1.0), max(reach * _CAMERA_MARGIN, 1.0))
