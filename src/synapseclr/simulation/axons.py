"""Axons that link synapse sites of one type, filler neurites, and the routing of both between everything else."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from synapseclr.simulation.config import SimulationConfig
from synapseclr.simulation.geometry import Floats, Neurite, Site, chord, random_direction, unit
from synapseclr.simulation.relaxation import relax

POINT_SPACING_NM = 170.0
OVERSHOOT_NM = 400.0
STEP_RANGE_NM = (500.0, 4500.0)


def grow_axons(
    config: SimulationConfig, sites: list[Site], first_index: int, rng: np.random.Generator
) -> tuple[list[Neurite], list[Neurite]]:
    """Thread axons through sites of their own type, out of the volume at both ends, and add fillers.

    Args:
        config: What to simulate.
        sites: All sites; those that an axon takes get its index, the others keep 0.
        first_index: Index of the first axon.
        rng: Source of randomness.

    Returns:
        Axons and fillers, not yet routed around each other.
    """
    extent = np.array(config.extent_nm)
    axons: list[Neurite] = []
    for cell_type in (0, 1):
        free = [site for site in sites if site.pre_type == cell_type]
        for chain in _chain_sites(free, config.synapses_per_axon, rng):
            soma_dist_um = float(rng.uniform(20, 600))
            calibre = (62 + 48 * np.exp(-soma_dist_um / 160)) * np.exp(rng.normal(0, 0.12))
            points = _thread(chain, extent, rng)
            radii = calibre * np.exp(rng.normal(0, 0.12, len(points)))
            axons.append(Neurite(0, "axon", cell_type, soma_dist_um, points, radii))
            for site in chain:
                site.axon = -len(axons)
    order = rng.permutation(len(axons))
    rank = np.empty(len(axons), int)
    rank[order] = np.arange(len(axons))
    for site in sites:
        site.axon = first_index + int(rank[-site.axon - 1]) if site.axon < 0 else 0
    axons = [axons[k] for k in order]
    for offset, axon in enumerate(axons):
        axon.index = first_index + offset
    fillers = []
    for offset in range(config.n_fillers):
        points = chord(rng, extent, OVERSHOOT_NM, POINT_SPACING_NM)
        radius = np.exp(rng.normal(np.log(95), 0.3))
        swelling = 1 + rng.uniform(0, 0.9) * np.clip(
            np.convolve(rng.normal(size=len(points)), np.ones(3) / 2, "same"), 0, 2
        )
        index = first_index + len(axons) + offset
        kind = int(rng.uniform() < config.fraction_inhibitory_axons)
        fillers.append(Neurite(index, "filler", kind, float(rng.uniform(20, 600)), points, radius * swelling))
    return axons, fillers


def _chain_sites(free: list[Site], size_range: tuple[int, int], rng: np.random.Generator) -> list[list[Site]]:
    """Group sites into chains of nearby ones that run roughly straight; sites that fit in none are left out."""
    smallest, largest = size_range
    position = np.array([site.bouton_nm for site in free]).reshape(-1, 3)
    available = np.ones(len(free), bool)
    chains: list[list[Site]] = []
    for start in rng.permutation(len(free)):
        if not available[start]:
            continue
        wanted = int(rng.integers(max(smallest, (smallest + largest) // 2), largest + 1))
        chain, heading = [int(start)], random_direction(rng)
        available[start] = False
        for reverse in (False, True):
            if reverse:
                chain.reverse()
                heading = -heading if len(chain) < 2 else unit(position[chain[-1]] - position[chain[-2]])
            while len(chain) < (wanted if reverse else (wanted + 1) // 2):
                step = position - position[chain[-1]]
                length = np.linalg.norm(step, axis=1)
                turn = 1 - step @ heading / np.maximum(length, 1)
                fits = available & (length > STEP_RANGE_NM[0]) & (length < STEP_RANGE_NM[1]) & (turn < 1.15)
                if not fits.any():
                    break
                chosen = int(np.where(fits, length * (1 + 1.5 * turn), np.inf).argmin())
                heading = unit(heading + 1.2 * step[chosen] / length[chosen])
                chain.append(chosen)
                available[chosen] = False
        if len(chain) >= smallest:
            chains.append([free[k] for k in chain])
        else:
            available[chain[1:]] = True
    return chains


def _thread(chain: list[Site], extent: Floats, rng: np.random.Generator) -> Floats:
    """Centre line through the boutons of a chain, leaving each one sideways and the box at both ends."""
    boutons = [site.bouton_nm for site in chain]
    if len(chain) > 1:
        headings = [unit(boutons[min(k + 1, len(chain) - 1)] - boutons[max(k - 1, 0)]) for k in range(len(chain))]
    else:
        headings = [random_direction(rng)]
    stops: list[Floats] = [_exit(boutons[0], -headings[0], extent)]
    for site, heading in zip(chain, headings, strict=True):
        sideways = unit(heading - 0.9 * site.normal * float(heading @ site.normal) - 0.15 * site.normal)
        back = unit(-heading + 0.9 * site.normal * float(heading @ site.normal) - 0.15 * site.normal)
        stops += [
            site.bouton_nm + back * (site.bouton_radius_nm + 90),
            site.bouton_nm,
            site.bouton_nm + sideways * (site.bouton_radius_nm + 90),
        ]
    stops.append(_exit(boutons[-1], headings[-1], extent))
    points = [stops[0]]
    for first, last in pairwise(stops):
        pieces = max(int(np.linalg.norm(last - first) / POINT_SPACING_NM), 1)
        points += [first + (last - first) * (k + 1) / pieces for k in range(pieces)]
    return np.array(points)


def _exit(start: Floats, heading: Floats, extent: Floats) -> Floats:
    """Where a straight way from a point leaves the box, a little outside it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        to_face = np.maximum(-start / heading, (extent - start) / heading)
    return start + heading * (float(np.nanmin(to_face)) + OVERSHOOT_NM)


