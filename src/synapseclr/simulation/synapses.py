"""Synapses: the labelled cleft, the densities on both sides, and the vesicles in the bouton."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from synapseclr.simulation.config import ImagingStyle
from synapseclr.simulation.geometry import EXCITATORY, Floats, Neurite, Site, perpendicular
from synapseclr.simulation.territory import Territory

HALF_CLEFT_LABEL_NM = 22.0
SMALLEST_CLEFT_VX = 14
# Outline of the postsynaptic density. Central and split cover the same area, half of the disc.
WHOLE, CENTRAL, SPLIT = 0, 1, 2
CENTRAL_RADIUS = np.sqrt(0.5)
# Two caps beyond this distance from the middle line of a unit disc: acos(h) - h sqrt(1 - h^2) = pi / 4.
SPLIT_HALF_GAP = 0.40397
VESICLE_RADIUS_NM = 20.0
VESICLES_PER_UM3 = 5500.0
# Of arranged vesicles: few enough to fit into clumps that take up a third of the bouton without touching.
ARRANGED_PER_UM3 = 4000.0
VESICLE_DARKNESS, ARRANGED_DARKNESS = 48.0, 70.0
CLUMPED_FRACTION = 0.36
CLUMP_PERIOD_NM = 300.0
N_WAVES = 12
# Distances to keep, the largest first that leaves room for all vesicles.
CLUMPED_SPACINGS_NM = (42.0, 40.0, 38.0, 36.0, 33.0, 30.0)
EVEN_SPACINGS_NM = (56.0, 52.0, 48.0, 45.0, *CLUMPED_SPACINGS_NM)


@dataclass
class Morphology:
    """Appearance of the contacts; arrays over sites.

    Attributes:
        outline: Amplitude and phase of the second and third harmonic of the disc's outline, shape (n, 4).
        post_density_nm: Thickness of the postsynaptic density, shape (n,).
        pre_density_nm: Thickness of the presynaptic density, shape (n,).
        darkness: Depth of the density below the cytoplasm, grey levels, shape (n,).
        flatness: Vesicle axis ratio, 1 for round ones, shape (n,).
        post_outline: `WHOLE`, `CENTRAL` or `SPLIT` postsynaptic density, shape (n,).
        is_clumped: Vesicles in clumps instead of evenly spread, shape (n,); None: scattered at random.
    """

    outline: Floats
    post_density_nm: Floats
    pre_density_nm: Floats
    darkness: Floats
    flatness: Floats
    post_outline: NDArray[np.int64]
    is_clumped: NDArray[np.bool_] | None = None


def draw_morphology(sites: list[Site], rng: np.random.Generator) -> Morphology:
    """Draw the appearance of every contact: asymmetric with round vesicles where excitatory, else symmetric and flat.

    Source: Gray 1959, doi:10.1038/1831592a0 (types 1 and 2);
    Colonnier 1968, Brain Research 9:268 (vesicles).
    """
    n = len(sites)
    excitatory = np.array([site.pre_type == EXCITATORY for site in sites], bool)
    outline = _draw_outlines(n, rng)
    thin = rng.uniform(13, 18, (2, n))
    return Morphology(
        outline=outline,
        post_density_nm=np.where(excitatory, rng.uniform(45, 60, n), thin[0]),
        pre_density_nm=np.where(excitatory, 5.0, thin[1]),
        darkness=rng.normal(98, 8, n),
        flatness=np.where(excitatory, 1.0, rng.uniform(1.7, 2.3, n)),
        post_outline=np.full(n, WHOLE),
    )


def draw_arrangement(sites: list[Site], neurites: list[Neurite], rng: np.random.Generator) -> Morphology:
    """Draw contacts whose cell types differ in how things are arranged, with equal amounts of everything.

    Presynaptic type: round vesicles in clumps where excitatory, flat ones evenly spread where inhibitory, of equal
    section area. Postsynaptic type: a central density where excitatory, one split by a broad gap where inhibitory, of
    equal area, thickness and darkness.

    Args:
        sites: All sites.
        neurites: All neurites, in order of index.
        rng: Source of randomness.

    Returns:
        Morphology of the contacts.
    """
    n = len(sites)
    is_clumped = np.array([site.pre_type == EXCITATORY for site in sites], bool)
    is_central = np.array([neurites[site.dendrite - 1].cell_type == EXCITATORY for site in sites], bool)
    return Morphology(
        outline=_draw_outlines(n, rng),
        post_density_nm=rng.uniform(45, 60, n),
        pre_density_nm=rng.uniform(13, 18, n),
        darkness=rng.normal(98, 8, n),
        flatness=np.where(is_clumped, 1.0, rng.uniform(1.7, 2.3, n)),
        post_outline=np.where(is_central, CENTRAL, SPLIT),
        is_clumped=is_clumped,
    )


def _draw_outlines(n: int, rng: np.random.Generator) -> Floats:
    """Harmonics of the discs' outlines, as in `Morphology.outline`."""
    return np.stack(
        [rng.uniform(0, 0.22, n), rng.uniform(0, 2 * np.pi, n), rng.uniform(0, 0.15, n), rng.uniform(0, 2 * np.pi, n)],
        1,
    )


