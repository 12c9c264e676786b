"""Territory of the neurites: every voxel goes to the one in which it lies deepest. Distances are in quarter-nm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from synapseclr.simulation.geometry import Capsules, Floats

UNITS_PER_NM = 4.0
FAR = np.int16(32000)
ROUGHNESS_TILE_VX = 64
Shorts = NDArray[np.int16]


@dataclass
class Territory:
    """Owner of each voxel, and the runner-up.

    Attributes:
        owner_zyx: Index of the deepest neurite, 0 for the unsegmented remainder, int16.
        second_zyx: Index of the runner-up, int16.
        depth_zyx: Signed distance to the owner's surface, quarter-nm, int16.
        second_depth_zyx: Signed distance to the runner-up's surface, quarter-nm, int16.
        voxel_size_nm: Voxel size (x, y, z) in nm.
    """

    owner_zyx: Shorts
    second_zyx: Shorts
    depth_zyx: Shorts
    second_depth_zyx: Shorts
    voxel_size_nm: Floats

    @property
    def volumes(self) -> tuple[Shorts, Shorts, Shorts, Shorts]:
        """Owner, runner-up and both depths, in the order in which the painting loops take them."""
        return self.owner_zyx, self.second_zyx, self.depth_zyx, self.second_depth_zyx


def paint_territory(
    capsules: Capsules,
    shape_vx: tuple[int, int, int],
    voxel_size_nm: Floats,
    rng: np.random.Generator,
    swelling_nm: float = 65.0,
    roughness_nm: float = 16.0,
) -> Territory:
    """Assign every voxel to the neurite whose surface it lies deepest in.

    Where two neurites overlap, the border runs where both signed distances are equal: equal balls meet in a plane.
    Neurites swell into free space by up to `swelling_nm`; what remains is the unsegmented remainder.

    Args:
        capsules: The neurites' pieces; owners from 1.
        shape_vx: Volume shape (x, y, z).
        voxel_size_nm: Voxel size (x, y, z), shape (3,).
        rng: Source of randomness for rough surfaces.
        swelling_nm: How far a neurite spreads beyond its surface when nothing else is there, nm.
        roughness_nm: Standard deviation of the surfaces' bumps, nm.

    Returns:
        Owner, runner-up and signed distances per voxel.
    """
    x, y, z = shape_vx
    territory = Territory(
        np.zeros((z, y, x), np.int16),
        np.full((z, y, x), -1, np.int16),
        np.full((z, y, x), int(swelling_nm * UNITS_PER_NM), np.int16),
        np.full((z, y, x), FAR, np.int16),
        np.asarray(voxel_size_nm, float),
    )
    tile = gaussian_filter(
        rng.standard_normal((ROUGHNESS_TILE_VX,) * 3), 130.0 / territory.voxel_size_nm[::-1], mode="wrap"
    )
    _paint(
        *capsules,
        territory.voxel_size_nm,
        *territory.volumes,
        swelling_nm + 22.0,
        (roughness_nm / tile.std() * tile).astype(np.float32),
    )
    return territory


@njit(cache=True)
def _paint(start, end, start_radius, end_radius, owner, size, first_o, second_o, first_d, second_d, reach, bumps):
    nz, ny, nx = first_o.shape
    for k in range(start.shape[0]):
        wide = max(start_radius[k], end_radius[k]) + reach
        x0 = max(int((min(start[k, 0], end[k, 0]) - wide) / size[0]), 0)
        x1 = min(int((max(start[k, 0], end[k, 0]) + wide) / size[0]) + 1, nx)
        y0 = max(int((min(start[k, 1], end[k, 1]) - wide) / size[1]), 0)
        y1 = min(int((max(start[k, 1], end[k, 1]) + wide) / size[1]) + 1, ny)
        z0 = max(int((min(start[k, 2], end[k, 2]) - wide) / size[2]), 0)
        z1 = min(int((max(start[k, 2], end[k, 2]) + wide) / size[2]) + 1, nz)
        ax, ay, az = np.float32(start[k, 0]), np.float32(start[k, 1]), np.float32(start[k, 2])
        bx, by, bz = np.float32(end[k, 0]) - ax, np.float32(end[k, 1]) - ay, np.float32(end[k, 2]) - az
        inverse = np.float32(1.0) / max(bx * bx + by * by + bz * bz, np.float32(1.0))
        ra, rb = np.float32(start_radius[k]), np.float32(end_radius[k] - start_radius[k])
        limit = np.float32(wide * wide)
        me = np.int16(owner[k])
        # Each neurite reads the periodic bumps from another corner.
        shift_x, shift_y, shift_z = 29 * owner[k], 13 * owner[k] + 7, 47 * owner[k] + 3
        for z in range(z0, z1):
            pz = np.float32((z + 0.5) * size[2]) - az
            for y in range(y0, y1):
                py = np.float32((y + 0.5) * size[1]) - ay
                # Only the part of the row that can lie within reach: 2D distance first, then the x range that is left.
                s2 = by * by + bz * bz
                s = min(max((py * by + pz * bz) / s2, np.float32(0)), np.float32(1)) if s2 > 1 else np.float32(0)
                off = (py - s * by) ** 2 + (pz - s * bz) ** 2
                if off >= limit:
                    continue
                half = np.sqrt(limit - off)
                first_x = max(x0, int((min(ax, ax + bx) - half) / size[0]))
                last_x = min(x1, int((max(ax, ax + bx) + half) / size[0]) + 1)
                bump = bumps[(z + shift_z) & 63, (y + shift_y) & 63]
                for x in range(first_x, last_x):
                    px = np.float32((x + 0.5) * size[0]) - ax
                    # Signed distance to the tapered capsule: nearest point of its axis, minus the radius there.
                    t = (px * bx + py * by + pz * bz) * inverse
                    t = min(max(t, np.float32(0)), np.float32(1))
                    dx, dy, dz = px - t * bx, py - t * by, pz - t * bz
                    d2 = dx * dx + dy * dy + dz * dz
                    d = np.sqrt(d2) - ra - t * rb + bump[(x + shift_x) & 63]
                    if d > reach:
                        continue
                    # Keep the two deepest neurites of the voxel, each with its smallest signed distance.
                    q = np.int16(d * np.float32(4.0))
                    best = first_o[z, y, x]
                    if best == me:
                        if q < first_d[z, y, x]:
                            first_d[z, y, x] = q
                    elif q < first_d[z, y, x]:
                        second_o[z, y, x] = best
                        second_d[z, y, x] = first_d[z, y, x]
                        first_o[z, y, x] = me
                        first_d[z, y, x] = q
                    elif q < second_d[z, y, x]:
                        second_o[z, y, x] = me
                        second_d[z, y, x] = q


@njit(cache=True)
def border_distance(depth, second_depth, owner, second):
    """Distance of a voxel to its owner's border, nm; the remainder has no gradient of its own, so no halving there."""
    gap = (float(second_depth) - float(depth)) / 4.0
    return gap if owner == 0 or second <= 0 else 0.5 * gap