def route(dendrites: list[Neurite], axons: list[Neurite], fillers: list[Neurite], sites: list[Site]) -> None:
    """Move axons and fillers off everything else, in place; dendrites, spines and boutons stay where they are."""
    chains: list[tuple[Floats, Floats, int, bool]] = []
    for neurite in dendrites:
        chains.append((neurite.points_nm, neurite.radii_nm, neurite.index, False))
        chains += [(points[1:3], radii[1:3], neurite.index, False) for points, radii in neurite.branches]
    for site in sites:
        bouton = np.array([site.bouton_nm])
        chains.append((bouton, np.array([site.bouton_radius_nm]), site.axon or -1, False))
    n_fixed = sum(len(points) for points, *_ in chains)
    moving = [*axons, *fillers]
    chains += [(neurite.points_nm, neurite.radii_nm, neurite.index, True) for neurite in moving]
    points = np.concatenate([chain[0] for chain in chains])
    owner = np.concatenate([np.full(len(chain[0]), chain[2]) for chain in chains]).astype(np.int64)
    movable = np.arange(len(points)) >= n_fixed
    linked = movable.copy()
    ends = n_fixed + np.cumsum([0, *(len(neurite.points_nm) for neurite in moving)])
    linked[ends[:-1]] = False
    linked[ends[1:] - 1] = False
    boutons = {site.axon: [] for site in sites if site.axon}  # type: dict[int, list[Floats]]
    for site in sites:
        if site.axon:
            boutons[site.axon].append(site.bouton_nm)
    for start, neurite in zip(ends[:-1], moving, strict=True):
        for bouton in boutons.get(neurite.index, []):
            movable[start + int(np.linalg.norm(neurite.points_nm - bouton, axis=1).argmin())] = False
    relaxed = relax(points, np.concatenate([chain[1] for chain in chains]), owner, movable, linked)
    for start, stop, neurite in zip(ends[:-1], ends[1:], moving, strict=True):
        neurite.points_nm = relaxed[start:stop]
