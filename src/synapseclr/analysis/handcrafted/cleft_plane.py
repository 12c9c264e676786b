"""The plane of a synaptic cleft, and how to look at a synapse from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_PRE, _CLEFT, _POST = 1, 2, 3
_Z = np.array([0.0, 0.0, 1.0])
_UNIT_SIZE = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class CleftPlane:
    """Plane through a cleft.

    Attributes:
        centre_xyz_nm: float64 (3,): mean position of the cleft's voxels; the chunk's middle if there is none.
        normal_xyz: float64 (3,): unit vector, pointing to the presynaptic side.
        spread_nm: float64 (3,), ascending: standard deviations of the cleft along normal, shorter and longer axis.
        n_voxels: Voxels of the cleft.
        is_defined: False for a cleft of fewer than three voxels, or all in one line; the normal is then the z axis,
            turned to the presynaptic side.
    """

    centre_xyz_nm: np.ndarray
    normal_xyz: np.ndarray
    spread_nm: np.ndarray
    n_voxels: int
    is_defined: bool


def cleft_plane(mask_xyz: np.ndarray, voxel_size_nm: Sequence[float] = _UNIT_SIZE) -> CleftPlane:
    """Fit a plane to a synapse's cleft by principal component analysis.

    Args:
        mask_xyz: uint8 (x, y, z): 0 background, 1 presynaptic, 2 cleft, 3 postsynaptic.
        voxel_size_nm: Voxel size (x, y, z). Positions count from the middle of the first voxel.

    Returns:
        The plane. Its normal points from the postsynaptic voxels' centre to the presynaptic ones'; where one side is
        absent, the cleft's centre takes its place.

    Source: Wilson & Babadi, bioRxiv 2022.06.07.495207; tested against vectors recorded from the published code.
    """
    size_nm = np.asarray(voxel_size_nm, dtype=np.float64)
    cleft_p3 = _positions(mask_xyz == _CLEFT, size_nm)
    centre = cleft_p3.mean(axis=0) if len(cleft_p3) else (np.array(mask_xyz.shape) - 1) / 2 * size_nm
    offsets_p3 = cleft_p3 - centre
    variance_3, axes_33 = np.linalg.eigh(offsets_p3.T @ offsets_p3 / max(len(cleft_p3), 1))
    spread = np.sqrt(np.maximum(variance_3, 0.0))
    is_defined = bool(len(cleft_p3) >= 3 and spread[1] > 1e-6 * size_nm.min())
    normal = axes_33[:, 0] if is_defined else _Z
    if normal @ _from_post_to_pre(mask_xyz, centre, size_nm) < 0:
        normal = -normal
    return CleftPlane(centre, normal, spread, len(cleft_p3), is_defined)


def view_axes(
    mask_xyz: np.ndarray, plane: CleftPlane, voxel_size_nm: Sequence[float] = _UNIT_SIZE
) -> tuple[np.ndarray, np.ndarray]:
    """Directions within a cleft's plane in which the synapse as a whole is longest and shortest.

    Args:
        mask_xyz: uint8 (x, y, z), as for :func:`cleft_plane`.
        plane: Of the same mask.
        voxel_size_nm: Voxel size (x, y, z).

    Returns:
        Two float64 (3,) unit vectors, perpendicular to each other and to the normal: the longest direction of all
        masked voxels, projected on the plane, and the other one. Looking along the second shows the longest profile.
        Longest, other and normal form a right-handed system; the sign of the first is arbitrary but fixed: its greatest
        component is positive.
    """
    size_nm = np.asarray(voxel_size_nm, dtype=np.float64)
    helper = np.eye(3)[np.argmin(np.abs(plane.normal_xyz))]
    first = np.cross(plane.normal_xyz, helper)
    basis_32 = np.stack([first / np.linalg.norm(first), np.cross(plane.normal_xyz, first / np.linalg.norm(first))], 1)
    masked_p3 = _positions(mask_xyz > 0, size_nm)
    if len(masked_p3):
        offsets_p2 = (masked_p3 - masked_p3.mean(axis=0)) @ basis_32
        basis_32 = basis_32 @ np.linalg.eigh(offsets_p2.T @ offsets_p2)[1][:, ::-1]
    longest = basis_32[:, 0]
    longest = longest * np.sign(longest[np.argmax(np.abs(longest))])
    return longest, np.cross(plane.normal_xyz, longest)


def _positions(is_inside_xyz: np.ndarray, size_nm: np.ndarray) -> np.ndarray:
    return np.argwhere(is_inside_xyz) * size_nm


def _from_post_to_pre(mask_xyz: np.ndarray, centre: np.ndarray, size_nm: np.ndarray) -> np.ndarray:
    ends = []
    for code in (_PRE, _POST):
        middle = _centroid(mask_xyz == code)
        ends.append(centre if middle is None else middle * size_nm)
    return np.asarray(ends[0] - ends[1])


def _centroid(is_inside_xyz: np.ndarray) -> np.ndarray | None:
    """Mean index of a mask's voxels from its projections: a neurite has too many to list them; None if it has none."""
    counts_xy, counts_z = is_inside_xyz.sum(axis=2), is_inside_xyz.sum(axis=(0, 1))
    if not counts_z.any():
        return None
    projections = (counts_xy.sum(axis=1), counts_xy.sum(axis=0), counts_z)
    return np.array([counts @ np.arange(len(counts)) / counts_z.sum() for counts in projections])
