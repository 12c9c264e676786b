"""Synaptic contacts: the labelled cleft, the densities on both sides, and the vesicles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from synapseclr.simulation.geometry import EXCITATORY, Floats, Site, perpendicular
from synapseclr.simulation.painting import Territory

HALF_CLEFT_LABEL_NM = 22.0
SMALLEST_CLEFT_VX = 14


@dataclass
class Morphology:
    """How the contact of one site looks; arrays over sites.

    Attributes:
        outline: Amplitude and phase of the second and third harmonic of the disc's outline, shape (n, 4).
        post_density_nm: Thickness of the postsynaptic density, shape (n,).
        pre_density_nm: Thickness of the presynaptic density, shape (n,).
        darkness: Depth of the density below the cytoplasm, grey levels, shape (n,).
        flatness: Vesicle axis ratio, 1 for round ones, shape (n,).
    """

    outline: Floats
    post_density_nm: Floats
    pre_density_nm: Floats
    darkness: Floats
    flatness: Floats


def draw_morphology(sites: list[Site], rng: np.random.Generator) -> Morphology:
    """Draw the look of every contact: asymmetric with round vesicles where excitatory, else symmetric and flat.

    Source: Gray 1959, doi:10.1038/1831592a0 (types 1 and 2);
    Colonnier 1968, Brain Research 9:268 (vesicles).
    """
    n = len(sites)
    excitatory = np.array([site.pre_type == EXCITATORY for site in sites], bool)
    outline = np.stack(
        [rng.uniform(0, 0.22, n), rng.uniform(0, 2 * np.pi, n), rng.uniform(0, 0.15, n), rng.uniform(0, 2 * np.pi, n)],
        1,
    )
    thin = rng.uniform(13, 18, (2, n))
    return Morphology(
        outline=outline,
        post_density_nm=np.where(excitatory, rng.uniform(45, 60, n), thin[0]),
        pre_density_nm=np.where(excitatory, 5.0, thin[1]),
        darkness=rng.normal(98, 8, n),
        flatness=np.where(excitatory, 1.0, rng.uniform(1.7, 2.3, n)),
    )


def paint_contacts(
    sites: list[Site], look: Morphology, territory: Territory, image_zyx: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Label clefts and draw densities where both partners truly meet; other sites are left unpainted.

    Args:
        sites: All sites.
        look: Their looks.
        territory: Who owns each voxel.
        image_zyx: Image in grey levels; changed in place.
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
            (look.pre_density_nm[k], look.post_density_nm[k], look.darkness[k]),
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
                    fade = min(max((thick + 8.0 - gap) / 12.0, 0.0), 1.0) * min(max((inside + 8.0) / 16.0, 0.0), 1.0)
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
    rng: np.random.Generator,
) -> None:
    """Fill boutons with vesicles, densest near the cleft; number and darkness do not depend on the cell type."""
    centres, shapes, owners = [], [], []
    for k, site in enumerate(sites):
        volume_um3 = 4 / 3 * np.pi * (site.bouton_radius_nm / 1000) ** 3
        n = int(np.clip(rng.lognormal(np.log(5500 * volume_um3), 0.25), 40, 700))
        candidates = rng.normal(size=(4 * n, 3))
        candidates *= (rng.uniform(size=(4 * n, 1)) ** (1 / 3)) / np.linalg.norm(candidates, axis=1, keepdims=True)
        candidates = site.bouton_nm + 1.05 * site.bouton_radius_nm * candidates
        away_nm = (site.centre_nm - candidates) @ site.normal
        keep = rng.uniform(size=4 * n) < np.exp(-np.maximum(away_nm, 0) / (0.9 * site.bouton_radius_nm))
        tilt, flat = rng.uniform(0, np.pi, 4 * n), rng.uniform(0.85, 1.15, 4 * n)
        if not verified[k]:
            continue
        chosen = np.flatnonzero(keep)[:n]
        centres.append(candidates[chosen])
        ratio = np.sqrt(look.flatness[k])
        shapes.append(np.stack([20 * flat[chosen] * ratio, 20 * flat[chosen] / ratio, tilt[chosen]], 1))
        owners.append(np.full(chosen.size, site.axon))
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
        )


@njit(cache=True)
def _vesicles(centres, shapes, owners, size, owner, depth, second_depth, mito, image):
    nz, ny, nx = owner.shape
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
        for zz in range(max(z - 1, 0), min(z + 2, nz)):
            seen = 1.0 - max(abs((zz + 0.5) * size[2] - cz) - 0.5 * size[2] + 20.0, 0.0) / 40.0
            if seen <= 0:
                continue
            for yy in range(max(y - 3, 0), min(y + 4, ny)):
                for xx in range(max(x - 3, 0), min(x + 4, nx)):
                    if owner[zz, yy, xx] != owners[k] or mito[zz, yy, xx] != 0:
                        continue
                    dx, dy = (xx + 0.5) * size[0] - cx, (yy + 0.5) * size[1] - cy
                    u, v = (cosine * dx + sine * dy) / long, (cosine * dy - sine * dx) / short
                    ring = np.exp(-(((np.sqrt(u * u + v * v) - 0.85) / 0.45) ** 2))
                    image[zz, yy, xx] -= 48.0 * min(seen, 1.0) * ring
