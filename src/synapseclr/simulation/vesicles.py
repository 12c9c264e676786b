"""Synaptic vesicles: where they lie in a bouton, and how they are painted."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from synapseclr.simulation.contacts import Morphology
from synapseclr.simulation.geometry import Floats, Site
from synapseclr.simulation.painting import Territory
from synapseclr.simulation.style import ImagingStyle

RADIUS_NM = 20.0
VESICLES_PER_UM3 = 5500.0
# Of arranged vesicles: few enough to fit into clumps that take up a third of the bouton without touching.
ARRANGED_PER_UM3 = 4000.0
DARKNESS, ARRANGED_DARKNESS = 48.0, 70.0
CLUMPED_FRACTION = 0.36
CLUMP_PERIOD_NM = 300.0
N_WAVES = 12
# Distances to keep, the largest first that leaves room for all vesicles.
CLUMPED_SPACINGS_NM = (42.0, 40.0, 38.0, 36.0, 33.0, 30.0)
EVEN_SPACINGS_NM = (56.0, 52.0, 48.0, 45.0, *CLUMPED_SPACINGS_NM)


def paint_vesicles(
    sites: list[Site],
    verified: NDArray[np.bool_],
    look: Morphology,
    territory: Territory,
    mito_zyx: NDArray[np.uint16],
    image_zyx: NDArray[np.float32],
    style: ImagingStyle,
    rng: np.random.Generator,
) -> None:
    """Fill boutons with vesicles, densest near the cleft; number and darkness do not depend on the cell type.

    Args:
        sites: All sites.
        verified: Which sites hold a synapse, shape (n,); the others get no vesicles.
        look: Their looks.
        territory: Who owns each voxel.
        mito_zyx: Mitochondrion of each voxel; vesicles stay outside.
        image_zyx: Image in grey levels; changed in place.
        style: Stain of the membranes.
        rng: Source of randomness.
    """
    centres, shapes, owners = [], [], []
    for k, site in enumerate(sites):
        if look.is_clumped is None:
            positions, axes = scatter(site, look.flatness[k], rng)
        else:
            positions, axes = arrange(site, bool(look.is_clumped[k]), look.flatness[k], rng)
        if verified[k]:
            centres.append(positions)
            shapes.append(axes)
            owners.append(np.full(len(positions), site.axon))
    if centres:
        _vesicles(
            np.concatenate(centres),
            np.concatenate(shapes),
            np.concatenate(owners),
            territory.voxel_size_nm,
            territory.owner_zyx,
            territory.depth_zyx,
            territory.second_depth_zyx,
            mito_zyx,
            image_zyx,
            style.membrane_stain * (DARKNESS if look.is_clumped is None else ARRANGED_DARKNESS),
        )


def scatter(site: Site, flatness: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Lay out vesicles at independent places.

    Args:
        site: The synapse whose bouton is filled.
        flatness: Axis ratio; the area of a section does not depend on it.
        rng: Source of randomness.

    Returns:
        Positions in nm, shape (n, 3), and long axis in nm, short axis in nm and tilt, shape (n, 3).
    """
    n = _draw_number(site, VESICLES_PER_UM3, rng)
    candidates, keep = _draw_candidates(site, 4 * n, rng)
    tilt, flat = rng.uniform(0, np.pi, 4 * n), rng.uniform(0.85, 1.15, 4 * n)
    chosen = np.flatnonzero(keep)[:n]
    ratio = np.sqrt(flatness)
    axes = np.stack([RADIUS_NM * flat[chosen] * ratio, RADIUS_NM * flat[chosen] / ratio, tilt[chosen]], 1)
    return candidates[chosen], axes


