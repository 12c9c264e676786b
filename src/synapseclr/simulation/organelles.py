"""Mitochondria and tubules: their places in the neurites, and their painting into the image."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from synapseclr.simulation.config import ImagingStyle, SimulationConfig
from synapseclr.simulation.geometry import INHIBITORY, Capsules, Floats, Neurite, Site, perpendicular, unit
from synapseclr.simulation.territory import Territory, border_distance

# Mean free stretch between mitochondria along a neurite, nm. Inhibitory dendrites are the richest.
DENDRITE_GAP_NM = {0: 3200.0, INHIBITORY: 1100.0}
AXON_GAP_NM = 9000.0


def place_mitochondria(
    config: SimulationConfig, neurites: list[Neurite], sites: list[Site], rng: np.random.Generator
) -> tuple[Capsules, NDArray[np.int32]]:
    """Put mitochondria along neurites and into boutons.

    Args:
        config: What to simulate.
        neurites: All neurites.
        sites: All sites; those without an axon get none.
        rng: Source of randomness.

    Returns:
        Capsules whose owner is the mitochondrion (from 1), and the neurite of each mitochondrion, shape (n + 1,).
    """
    chains: list[tuple[Floats, Floats, int]] = []
    homes = [0]
    for neurite in neurites:
        gap_nm = DENDRITE_GAP_NM[neurite.cell_type] if neurite.kind == "dendrite" else AXON_GAP_NM
        arc = neurite.arc_length_nm()
        at = rng.exponential(gap_nm)
        while at < arc[-1]:
            length = rng.uniform(500, 2000) if neurite.kind == "dendrite" else rng.uniform(300, 900)
            along = np.linspace(at, min(at + length, arc[-1]), max(int(length / 150), 3))
            points = np.stack([np.interp(along, arc, neurite.points_nm[:, axis]) for axis in range(3)], axis=1)
            local = float(np.interp(along, arc, neurite.radii_nm).mean())
            wide = neurite.kind == "dendrite"
            radius = float(np.clip(local * (0.33 if wide else 0.6) * np.exp(rng.normal(0, 0.2)), 45, 150))
            offset = rng.uniform(0, max(local - radius - 40, 0)) * 0.7
            points = points + perpendicular(unit(points[-1] - points[0]), rng) * offset
            chains.append((points, radius * rng.uniform(0.85, 1.1, len(points)), len(homes)))
            homes.append(neurite.index)
            at += length + rng.exponential(gap_nm)
    for site in sites:
        inside = rng.uniform() < config.mito_probability_bouton
        half, radius = rng.uniform(60, 260), rng.uniform(55, 60 + 0.4 * site.bouton_radius_nm)
        direction = unit(perpendicular(site.normal, rng) + 0.3 * rng.normal(size=3))
        if site.axon and inside:
            middle = site.bouton_nm - site.normal * 0.35 * site.bouton_radius_nm
            points = middle + np.array([-half, 0.0, half])[:, None] * direction
            chains.append((points, np.array([0.9, 1.0, 0.9]) * radius, len(homes)))
            homes.append(site.axon)
    return Capsules.from_chains(chains), np.array(homes, np.int32)


def place_tubules(dendrites: list[Neurite], rng: np.random.Generator) -> Capsules:
    """Lay microtubules and smooth reticulum along dendrites, equally dense in every cell type.

    Args:
        dendrites: Dendrites in the volume.
        rng: Source of randomness.

    Returns:
        Thin capsules whose owner is the dendrite.
    """
    chains: list[tuple[Floats, Floats, int]] = []
    for neurite in dendrites:
        tangent = np.gradient(neurite.points_nm, axis=0)
        tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
        first = np.cross(tangent, perpendicular(tangent[0], rng))
        first /= np.linalg.norm(first, axis=1, keepdims=True)
        second = np.cross(tangent, first)
        n_microtubules = int((neurite.radii_nm.mean() / 58) ** 2)
        for k in range(n_microtubules + 3):
            angle, share = rng.uniform(0, 2 * np.pi), 0.85 * np.sqrt(rng.uniform())
            turn = angle + np.cumsum(rng.normal(0, 0.02 if k < n_microtubules else 0.25, len(tangent)))
            out = (share * neurite.radii_nm)[:, None]
            points = neurite.points_nm + out * (first * np.cos(turn)[:, None] + second * np.sin(turn)[:, None])
            radius = 12.0 if k < n_microtubules else rng.uniform(28, 45)
            start, stop = np.sort(rng.integers(0, len(points), 2))
            part = slice(start, max(stop, start + 6))
            chains.append((points[part], np.full(len(points[part]), radius), neurite.index))
    return Capsules.from_chains(chains)


def paint_tubules(
    capsules: Capsules, territory: Territory, image_zyx: NDArray[np.float32], style: ImagingStyle
) -> None:
    """Draw microtubules as grey threads and reticulum as thin-walled tubes, in place."""
    start, end, radius, _, home = capsules
    size, owner_zyx = territory.voxel_size_nm, territory.owner_zyx
    _paint_tubules(start, end, radius, home, size, owner_zyx, image_zyx, style.membrane_stain)


@njit(cache=True)
def _paint_tubules(start, end, radius, home, size, owner, image, stain):
    nz, ny, nx = image.shape
    for k in range(start.shape[0]):
        wide = radius[k] + 12.0
        lower = np.minimum(start[k], end[k]) - wide
        upper = np.maximum(start[k], end[k]) + wide
        bx, by, bz = end[k, 0] - start[k, 0], end[k, 1] - start[k, 1], end[k, 2] - start[k, 2]
        length2 = max(bx * bx + by * by + bz * bz, 1.0)
        for z in range(max(int(lower[2] / size[2]), 0), min(int(upper[2] / size[2]) + 1, nz)):
            for y in range(max(int(lower[1] / size[1]), 0), min(int(upper[1] / size[1]) + 1, ny)):
                for x in range(max(int(lower[0] / size[0]), 0), min(int(upper[0] / size[0]) + 1, nx)):
                    if owner[z, y, x] != home[k]:
                        continue
                    px = (x + 0.5) * size[0] - start[k, 0]
                    py = (y + 0.5) * size[1] - start[k, 1]
                    pz = (z + 0.5) * size[2] - start[k, 2]
                    # Place along the tubule as a share of its length, and distance d to its axis.
                    t = (px * bx + py * by + pz * bz) / length2
                    if t < 0 or t >= 1:
                        continue
                    dx, dy, dz = px - t * bx, py - t * by, pz - t * bz
                    d = np.sqrt(dx * dx + dy * dy + dz * dz)
                    if radius[k] < 20.0:
                        image[z, y, x] -= stain * 30.0 * np.exp(-((d / 13.0) ** 2))
                    else:
                        image[z, y, x] -= stain * 38.0 * np.exp(-(((d - radius[k]) / 10.0) ** 2))


def paint_mitochondria(
    capsules: Capsules,
    homes: NDArray[np.int32],
    territory: Territory,
    image_zyx: NDArray[np.float32],
    seed: int,
    style: ImagingStyle,
) -> NDArray[np.uint16]:
    """Draw mitochondria (dark double membrane, dark matrix, cristae) inside their neurites.

    Args:
        capsules: Pieces of mitochondria; owner is the mitochondrion.
        homes: Neurite of each mitochondrion.
        territory: Who owns each voxel.
        image_zyx: Image in grey levels; changed in place.
        seed: Seed of the per-mitochondrion tone.
        style: Stain of matrix and membranes.

    Returns:
        Mitochondrion of each voxel, 0 where there is none, shape (z, y, x).
    """
    tone = np.random.default_rng(seed).normal(0, 6, homes.size)
    mito_zyx = np.zeros(image_zyx.shape, np.uint16)
    _paint(
        *capsules,
        homes,
        tone,
        territory.voxel_size_nm,
        *territory.volumes,
        image_zyx,
        mito_zyx,
        style.organelle_stain,
        style.membrane_stain,
    )
    return mito_zyx


@njit(cache=True)
def _paint(
    start,
    end,
    start_radius,
    end_radius,
    mito,
    homes,
    tone,
    size,
    owner,
    second,
    depth,
    second_depth,
    image,
    out,
    stain,
    membrane_stain,
):
    nz, ny, nx = image.shape
    for k in range(start.shape[0]):
        wide = max(start_radius[k], end_radius[k])
        lower = np.minimum(start[k], end[k]) - wide
        upper = np.maximum(start[k], end[k]) + wide
        bx, by, bz = end[k, 0] - start[k, 0], end[k, 1] - start[k, 1], end[k, 2] - start[k, 2]
        length2 = max(bx * bx + by * by + bz * bz, 1.0)
        length = np.sqrt(length2)
        for z in range(max(int(lower[2] / size[2]), 0), min(int(upper[2] / size[2]) + 1, nz)):
            for y in range(max(int(lower[1] / size[1]), 0), min(int(upper[1] / size[1]) + 1, ny)):
                for x in range(max(int(lower[0] / size[0]), 0), min(int(upper[0] / size[0]) + 1, nx)):
                    if owner[z, y, x] != homes[mito[k]]:
                        continue
                    px = (x + 0.5) * size[0] - start[k, 0]
                    py = (y + 0.5) * size[1] - start[k, 1]
                    pz = (z + 0.5) * size[2] - start[k, 2]
                    t = min(max((px * bx + py * by + pz * bz) / length2, 0.0), 1.0)
                    dx, dy, dz = px - t * bx, py - t * by, pz - t * bz
                    lateral = np.sqrt(dx * dx + dy * dy + dz * dz)
                    # Signed distance to the surface, negative inside; the neurite's membrane cuts it off 26 nm before.
                    d = lateral - (start_radius[k] + t * (end_radius[k] - start_radius[k]))
                    border = border_distance(depth[z, y, x], second_depth[z, y, x], owner[z, y, x], second[z, y, x])
                    d = max(d, 26.0 - border)
                    if d >= 0:
                        continue
                    # Cristae: waves along the axis. Where capsules of a mitochondrion overlap, the lighter grey stays,
                    # so that the dark shell of one does not cross the inside of another.
                    phase = (t * length + 140.0 * k) / 62.0 + 0.5 * np.sin(dx / 45.0 + k) + 0.5 * np.sin(dy / 55.0)
                    grey = 158.0 - 56.0 * stain + tone[mito[k]] - 22.0 * stain * max(np.sin(2 * np.pi * phase), -0.3)
                    grey = grey - 48.0 * membrane_stain * np.exp(-(((d + 9.0) / 11.0) ** 2))
                    if out[z, y, x] == mito[k]:
                        grey = max(grey, image[z, y, x])
                    image[z, y, x] = grey
                    out[z, y, x] = mito[k]