def paint_contacts(
    sites: list[Site],
    look: Morphology,
    territory: Territory,
    image_zyx: NDArray[np.float32],
    style: ImagingStyle,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Label clefts and draw densities where both partners truly meet; other sites are left unpainted.

    Args:
        sites: All sites.
        look: Morphology of their contacts.
        territory: Who owns each voxel.
        image_zyx: Image in grey levels; changed in place.
        style: Stain of the densities.
        rng: Source of randomness (orientation of the outlines).

    Returns:
        Cleft labels (site position + 1, 0 elsewhere), shape (z, y, x), and which sites hold a synapse, shape (n,).
    """
    label_zyx = np.zeros(image_zyx.shape, np.int32)
    verified = np.zeros(len(sites), bool)
    voxel_nm3 = float(np.prod(territory.voxel_size_nm))
    for k, site in enumerate(sites):
        first = perpendicular(site.normal, rng)
        if not site.axon:
            continue
        arguments = (
            site.centre_nm,
            site.normal,
            first,
            np.cross(site.normal, first),
            site.cleft_radius_nm,
            look.outline[k],
            site.axon,
            site.dendrite,
            territory.voxel_size_nm,
            *territory.volumes,
            (look.pre_density_nm[k], look.post_density_nm[k], style.density_stain * look.darkness[k]),
            look.post_outline[k],
            image_zyx,
            label_zyx,
        )
        n_cleft, n_pre, n_post = _contact(*arguments, 0)
        expected = np.pi * site.cleft_radius_nm**2 * 2 * HALF_CLEFT_LABEL_NM / voxel_nm3
        if n_cleft >= max(SMALLEST_CLEFT_VX, 0.7 * expected) and min(n_pre, n_post) >= 0.5 * n_cleft:
            _contact(*arguments, k + 1)
            verified[k] = True
    return label_zyx, verified


@njit(cache=True)
def _contact(
    centre,
    normal,
    e1,
    e2,
    radius,
    outline,
    pre,
    post,
    size,
    owner,
    second,
    depth,
    second_depth,
    profile,
    post_outline,
    image,
    label,
    mark,
):
    """Count the voxels of the cleft and of its two flanks; with a mark above 0, paint as well."""
    nz, ny, nx = owner.shape
    pre_nm, post_nm, darkness = profile
    reach = radius * 1.4 + 90.0
    n_cleft, n_pre, n_post = 0, 0, 0
    for z in range(max(int((centre[2] - reach) / size[2]), 0), min(int((centre[2] + reach) / size[2]) + 1, nz)):
        for y in range(max(int((centre[1] - reach) / size[1]), 0), min(int((centre[1] + reach) / size[1]) + 1, ny)):
            for x in range(max(int((centre[0] - reach) / size[0]), 0), min(int((centre[0] + reach) / size[0]) + 1, nx)):
                # Only where the two deepest neurites are the partners.
                o, o2 = owner[z, y, x], second[z, y, x]
                if not ((o == pre and o2 == post) or (o == post and o2 == pre)):
                    continue
                wx = (x + 0.5) * size[0] - centre[0]
                wy = (y + 0.5) * size[1] - centre[1]
                wz = (z + 0.5) * size[2] - centre[2]
                # Cylinder coordinates about the contact's normal: height, and (u, v) in the plane of the cleft.
                height = wx * normal[0] + wy * normal[1] + wz * normal[2]
                if abs(height) > 150.0:
                    continue
                u = wx * e1[0] + wy * e1[1] + wz * e1[2]
                v = wx * e2[0] + wy * e2[1] + wz * e2[2]
                theta = np.arctan2(v, u)
                edge = 1.0 + outline[0] * np.cos(2 * theta + outline[1]) + outline[2] * np.cos(3 * theta + outline[3])
                # Distance to the outline, a circle with two harmonics; positive within it.
                inside = radius * edge - np.sqrt(u * u + v * v)
                if inside < -24.0:
                    continue
                # Distance to the membrane: half the difference of both depths, in quarter-nm.
                gap = 0.125 * (float(second_depth[z, y, x]) - float(depth[z, y, x]))
                if inside > 0:
                    if gap <= 22.0:
                        n_cleft += 1
                        if mark > 0:
                            label[z, y, x] = mark
                    elif gap < 70.0 and o == pre:
                        n_pre += 1
                    elif gap < 70.0:
                        n_post += 1
                if mark > 0:
                    thick = post_nm if o == post else pre_nm
                    within = inside
                    if o == post and post_outline == CENTRAL:
                        within = inside - (1.0 - CENTRAL_RADIUS) * radius * edge
                    elif o == post and post_outline == SPLIT:
                        within = min(inside, abs(u) - SPLIT_HALF_GAP * radius * edge)
                    fade = min(max((thick + 8.0 - gap) / 12.0, 0.0), 1.0) * min(max((within + 8.0) / 16.0, 0.0), 1.0)
                    # The space between the membranes itself is only grey.
                    strength = darkness * (0.72 if gap < 6.0 else 1.0)
                    image[z, y, x] = min(image[z, y, x], (1.0 - fade) * image[z, y, x] + fade * (150.0 - strength))
    return n_cleft, n_pre, n_post


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
        verified: True for sites that hold a synapse, shape (n,); the others get no vesicles.
        look: Morphology of their contacts.
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
            style.membrane_stain * (VESICLE_DARKNESS if look.is_clumped is None else ARRANGED_DARKNESS),
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
    axes = np.stack(
        [VESICLE_RADIUS_NM * flat[chosen] * ratio, VESICLE_RADIUS_NM * flat[chosen] / ratio, tilt[chosen]], 1
    )
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
    axes = np.stack(
        [np.full(len(chosen), VESICLE_RADIUS_NM * ratio), np.full(len(chosen), VESICLE_RADIUS_NM / ratio), tilt], 1
    )
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
        # The centre has to lie in the bouton, 24 nm from its membrane and outside of mitochondria.
        gap = 0.125 * (float(second_depth[z, y, x]) - float(depth[z, y, x]))
        if owner[z, y, x] != owners[k] or gap < 24.0 or mito[z, y, x] != 0:
            continue
        long, short, tilt = shapes[k]
        cosine, sine = np.cos(tilt), np.sin(tilt)
        for zz in range(max(z - reach_z, 0), min(z + reach_z + 1, nz)):
            # Share of the vesicle's height that this section, thicker than a vesicle, contains.
            seen = 1.0 - max(abs((zz + 0.5) * size[2] - cz) - 0.5 * size[2] + 20.0, 0.0) / 40.0
            if seen <= 0:
                continue
            for yy in range(max(y - reach_y, 0), min(y + reach_y + 1, ny)):
                for xx in range(max(x - reach_x, 0), min(x + reach_x + 1, nx)):
                    if owner[zz, yy, xx] != owners[k] or mito[zz, yy, xx] != 0:
                        continue
                    dx, dy = (xx + 0.5) * size[0] - cx, (yy + 0.5) * size[1] - cy
                    # A dark ring: the membrane of an ellipse that lies at an angle in the section.
                    u, v = (cosine * dx + sine * dy) / long, (cosine * dy - sine * dx) / short
                    ring = np.exp(-(((np.sqrt(u * u + v * v) - 0.85) / 0.45) ** 2))
                    image[zz, yy, xx] -= darkness * min(seen, 1.0) * ring
