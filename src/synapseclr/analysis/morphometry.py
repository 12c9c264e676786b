"""Sizes of a synapse in physical units, off its masks: areas, volumes, lengths and distances."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from synapseclr.analysis.handcrafted import CleftPlane, OrientedChunks, cleft_plane
from synapseclr.volumes.table_schema import COUNT, FROM_ZERO_RULE, NOT_NEGATIVE, SHARE_RULE, Column, TableSchema

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PRE, _CLEFT, _POST = 1, 2, 3
CONTACT_GAP_NM = 40.0
"""Two sides touch where less than this lies between their surfaces: room for membranes that the segmentation leaves
unlabelled. Where a cleft is labelled, they touch across it, however thick it is."""

_MARGIN_NM = 60.0  # around what is measured, and of distances beyond half of the cleft's thickness

_MAY_LACK = Column(nullable=True, rule=FROM_ZERO_RULE)

MORPHOMETRY_LABELS: dict[str, tuple[str, str]] = {
    "cleft_area_nm2": ("cleft area", "nm²"),
    "cleft_volume_um3": ("cleft volume", "µm³"),
    "cleft_length_nm": ("cleft length", "nm"),
    "cleft_width_nm": ("cleft width", "nm"),
    "cleft_thickness_nm": ("cleft thickness", "nm"),
    "n_cleft_components": ("components of the cleft", ""),
    "contact_area_nm2": ("contact area of both sides", "nm²"),
    "pre_volume_um3": ("presynaptic volume in the chunk", "µm³"),
    "post_volume_um3": ("postsynaptic volume in the chunk", "µm³"),
    "pre_to_post_nm": ("distance of the sides' centroids", "nm"),
    "cleft_to_border_nm": ("cleft's centre to the chunk's border", "nm"),
    "is_cleft_at_border": ("cleft touches the chunk's border", ""),
    "pre_border_share": ("share of the presynaptic surface at the border", ""),
    "post_border_share": ("share of the postsynaptic surface at the border", ""),
}
"""Label and unit of every column, in the table's order."""

SYNAPSE_MORPHOMETRY = TableSchema(
    "The table of morphometry",
    {
        "synapse_id": Column("id", unique=True),
        **dict.fromkeys(("cleft_area_nm2", "cleft_length_nm", "cleft_width_nm", "cleft_thickness_nm"), _MAY_LACK),
        **dict.fromkeys(("cleft_volume_um3", "pre_volume_um3", "post_volume_um3"), NOT_NEGATIVE),
        "contact_area_nm2": NOT_NEGATIVE,
        "n_cleft_components": COUNT,
        "pre_to_post_nm": _MAY_LACK,
        "cleft_to_border_nm": _MAY_LACK,
        "is_cleft_at_border": Column("flag"),
        **{f"{side}_border_share": Column(nullable=True, rule=SHARE_RULE) for side in ("pre", "post")},
    },
    key="synapse_id",
    may_be_empty=False,
)


class ContactAreas(NamedTuple):
    """Areas of the surface midway between both sides, in nm².

    Attributes:
        cleft: The part that lies inside the cleft; NaN without a cleft.
        contact: The part where the sides touch, the cleft included; 0 if a side is absent.
    """

    cleft: float
    contact: float


