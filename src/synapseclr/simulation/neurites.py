"""Neurites: dendrites with synapse sites, axons through these sites, and the routing that moves them apart."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.spatial import KDTree

from synapseclr.simulation.config import SimulationConfig
from synapseclr.simulation.geometry import (
    EXCITATORY,
    INHIBITORY,
    Floats,
    Neurite,
    Site,
    chord,
    path_length,
    perpendicular,
    random_direction,
    unit,
)

# Distance between neighbouring points of a centre line.
DENDRITE_SPACING_NM, AXON_SPACING_NM = 200.0, 170.0
# Centre lines of axons end this far outside of the volume.
OVERSHOOT_NM = 400.0
# Distance between two sites that follow each other along an axon.
STEP_RANGE_NM = (500.0, 4500.0)
# Side of the cells by which overlapping spheres are found.
CELL_NM = 400.0
# Odds of an inhibitory partner relative to a shaft of an inhibitory dendrite: spines are excitatory ground.
INHIBITORY_ODDS = {"spine": 0.16, "shaft_excitatory": 4.5, "shaft_inhibitory": 1.0}


def grow_dendrites(config: SimulationConfig, rng: np.random.Generator) -> list[Neurite]:
    """Lay dendrites through the volume so that they keep apart.

    Calibre falls with the distance to the cell body and, apart from noise, depends on nothing else; inhibitory
    dendrites are beaded and excitatory ones even, about the same mean (all are even with the signature `texture`).

    Args:
        config: What to simulate.
        rng: Source of randomness.

    Returns:
        The dendrites, indexed from 1.
    """
    extent = np.array(config.extent_nm)
    n_inhibitory = round(config.n_dendrites * config.fraction_inhibitory_dendrites)
    types = rng.permutation(np.repeat([INHIBITORY, EXCITATORY], [n_inhibitory, config.n_dendrites - n_inhibitory]))
    taken, taken_radii = np.zeros((0, 3)), np.zeros(0)
    dendrites: list[Neurite] = []
    for cell_type in types:
        soma_dist_um = float(rng.uniform(12, 260))
        calibre = (165 + 250 * np.exp(-soma_dist_um / 85)) * np.exp(rng.normal(0, 0.12))
        best, best_gap = None, -np.inf
        tree = KDTree(taken) if len(taken) else None
        for _ in range(60):
            points = chord(rng, extent, 700, DENDRITE_SPACING_NM)
            if path_length(points)[-1] < 0.45 * extent.max():
                continue
            gap = np.inf
            if tree is not None:
                distance, neighbour = tree.query(points, k=4)
                gap = float((distance - taken_radii[neighbour]).min() - calibre)
            if gap > best_gap:
                best, best_gap = points, gap
            if gap > 450:
                break
        points = best if best is not None else chord(rng, extent, 700, DENDRITE_SPACING_NM)
        is_beaded = cell_type == INHIBITORY and config.signature == "darkness"
        radii = _calibre_along(path_length(points), calibre, is_beaded, rng)
        taken, taken_radii = np.concatenate([taken, points]), np.concatenate([taken_radii, radii])
        dendrites.append(Neurite(len(dendrites) + 1, "dendrite", int(cell_type), soma_dist_um, points, radii))
    return dendrites


def _calibre_along(arc_nm: Floats, calibre_nm: float, is_beaded: bool, rng: np.random.Generator) -> Floats:
    """Radius along a dendrite, even or varicose."""
    wobble = 0.07 * np.sin(2 * np.pi * (arc_nm / rng.uniform(2500, 4000) + rng.uniform())) + rng.normal(
        0, 0.03, arc_nm.size
    )
    beads = np.zeros_like(arc_nm)
    if is_beaded:
        phase = np.cumsum(np.full(arc_nm.size, DENDRITE_SPACING_NM) / rng.uniform(1000, 1500, arc_nm.size))
        beads = 0.40 * np.sin(2 * np.pi * (phase + rng.uniform()))
    return calibre_nm * (1 + wobble + beads)


class _Occupied:
    """Balls that are already in place, for clearance checks."""

    def __init__(self, dendrites: list[Neurite]) -> None:
        self.centres = np.concatenate([neurite.points_nm for neurite in dendrites])
        self.radii = np.concatenate([neurite.radii_nm for neurite in dendrites])
        self.owner = np.concatenate([np.full(len(neurite.points_nm), neurite.index) for neurite in dendrites])

    def clearance(self, centre: Floats, radius: float, ignore: int = 0) -> float:
        """Smallest gap between a ball and everything in place except what neurite `ignore` owns."""
        gap = np.linalg.norm(self.centres - centre, axis=1) - self.radii - radius
        return float(np.where(self.owner == ignore, np.inf, gap).min()) if ignore else float(gap.min())

    def add(self, centre: Floats, radius: float, owner: int) -> None:
        """Put a ball in place."""
        self.centres = np.vstack([self.centres, centre])
        self.radii = np.append(self.radii, radius)
        self.owner = np.append(self.owner, owner)


def place_sites(config: SimulationConfig, dendrites: list[Neurite], rng: np.random.Generator) -> list[Site]:
    """Put synapse sites on dendrites: heads of spines (grown here) and points on shafts.

    Cleft area, bouton size and spine-head size are drawn before the place is known, so that they carry no cell type.
    With the signature `texture`, dendrites of both types have spines, and axons of both types synapse on all targets.

    Args:
        config: What to simulate.
        dendrites: Dendrites in the volume; excitatory ones gain their spines as branches.
        rng: Source of randomness.

    Returns:
        Sites with the presynaptic cell type that each one asks for.
    """
    occupied = _Occupied(dendrites)
    extent = np.array(config.extent_nm)
    queue: list[tuple[Neurite, str]] = []
    for neurite in dendrites:
        length_um = neurite.arc_length_nm()[-1] / 1000
        spiny = neurite.cell_type == EXCITATORY or config.signature == "texture"
        shaft_density = config.shaft_density_excitatory_per_um if spiny else config.shaft_density_inhibitory_per_um
        queue += [(neurite, "spine")] * round(length_um * config.spine_density_per_um * spiny)
        queue += [(neurite, "shaft")] * round(length_um * shaft_density)
    sites: list[Site] = []
    for position in rng.permutation(len(queue)):
        neurite, target = queue[position]
        area_nm2 = config.cleft_area_median_um2 * 1e6 * np.exp(rng.normal(0, config.cleft_area_log_sd))
        cleft_radius = float(np.clip(np.sqrt(area_nm2 / np.pi), 75, 260))
        for _ in range(14):
            site = _try_site(neurite, target, cleft_radius, occupied, extent, config.site_margin_nm, rng)
            if site is not None:
                sites.append(site)
                break
    _draw_partner_types(sites, dendrites, config.fraction_inhibitory_axons, config.signature, rng)
    return sites


def _try_site(
    neurite: Neurite,
    target: str,
    cleft_radius: float,
    occupied: _Occupied,
    extent: Floats,
    margin_nm: float,
    rng: np.random.Generator,
) -> Site | None:
    """Propose one place; None when it does not fit."""
    k = int(rng.integers(1, len(neurite.points_nm) - 1))
    base, shaft_radius = neurite.points_nm[k], float(neurite.radii_nm[k])
    tangent = unit(neurite.points_nm[k + 1] - neurite.points_nm[k - 1])
    outward = unit(perpendicular(tangent, rng) + tangent * rng.normal(0, 0.25))
    bouton_radius = cleft_radius * 1.05 + rng.uniform(50, 160)
    if target == "spine":
        head_radius = cleft_radius * 1.0 + rng.uniform(35, 120)
        neck_nm = rng.uniform(60, 330)
        head = base + outward * (shaft_radius + neck_nm + 0.85 * head_radius)
        normal = -unit(outward + 0.8 * perpendicular(outward, rng) * rng.uniform())
    else:
        head_radius, head, normal = shaft_radius, base, -outward
        if shaft_radius < 0.95 * cleft_radius:
            return None
    separation = head_radius + bouton_radius - 0.3 * min(head_radius, bouton_radius)
    bouton = head - normal * separation
    centre = bouton + normal * (separation + bouton_radius - head_radius) / 2
    if np.any(centre < margin_nm) or np.any(centre > extent - margin_nm):
        return None
    own = neurite.index if target == "shaft" else 0
    if occupied.clearance(bouton, bouton_radius, own) < 40:
        return None
    if target == "spine":
        if occupied.clearance(head, head_radius) < min(40, 0.6 * neck_nm):
            return None
        neck_radius = rng.uniform(45, 75)
        neurite.branches.append(
            (
                np.array([base, head - outward * 0.8 * head_radius, head, head + outward]),
                np.array([1.4 * neck_radius, neck_radius, head_radius, head_radius]),
            )
        )
        occupied.add(head, head_radius, neurite.index)
        occupied.add((base + head) / 2 + outward * (shaft_radius - head_radius) / 2, neck_radius, neurite.index)
    occupied.add(bouton, bouton_radius, -1)
    arc = float(neurite.arc_length_nm()[k])
    return Site(neurite.index, target, bouton, bouton_radius, centre, normal, cleft_radius, arc)


def _draw_partner_types(
    sites: list[Site], dendrites: list[Neurite], fraction_inhibitory: float, signature: str, rng: np.random.Generator
) -> None:
    """Give each site a presynaptic type so that the expected share of inhibitory ones is as asked."""
    names = [
        site.target
        if site.target == "spine"
        else f"shaft_{'inhibitory' if dendrites[site.dendrite - 1].cell_type == INHIBITORY else 'excitatory'}"
        for site in sites
    ]
    odds = np.array([INHIBITORY_ODDS[name] for name in names]) if signature == "darkness" else np.ones(len(names))
    # Bisection for the log-odds at which the mean probability is the share that was asked for.
    low, high = -12.0, 12.0
    for _ in range(60):
        middle = (low + high) / 2
        share = np.mean(odds * np.exp(middle) / (1 + odds * np.exp(middle))) if len(sites) else 0.0
        low, high = (middle, high) if share < fraction_inhibitory else (low, middle)
    probability = odds * np.exp(low) / (1 + odds * np.exp(low))
    for site, is_inhibitory in zip(sites, rng.uniform(size=len(sites)) < probability, strict=True):
        site.pre_type = INHIBITORY if is_inhibitory else EXCITATORY


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
    for cell_type in (EXCITATORY, INHIBITORY):
        free = [site for site in sites if site.pre_type == cell_type]
        for chain in _chain_sites(free, config.synapses_per_axon, rng):
            soma_dist_um = float(rng.uniform(20, 600))
            calibre = (62 + 48 * np.exp(-soma_dist_um / 160)) * np.exp(rng.normal(0, 0.12))
            points = _thread(chain, extent, rng)
            radii = calibre * np.exp(rng.normal(0, 0.12, len(points)))
            axons.append(Neurite(0, "axon", cell_type, soma_dist_um, points, radii))
            for site in chain:
                site.axon = -len(axons)  # negative until the axons are shuffled and have their index
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
        points = chord(rng, extent, OVERSHOOT_NM, AXON_SPACING_NM)
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
        pieces = max(int(np.linalg.norm(last - first) / AXON_SPACING_NM), 1)
        points += [first + (last - first) * (k + 1) / pieces for k in range(pieces)]
    return np.array(points)


def _exit(start: Floats, heading: Floats, extent: Floats) -> Floats:
    """Point, a little outside of the box, at which a straight line from a point leaves it."""
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
    boutons: dict[int, list[Floats]] = {site.axon: [] for site in sites if site.axon}
    for site in sites:
        if site.axon:
            boutons[site.axon].append(site.bouton_nm)
    for start, neurite in zip(ends[:-1], moving, strict=True):
        for bouton in boutons.get(neurite.index, []):
            movable[start + int(np.linalg.norm(neurite.points_nm - bouton, axis=1).argmin())] = False
    relaxed = relax(points, np.concatenate([chain[1] for chain in chains]), owner, movable, linked)
    for start, stop, neurite in zip(ends[:-1], ends[1:], moving, strict=True):
        neurite.points_nm = relaxed[start:stop]


def relax(
    points_nm: Floats,
    radii_nm: Floats,
    owner: NDArray[np.int64],
    movable: NDArray[np.bool_],
    linked: NDArray[np.bool_],
    n_rounds: int = 28,
    gap_nm: float = 35.0,
) -> Floats:
    """Move points until spheres of different owners hardly overlap, keeping each chain smooth.

    Args:
        points_nm: Sphere centres, chains one after the other, shape (n, 3).
        radii_nm: Sphere radii, shape (n,).
        owner: Neurite of each sphere; spheres of one neurite do not repel, shape (n,).
        movable: True for spheres that may move, shape (n,).
        linked: True for spheres joined by tension to the previous and the next one, shape (n,).
        n_rounds: Number of passes; the last six hardly smooth, so that gaps stay.
        gap_nm: Distance to keep between surfaces.

    Returns:
        New centres, shape (n, 3).
    """
    points = points_nm.copy()
    for step in range(n_rounds):
        # Cell list: `order` sorts the spheres by cell, and cell c holds those from starts[c] to starts[c + 1].
        origin = points.min(0)
        cells = np.floor((points - origin) / CELL_NM).astype(np.int64)
        counts = cells.max(0) + 1
        flat = (cells[:, 0] * counts[1] + cells[:, 1]) * counts[2] + cells[:, 2]
        order = np.argsort(flat, kind="stable")
        starts = np.searchsorted(flat[order], np.arange(counts.prod() + 1))
        reach = 1 + int(np.floor((radii_nm.max() + np.quantile(radii_nm, 0.9) + gap_nm) / CELL_NM))
        largest = np.zeros(int(counts.prod()))
        np.maximum.at(largest, flat, radii_nm)
        tension = 0.15 if step < n_rounds - 6 else 0.03
        grid = (origin, cells, counts, order, starts, largest, reach)
        points = _round(points, radii_nm, owner, movable, linked, *grid, gap_nm, tension)
    return points


@njit(cache=True)
def _round(points, radii, owner, movable, linked, origin, cells, counts, order, starts, largest, reach, gap, tension):
    """One pass: every movable point is pushed by all overlapping spheres, then drawn to its neighbours' middle."""
    moved = points.copy()
    n = points.shape[0]
    for i in range(n):
        if not movable[i]:
            continue
        px, py, pz = 0.0, 0.0, 0.0
        for cx in range(max(cells[i, 0] - reach, 0), min(cells[i, 0] + reach + 1, counts[0])):
            for cy in range(max(cells[i, 1] - reach, 0), min(cells[i, 1] + reach + 1, counts[1])):
                for cz in range(max(cells[i, 2] - reach, 0), min(cells[i, 2] + reach + 1, counts[2])):
                    cell = (cx * counts[1] + cy) * counts[2] + cz
                    # Skip a cell whose nearest corner is beyond the reach of its largest sphere.
                    bx = max(abs(points[i, 0] - origin[0] - (cx + 0.5) * CELL_NM) - 0.5 * CELL_NM, 0.0)
                    by = max(abs(points[i, 1] - origin[1] - (cy + 0.5) * CELL_NM) - 0.5 * CELL_NM, 0.0)
                    bz = max(abs(points[i, 2] - origin[2] - (cz + 0.5) * CELL_NM) - 0.5 * CELL_NM, 0.0)
                    far = radii[i] + largest[cell] + gap
                    if bx * bx + by * by + bz * bz >= far * far:
                        continue
                    for s in range(starts[cell], starts[cell + 1]):
                        j = order[s]
                        if owner[j] == owner[i]:
                            continue
                        dx = points[i, 0] - points[j, 0]
                        dy = points[i, 1] - points[j, 1]
                        dz = points[i, 2] - points[j, 2]
                        wanted = radii[i] + radii[j] + gap
                        d2 = dx * dx + dy * dy + dz * dz
                        if d2 >= wanted * wanted:
                            continue
                        d = max(np.sqrt(d2), 1.0)
                        # Each of two movable spheres takes a part of the overlap; a fixed one leaves more to the other.
                        push = (wanted - d) / d * (0.35 if movable[j] else 0.6)
                        px += dx * push
                        py += dy * push
                        pz += dz * push
        # At most 90 nm a pass, or crowded places would burst apart.
        size = np.sqrt(px * px + py * py + pz * pz)
        scale = min(1.0, 90.0 / size) if size > 0 else 0.0
        moved[i, 0] += px * scale
        moved[i, 1] += py * scale
        moved[i, 2] += pz * scale
        if linked[i] and 0 < i < n - 1:
            for axis in range(3):
                middle = 0.5 * (points[i - 1, axis] + points[i + 1, axis])
                moved[i, axis] += tension * (middle - points[i, axis])
    return moved
