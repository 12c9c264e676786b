"""What a three-dimensional view of a synapse shows, and from where; drawn by :mod:`image` and :mod:`interactive`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from synapseclr.analysis.handcrafted import CleftPlane, cleft_plane, view_axes
from synapseclr.errors import VolumeError
from synapseclr.plotting.renders.dark_points import DarkPoints, dark_points
from synapseclr.plotting.renders.surfaces import Surface, mask_surface
from synapseclr.plotting.theme import MASK_COLOURS

OPACITY: Mapping[int, float] = {1: 0.26, 2: 0.9, 3: 0.26}
"""Of the surfaces, by mask code: the cleft, which lies between the others, is nearly opaque."""

_MARGIN = 1.12


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
        return Camera(size_nm / 2, towards, plane.normal_xyz, reach * _MARGIN, reach * _MARGIN)
    vertices_v3 = np.concatenate([surface.vertices_v3 for surface in surfaces.values()]).astype(np.float64)
    frame_33 = np.stack([np.cross(plane.normal_xyz, towards), plane.normal_xyz, towards], axis=1)
    seen_v3 = vertices_v3 @ frame_33
    low, high = seen_v3.min(axis=0), seen_v3.max(axis=0)
    focus = frame_33 @ ((low + high) / 2)
    radius = float((high - low)[:2].max()) / 2
    reach = float(np.linalg.norm(vertices_v3 - focus, axis=1).max())
    return Camera(focus, towards, plane.normal_xyz, max(radius * _MARGIN, 1.0), max(reach * _MARGIN, 1.0))
