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
