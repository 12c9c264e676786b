"""Loops over voxels, compiled: they let other threads run."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def write_codes(mask_xyz: Any, numbers_xyz: Any, code_of_number: Any) -> None:
    """Write the code of every voxel's id; where that is 0 the mask stays as it is.

    Args:
        mask_xyz: uint8, written to.
        numbers_xyz: Number of the id of every voxel, same shape.
        code_of_number: uint8, code by number.
    """
    for x in range(mask_xyz.shape[0]):
        for y in range(mask_xyz.shape[1]):
            for z in range(mask_xyz.shape[2]):
                code = code_of_number[numbers_xyz[x, y, z]]
                if code:
                    mask_xyz[x, y, z] = code


@njit(nogil=True, cache=True)
def nearest_labelled(
    numbers_xyz: Any, is_label: Any, offset_vx: Any, size_vx: Any, voxel_size_nm: Any
) -> tuple[float, int, int]:
    """Find the labelled voxel nearest to the centre of a chunk, voxel ``size // 2``.

    Args:
        numbers_xyz: Number of the id of every voxel of a part of the chunk.
        is_label: Whether an id is one, by number.
        offset_vx: First voxel of the part in the chunk.
        size_vx: Size of the chunk.
        voxel_size_nm: (x, y, z) of a voxel.

    Returns:
        Its distance in nm (infinite if there is none), its place in the chunk counted in C order (of equally near ones
        the first), and the number of its id.
    """
    nearest, place, number = math.inf, -1, -1
    for x in range(numbers_xyz.shape[0]):
        for y in range(numbers_xyz.shape[1]):
            for z in range(numbers_xyz.shape[2]):
                if is_label[numbers_xyz[x, y, z]]:
                    i, j, k = x + offset_vx[0], y + offset_vx[1], z + offset_vx[2]
                    dx = (i - size_vx[0] // 2) * voxel_size_nm[0]
                    dy = (j - size_vx[1] // 2) * voxel_size_nm[1]
                    dz = (k - size_vx[2] // 2) * voxel_size_nm[2]
                    distance = math.sqrt(dx * dx + dy * dy + dz * dz)
                    if distance < nearest:
                        nearest, number = distance, numbers_xyz[x, y, z]
                        place = (i * size_vx[1] + j) * size_vx[2] + k
    return nearest, place, number


@njit(nogil=True, cache=True)
def count_zeros(intensity_xyz: Any, n_z: Any) -> None:
    """Add the number of zero voxels of every section to ``n_z`` (z,)."""
    for x in range(intensity_xyz.shape[0]):
        for y in range(intensity_xyz.shape[1]):
            for z in range(intensity_xyz.shape[2]):
                n_z[z] += intensity_xyz[x, y, z] == 0


@njit(nogil=True, cache=True)
def count_constant_sections(intensity_xyz: Any) -> tuple[int, int]:
    """Count the sections that show no structure: their voxels are equal, those of value 0 (padding) left out.

    Args:
        intensity_xyz: uint8 (x, y, z).

    Returns:
        How many are of one value other than 0, and how many are black.
    """
    n_x, n_y, n_z = intensity_xyz.shape
    lowest, highest = np.full(n_z, 255, np.uint8), np.zeros(n_z, np.uint8)
    for x in range(n_x):
        for y in range(n_y):
            for z in range(n_z):
                value = intensity_xyz[x, y, z]
                if value:
                    lowest[z], highest[z] = min(lowest[z], value), max(highest[z], value)
    return (lowest == highest).sum(), (highest == 0).sum()


@njit(nogil=True, cache=True)
def copy_in_c_order(array_xyz: Any, copy_xyz: Any) -> None:
    """Copy an array whose x runs fastest into one whose z does, in tiles that stay in the processor's cache."""
    n_x, n_y, n_z = array_xyz.shape
    for y in range(n_y):
        for start in range(0, n_x, 64):
            for z in range(n_z):
                for x in range(start, min(start + 64, n_x)):
                    copy_xyz[x, y, z] = array_xyz[x, y, z]