def morphometry(code_xyz: NDArray[np.uint8], voxel_size_nm: Sequence[float]) -> dict[str, float | int | bool]:
    """Measure one synapse.

    Volumes are sums of voxels. Areas are those of a triangulated surface (:func:`contact_areas`), as sums of voxel
    faces would be up to 1.7 times too large on an oblique one. The cleft's thickness is its volume over its area.
    Length and width are extents along the cleft's principal axes.

    Args:
        code_xyz: uint8 (x, y, z): 0 background, 1 presynaptic, 2 cleft, 3 postsynaptic.
        voxel_size_nm: Voxel size (x, y, z) in nm.

    Returns:
        The columns of ``MORPHOMETRY_LABELS``; NaN for what cannot be measured, as lengths without a cleft. Everything
        is of what lies inside the chunk: the last four columns tell how much its border cuts off.
    """
    from cc3d import connected_components

    from synapseclr.volumes.voxel_loops import count_codes

    size_3 = np.asarray(voxel_size_nm, dtype=np.float64)
    # Along an axis, an oblique gap is up to sqrt(3) times as wide as it is across.
    gap_3 = np.ceil(np.sqrt(3.0) * CONTACT_GAP_NM / size_3).astype(np.int64) + 1
    counts_c, sums_c3, faces_c3, border_c3, cleft_23, near_23 = count_codes(code_xyz, gap_3)
    face_nm2_3 = size_3.prod() / size_3
    um3 = counts_c * size_3.prod() / 1e9
    found: dict[str, float | int | bool] = dict.fromkeys(MORPHOMETRY_LABELS, np.nan)
    found |= {"cleft_volume_um3": um3[_CLEFT], "pre_volume_um3": um3[_PRE], "post_volume_um3": um3[_POST]}
    for name, code in (("pre", _PRE), ("post", _POST)):
        border, inside = border_c3[code] @ face_nm2_3, faces_c3[code] @ face_nm2_3
        found[f"{name}_border_share"] = float(border / (border + inside)) if counts_c[code] else np.nan
    has_both_sides = bool(counts_c[_PRE] and counts_c[_POST])
    if has_both_sides:
        between_3 = (sums_c3[_PRE] / counts_c[_PRE] - sums_c3[_POST] / counts_c[_POST]) * size_3
        found["pre_to_post_nm"] = float(np.linalg.norm(between_3))
    found["is_cleft_at_border"] = bool(border_c3[_CLEFT].any())
    areas = contact_areas(code_xyz, voxel_size_nm, cleft_23, near_23, has_both_sides)
    found |= {"cleft_area_nm2": areas.cleft, "contact_area_nm2": areas.contact, "n_cleft_components": 0}
    if counts_c[_CLEFT]:
        cleft_xyz = _part(code_xyz, cleft_23) == _CLEFT
        # Voxels that share a corner belong to one component.
        found["n_cleft_components"] = int(connected_components(cleft_xyz, connectivity=26, return_N=True)[1])
        centre_3 = (sums_c3[_CLEFT] / counts_c[_CLEFT] + 0.5) * size_3
        found["cleft_to_border_nm"] = float(np.minimum(centre_3, code_xyz.shape * size_3 - centre_3).min())
        found["cleft_length_nm"], found["cleft_width_nm"] = cleft_axes(cleft_xyz, size_3)
        if areas.cleft > 0:
            found["cleft_thickness_nm"] = float(counts_c[_CLEFT] * size_3.prod() / areas.cleft)
    return found


def cleft_axes(cleft_xyz: NDArray[np.bool_], size_3: NDArray[np.float64]) -> tuple[float, float]:
    """Length and width of a cleft: the axes of the ellipse with its second moments, as in scikit-image's regionprops.

    Moments do not depend on single voxels; the range from the first to the last voxel would, by a section's thickness.

    Args:
        cleft_xyz: bool (x, y, z), with at least one voxel.
        size_3: Voxel size (x, y, z) in nm.

    Returns:
        The longest axis and the next one in nm, exact for an ellipse; a rectangle of 300 nm has 346 nm.
    """
    places_p3 = np.argwhere(cleft_xyz) * size_3
    # A voxel is a box, not a point: its own variance is a twelfth of its squared edge.
    moments_33 = np.cov(places_p3.T, bias=True) + np.diag(size_3**2 / 12)
    _, width, length = 4 * np.sqrt(np.linalg.eigvalsh(moments_33))
    return float(length), float(width)


def contact_areas(
    code_xyz: NDArray[np.uint8],
    voxel_size_nm: Sequence[float],
    cleft_23: NDArray[np.int64],
    near_23: NDArray[np.int64],
    has_both_sides: bool = True,
) -> ContactAreas:
    """Measure the surface midway between both sides by marching cubes.

    The surface is where the distances to the presynaptic and to the postsynaptic side are equal. It halves the cleft,
    however thick and bent that is, and where the sides touch it is their membrane. Distances are smoothed over about
    half of a section (16 to 24 nm), without which steps between voxels would add 5 to 13 % to oblique surfaces. Where
    the cleft does not lie between two sides, the plane through it takes the surface's place: the larger area is the
    cleft's.

    Args:
        code_xyz: uint8 (x, y, z), as for :func:`morphometry`.
        voxel_size_nm: Voxel size (x, y, z) in nm.
        cleft_23: Lowest and highest indices of the cleft's voxels.
        near_23: The same of voxels of both sides that are near to each other. Without any, the lowest are above the
            highest, in both.
        has_both_sides: Whether there are presynaptic and postsynaptic voxels.

    Returns:
        Both areas.
    """
    from scipy.ndimage import gaussian_filter, map_coordinates

    size_3 = np.asarray(voxel_size_nm, dtype=np.float64)
    margin_3 = np.ceil(_MARGIN_NM / size_3).astype(int)
    cleft, limit_nm = np.nan, _MARGIN_NM
    if (cleft_23[0] <= cleft_23[1]).all():
        part_xyz = _part(code_xyz, cleft_23, 1)
        plane = cleft_plane(part_xyz, voxel_size_nm)
        # Half of a slab is 1.7 standard deviations thick.
        limit_nm += 1.8 * float(plane.spread_nm[0])
        middles_t3, areas_t = _surface(_heights(part_xyz.shape, plane, size_3), size_3)
        cleft = float(areas_t[part_xyz[_nearest(middles_t3)] == _CLEFT].sum())
    both_23 = np.stack([np.minimum(cleft_23[0], near_23[0]), np.maximum(cleft_23[1], near_23[1])])
    if not has_both_sides or (both_23[0] > both_23[1]).any():
        return ContactAreas(cleft, 0.0)
    part_xyz = _part(code_xyz, both_23, margin_3)
    pre_xyz, post_xyz = _distances(part_xyz, size_3, limit_nm)
    middles_t3, areas_t = _surface(
        gaussian_filter(pre_xyz - post_xyz, _smoothing_nm(size_3) / size_3, mode="nearest"), size_3
    )
    is_cleft_t = part_xyz[_nearest(middles_t3)] == _CLEFT
    gap_t = map_coordinates(pre_xyz + post_xyz, middles_t3.T, order=1)
    contact = float(areas_t[is_cleft_t | (gap_t <= CONTACT_GAP_NM)].sum())
    return ContactAreas(max(cleft, float(areas_t[is_cleft_t].sum())), contact)


