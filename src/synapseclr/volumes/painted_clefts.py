"""Clefts of synapses that come as points: painted where the two segments touch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def paint_cleft(
    is_pre_xyz: NDArray[np.bool_],
    is_post_xyz: NDArray[np.bool_],
    pre_point_vx: NDArray[np.float64],
    post_point_vx: NDArray[np.float64],
    voxel_size_nm: tuple[float, float, float],
    thickness_nm: float,
    radius_nm: float,
) -> NDArray[np.bool_]:
    """Mark the contact of two segments where the line between two points crosses it.

    The middle of the contact is where both segments are equally far; what lies within half the thickness of it, and no
    further than the thickness from either segment, is the zone of contact. Of this zone, the voxel nearest to the line
    is the synapse's centre, and the connected part of it within the radius is the cleft.

    Args:
        is_pre_xyz: The presynaptic segment.
        is_post_xyz: The postsynaptic segment, same shape.
        pre_point_vx: A point (3,) on or near the presynaptic side, in voxels of the arrays.
        post_point_vx: Likewise of the postsynaptic side; may be the same point.
        voxel_size_nm: Size of a voxel (x, y, z).
        thickness_nm: Of the cleft, across; two voxels at least are painted, one on either side of a contact.
        radius_nm: Largest distance of a cleft's voxel from its centre.

    Returns:
        Boolean, of the same shape; nothing is marked if the segments do not come as near as the thickness.
    """
    from cc3d import connected_components
    from edt import edt
    from scipy.ndimage import binary_dilation

    marked_xyz = np.zeros(is_pre_xyz.shape, bool)
    unit_nm = np.asarray(voxel_size_nm, np.float64)
    box = _around((pre_point_vx, post_point_vx), (radius_nm + 2 * thickness_nm) / unit_nm, is_pre_xyz.shape)
    is_pre, is_post = np.asfortranarray(is_pre_xyz[box]), np.asfortranarray(is_post_xyz[box])
    if not (is_pre.any() and is_post.any()):
        return marked_xyz
    # signed distances: negative inside, in nm, measured between centres of voxels
    to_pre, to_post = (
        edt(~mask, anisotropy=voxel_size_nm) - edt(mask, anisotropy=voxel_size_nm) for mask in (is_pre, is_post)
    )
    reach = max(thickness_nm, 2 * float(unit_nm.min()))
    is_zone = (np.abs(to_pre - to_post) <= reach) & (np.maximum(to_pre, to_post) <= reach)
    # voxels on either side of a contact between two sections differ by twice the thickness of one
    is_zone |= (is_pre & binary_dilation(is_post)) | (is_post & binary_dilation(is_pre))
    places_n3 = np.argwhere(is_zone)
    if not len(places_n3):
        return marked_xyz
    origin = np.array([axis.start for axis in box])
    points_nm = [(np.asarray(point) - origin) * unit_nm for point in (pre_point_vx, post_point_vx)]
    positions_nm = places_n3 * unit_nm
    centre = int(np.argmin(_distance_to_line(positions_nm, *points_nm)))
    is_near = np.zeros_like(is_zone)
    is_near[tuple(places_n3[np.linalg.norm(positions_nm - positions_nm[centre], axis=1) <= radius_nm].T)] = True
    labels = connected_components(is_near.astype(np.uint8), connectivity=26, max_labels=is_near.size)
    marked_xyz[box] = labels == labels[tuple(places_n3[centre])]
    return marked_xyz


def _around(
    points_vx: tuple[NDArray[np.float64], ...], margin_vx: NDArray[np.float64], shape: tuple[int, ...]
) -> tuple[slice, ...]:
    """The part of an array that holds all points, with a margin."""
    lower = np.floor(np.min(points_vx, axis=0) - margin_vx).astype(int)
    upper = np.ceil(np.max(points_vx, axis=0) + margin_vx).astype(int) + 1
    return tuple(slice(max(int(a), 0), max(min(int(b), n), 0)) for a, b, n in zip(lower, upper, shape, strict=True))


def _distance_to_line(
    positions_n3: NDArray[np.float64], start: NDArray[np.float64], stop: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Distance of positions from the stretch between two points; of equally near ones, those near its middle first."""
    along = stop - start
    length_squared = float(along @ along)
    share_n = (
        np.clip((positions_n3 - start) @ along / length_squared, 0, 1)
        if length_squared
        else np.zeros(len(positions_n3))
    )
    distance_n = np.linalg.norm(positions_n3 - (start + share_n[:, None] * along), axis=1)
    return distance_n + 1e-3 * np.linalg.norm(positions_n3 - (start + stop) / 2, axis=1)
