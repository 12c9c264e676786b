"""Dendrites that cross the volume, and the sites on them where synapses can form."""

from __future__ import annotations

import numpy as np
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
    unit,
)

POINT_SPACING_NM = 200.0
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
            points = chord(rng, extent, 700, POINT_SPACING_NM)
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
        points = best if best is not None else chord(rng, extent, 700, POINT_SPACING_NM)
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
        phase = np.cumsum(np.full(arc_nm.size, POINT_SPACING_NM) / rng.uniform(1000, 1500, arc_nm.size))
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
    low, high = -12.0, 12.0
    for _ in range(60):
        middle = (low + high) / 2
        share = np.mean(odds * np.exp(middle) / (1 + odds * np.exp(middle))) if len(sites) else 0.0
        low, high = (middle, high) if share < fraction_inhibitory else (low, middle)
    probability = odds * np.exp(low) / (1 + odds * np.exp(low))
    for site, is_inhibitory in zip(sites, rng.uniform(size=len(sites)) < probability, strict=True):
        site.pre_type = INHIBITORY if is_inhibitory else EXCITATORY