@njit(nogil=True, cache=True)
def weighted_sums(values_bsa: Any, place_tk: Any, weight_tk: Any, sums_bta: Any) -> None:
    """Add up weighted voxels along the middle axis.

    Args:
        values_bsa: float32 (b, s, a).
        place_tk: Which of ``s`` are added to each of ``t``, (t, k).
        weight_tk: Their weights, (t, k).
        sums_bta: float32 (b, t, a), written to.
    """
    n_b, n_t, n_a = sums_bta.shape
    for b in range(n_b):
        for t in range(n_t):
            for a in range(n_a):
                sums_bta[b, t, a] = 0
            for k in range(place_tk.shape[1]):
                place, weight = place_tk[t, k], weight_tk[t, k]
                for a in range(n_a):
                    sums_bta[b, t, a] += weight * values_bsa[b, place, a]


@njit(nogil=True, cache=True)
def count_codes(code_xyz: Any, gap_vx: Any) -> tuple[Any, Any, Any, Any, Any, Any]:
    """Measure a chunk's mask codes in one pass, and find where both sides come near to each other.

    Args:
        code_xyz: uint8 (x, y, z): 0 background, 1 presynaptic, 2 cleft, 3 postsynaptic.
        gap_vx: int (3,): steps along x, y, z up to which a presynaptic and a postsynaptic voxel are near.

    Returns:
        Of every code: voxels (4,), sums of their indices (4, 3), faces to voxels of other codes by axis (4, 3), faces
        on the chunk's border (4, 3). Then the lowest and highest indices (2, 3) of the cleft's voxels, and of near
        voxels of both sides; the lowest above the highest if there are none.
    """
    n_3 = code_xyz.shape
    counts_c, sums_c3 = np.zeros(4, np.int64), np.zeros((4, 3), np.int64)
    faces_c3, border_c3 = np.zeros((4, 3), np.int64), np.zeros((4, 3), np.int64)
    cleft_23, near_23 = np.full((2, 3), -1, np.int64), np.full((2, 3), -1, np.int64)
    cleft_23[0], near_23[0] = max(n_3), max(n_3)
    never = -(max(n_3) + max(gap_vx) + 1)
    # Last index of either side on the line along each axis: [side, place of the line].
    last_x, last_y = np.full((2, n_3[1], n_3[2]), never), np.full((2, n_3[2]), never)
    last_z, place, step = np.full(2, never), np.zeros(3, np.int64), np.zeros(3, np.int64)
    for x in range(n_3[0]):
        last_y[:] = never
        for y in range(n_3[1]):
            last_z[:] = never
            for z in range(n_3[2]):
                code = code_xyz[x, y, z]
                place[0], place[1], place[2] = x, y, z
                counts_c[code] += 1
                for axis in range(3):
                    sums_c3[code, axis] += place[axis]
                    border_c3[code, axis] += (place[axis] == 0) + (place[axis] == n_3[axis] - 1)
                    if place[axis]:
                        step[:] = 0
                        step[axis] = 1
                        before = code_xyz[x - step[0], y - step[1], z - step[2]]
                        if before != code:
                            faces_c3[code, axis] += 1
                            faces_c3[before, axis] += 1
                if code == 2:
                    for axis in range(3):
                        cleft_23[0, axis] = min(cleft_23[0, axis], place[axis])
                        cleft_23[1, axis] = max(cleft_23[1, axis], place[axis])
                elif code:
                    side, other = (0, 1) if code == 1 else (1, 0)
                    for axis in range(3):
                        last = last_x[other, y, z] if axis == 0 else last_y[other, z] if axis == 1 else last_z[other]
                        if place[axis] - last <= gap_vx[axis]:
                            for each in range(3):
                                first = last if each == axis else place[each]
                                near_23[0, each] = min(near_23[0, each], first)
                                near_23[1, each] = max(near_23[1, each], place[each])
                    last_x[side, y, z], last_y[side, z], last_z[side] = x, y, z
    return counts_c, sums_c3, faces_c3, border_c3, cleft_23, near_23
