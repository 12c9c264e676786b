"""Synaptic contacts: the labelled cleft and the densities on both sides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from synapseclr.simulation.geometry import EXCITATORY, Floats, Neurite, Site, perpendicular
from synapseclr.simulation.painting import Territory
from synapseclr.simulation.style import ImagingStyle

HALF_CLEFT_LABEL_NM = 22.0
SMALLEST_CLEFT_VX = 14
# Outline of the postsynaptic density. Central and split cover the same area, half of the disc.
WHOLE, CENTRAL, SPLIT = 0, 1, 2
CENTRAL_RADIUS = np.sqrt(0.5)
# Two caps beyond this distance from the middle line of a unit disc: acos(h) - h sqrt(1 - h^2) = pi / 4.
SPLIT_HALF_GAP = 0.40397


@dataclass
class Morphology:
    """How the contact of one site looks; arrays over sites.

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
    """Draw the look of every contact: asymmetric with round vesicles where excitatory, else symmetric and flat.

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
    section area. Postsynaptic type: a central
    density where excitatory, one split by a broad gap where inhibitory, of equal area, thickness and darkness.

    Args:
        sites: All sites.
        neurites: All neurites, in order of index.
        rng: Source of randomness.

    Returns:
        Looks of the sites.
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
        look: Their looks.
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
            territory.owner_zyx,
            territory.second_zyx,
            territory.depth_zyx,
            territory.second_depth_zyx,
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
                o, o2 = owner[z, y, x], second[z, y, x]
                if not ((o == pre and o2 == post) or (o == post and o2 == pre)):
                    continue
                wx = (x + 0.5) * size[0] - centre[0]
                wy = (y + 0.5) * size[1] - centre[1]
                wz = (z + 0.5) * size[2] - centre[2]
                height = wx * normal[0] + wy * normal[1] + wz * normal[2]
                if abs(height) > 150.0:
                    continue
                u = wx * e1[0] + wy * e1[1] + wz * e1[2]
                v = wx * e2[0] + wy * e2[1] + wz * e2[2]
                theta = np.arctan2(v, u)
                edge = 1.0 + outline[0] * np.cos(2 * theta + outline[1]) + outline[2] * np.cos(3 * theta + outline[3])
                inside = radius * edge - np.sqrt(u * u + v * v)
                if inside < -24.0:
                    continue
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