def arrange(site: Site, is_clumped: bool, flatness: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Lay out vesicles that keep apart, in clumps or evenly; as many, and as far from the cleft on average.

    Args:
        site: The synapse whose bouton is filled.
        is_clumped: In clumps of about 150 nm, which take up a third of the bouton, instead of all over it.
        flatness: Axis ratio; the area of a section does not depend on it.
        rng: Source of randomness.

    Returns:
        Positions in nm, shape (n, 3), and long axis in nm, short axis in nm and tilt, shape (n, 3).
    """
    n = _draw_number(site, ARRANGED_PER_UM3, rng)
    candidates, keep = _draw_candidates(site, 60 * n, rng)
    # A random field without a preferred place or direction; clumps are where it is high.
    directions = rng.normal(size=(N_WAVES, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    phases = 2 * np.pi * (candidates @ directions.T) / CLUMP_PERIOD_NM + rng.uniform(0, 2 * np.pi, N_WAVES)
    field = np.cos(phases).sum(axis=1)
    if is_clumped:
        keep &= field > np.quantile(field, 1 - CLUMPED_FRACTION)
    candidates = candidates[keep]
    chosen = np.zeros(0, np.int64)
    for spacing_nm in CLUMPED_SPACINGS_NM if is_clumped else EVEN_SPACINGS_NM:
        chosen = _keep_apart(candidates, spacing_nm, n)
        if len(chosen) == n:
            break
    ratio, tilt = np.sqrt(flatness), rng.uniform(0, np.pi, len(chosen))
    axes = np.stack([np.full(len(chosen), RADIUS_NM * ratio), np.full(len(chosen), RADIUS_NM / ratio), tilt], 1)
    return candidates[chosen], axes


def _draw_number(site: Site, density_per_um3: float, rng: np.random.Generator) -> int:
    volume_um3 = 4 / 3 * np.pi * (site.bouton_radius_nm / 1000) ** 3
    return int(np.clip(rng.lognormal(np.log(density_per_um3 * volume_um3), 0.25), 40, 700))


def _draw_candidates(site: Site, n: int, rng: np.random.Generator) -> tuple[Floats, NDArray[np.bool_]]:
    """Places in the bouton, shape (n, 3), and which of them to keep so that density falls away from the cleft."""
    candidates = rng.normal(size=(n, 3))
    candidates *= (rng.uniform(size=(n, 1)) ** (1 / 3)) / np.linalg.norm(candidates, axis=1, keepdims=True)
    candidates = site.bouton_nm + 1.05 * site.bouton_radius_nm * candidates
    away_nm = (site.centre_nm - candidates) @ site.normal
    return candidates, rng.uniform(size=n) < np.exp(-np.maximum(away_nm, 0) / (0.9 * site.bouton_radius_nm))


@njit(cache=True)
def _keep_apart(candidates, spacing_nm, n):
    """Take candidates in order, each at a distance to all before it, until there are n or no more."""
    chosen = np.zeros(n, np.int64)
    count = 0
    for k in range(len(candidates)):
        if count == n:
            break
        is_free = True
        for j in range(count):
            dx = candidates[k, 0] - candidates[chosen[j], 0]
            dy = candidates[k, 1] - candidates[chosen[j], 1]
            dz = candidates[k, 2] - candidates[chosen[j], 2]
            if dx * dx + dy * dy + dz * dz < spacing_nm * spacing_nm:
                is_free = False
                break
        if is_free:
            chosen[count] = k
            count += 1
    return chosen[:count]


@njit(cache=True)
def _vesicles(centres, shapes, owners, size, owner, depth, second_depth, mito, image, darkness):
    nz, ny, nx = owner.shape
    reach_x, reach_y, reach_z = int(np.ceil(48.0 / size[0])), int(np.ceil(48.0 / size[1])), int(np.ceil(40.0 / size[2]))
    for k in range(centres.shape[0]):
        cx, cy, cz = centres[k]
        x, y, z = int(cx / size[0]), int(cy / size[1]), int(cz / size[2])
        if not (0 <= x < nx and 0 <= y < ny and 0 <= z < nz):
            continue
        gap = 0.125 * (float(second_depth[z, y, x]) - float(depth[z, y, x]))
        if owner[z, y, x] != owners[k] or gap < 24.0 or mito[z, y, x] != 0:
            continue
        long, short, tilt = shapes[k]
        cosine, sine = np.cos(tilt), np.sin(tilt)
        for zz in range(max(z - reach_z, 0), min(z + reach_z + 1, nz)):
            seen = 1.0 - max(abs((zz + 0.5) * size[2] - cz) - 0.5 * size[2] + 20.0, 0.0) / 40.0
            if seen <= 0:
                continue
            for yy in range(max(y - reach_y, 0), min(y + reach_y + 1, ny)):
                for xx in range(max(x - reach_x, 0), min(x + reach_x + 1, nx)):
                    if owner[zz, yy, xx] != owners[k] or mito[zz, yy, xx] != 0:
                        continue
                    dx, dy = (xx + 0.5) * size[0] - cx, (yy + 0.5) * size[1] - cy
                    u, v = (cosine * dx + sine * dy) / long, (cosine * dy - sine * dx) / short
                    ring = np.exp(-(((np.sqrt(u * u + v * v) - 0.85) / 0.45) ** 2))
                    image[zz, yy, xx] -= darkness * min(seen, 1.0) * ring