def _smoothing_nm(size_3: NDArray[np.float64]) -> float:
    """Standard deviation of the smoothing: steps are gone, and bends of 100 nm are not."""
    return float(max(size_3.max() / 2, 1.5 * size_3.min()))


def _part(
    code_xyz: NDArray[np.uint8], box_23: NDArray[np.int64], margin_3: NDArray[np.int64] | int = 0
) -> NDArray[np.uint8]:
    """The part of a chunk from the lowest to the highest indices, and a margin around it."""
    lower_3, upper_3 = np.maximum(box_23[0] - margin_3, 0), box_23[1] + margin_3 + 1
    return code_xyz[tuple(slice(*ends) for ends in zip(lower_3, upper_3, strict=True))]


def _nearest(middles_t3: NDArray[np.float64]) -> tuple[NDArray[np.int64], ...]:
    """Indices of the voxels that hold points."""
    return tuple(np.rint(middles_t3).astype(np.int64).T)


def _distances(part_xyz: NDArray[np.uint8], size_3: NDArray[np.float64], limit_nm: float) -> NDArray[np.float32]:
    """Distances in nm to the surfaces of both sides, negative inside, up to a limit, (2, x, y, z)."""
    import torch

    from synapseclr.augmentation.preparation import signed_distance

    sides_cxyz = torch.from_numpy(np.stack([part_xyz == _PRE, part_xyz == _POST]))
    x, y, z = size_3.tolist()
    distance: NDArray[np.float32] = signed_distance(sides_cxyz[None], (x, y, z), limit_nm, _MARGIN_NM / 2)[0].numpy()
    return distance


def _heights(shape_xyz: tuple[int, ...], plane: CleftPlane, size_3: NDArray[np.float64]) -> NDArray[np.float32]:
    """Distances in nm from a plane, (x, y, z)."""
    steps = (np.arange(length) * size for length, size in zip(shape_xyz, size_3, strict=True))
    offsets = zip(steps, plane.centre_xyz_nm, plane.normal_xyz, strict=True)
    x, y, z = ((axis_nm - centre) * slope for axis_nm, centre, slope in offsets)
    return (x[:, None, None] + y[None, :, None] + z[None, None, :]).astype(np.float32)


def _surface(
    field_xyz: NDArray[np.float32], size_3: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Triangles of the surface where a field is 0: their middles as indices (t, 3), their areas in nm² (t,)."""
    from skimage.measure import marching_cubes

    if min(field_xyz.shape) < 2 or not field_xyz.min() < 0 < field_xyz.max():
        return np.zeros((0, 3)), np.zeros(0)
    vertices_v3, triangles_t3, _, _ = marching_cubes(field_xyz, 0.0)
    corners_tc3 = vertices_v3.astype(np.float64)[triangles_t3]
    edges_tc3 = (corners_tc3[:, 1:] - corners_tc3[:, :1]) * size_3
    areas_t = np.linalg.norm(np.cross(edges_tc3[:, 0], edges_tc3[:, 1]), axis=1) / 2
    return corners_tc3.mean(axis=1), areas_t


def store_morphometry(store: OrientedChunks, batch_size: int = 32) -> pd.DataFrame:
    """Measure all synapses of a store, read batch by batch so that memory stays small, several at a time.

    Args:
        store: The chunk store.
        batch_size: Chunks in memory at a time.

    Returns:
        One row a synapse in store order: ``synapse_id``, then the columns of ``MORPHOMETRY_LABELS``.
    """
    import torch
    from rich.progress import track

    measure = partial(morphometry, voxel_size_nm=store.voxel_size_nm)
    rows: list[dict[str, float | int | bool]] = []
    starts = range(0, len(store), batch_size)
    # Loops, distances and filters release the GIL.
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        for start in track(starts, description="Measuring synapses"):
            chunks_bcxyz = store.read(list(range(start, min(start + batch_size, len(store)))))
            rows += threads.map(measure, chunks_bcxyz[:, 1])
    table = pd.DataFrame(rows, columns=list(MORPHOMETRY_LABELS))
    table.insert(0, "synapse_id", np.asarray(store.synapse_id, dtype=np.int64))
    return table
