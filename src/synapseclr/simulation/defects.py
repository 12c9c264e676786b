"""Segmentation and imaging defects at known synapses, as real pipelines produce them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from synapseclr.simulation.geometry import Floats, Site, ball, window_around

DEFECTS = ("merged_segmentation", "missing_segmentation", "misplaced_cleft", "blackout")


# A defect must not reach a neighbouring synapse that the truth calls sound: how far that one has to be, nm.
CLEARANCE_NM = {"missing_segmentation": 800.0, "blackout": 600.0}


def draw_defects(sites: list[Site], fraction: float, rng: np.random.Generator) -> list[str]:
    """Choose which synapses are defective, and how, the kinds in turn.

    Args:
        sites: The synapses.
        fraction: Share of defective ones; fewer when too few stand apart from their neighbours.
        rng: Source of randomness.

    Returns:
        One of `DEFECTS` or an empty string per synapse.
    """
    defects = [""] * len(sites)
    kinds = [DEFECTS[k] for k in rng.permutation(len(DEFECTS))]
    centres = np.array([site.centre_nm for site in sites]).reshape(-1, 3)
    dendrite = np.array([site.dendrite for site in sites])
    queue = [int(k) for k in rng.permutation(len(sites))]
    for turn in range(round(fraction * len(sites))):
        kind = kinds[turn % len(kinds)]
        for k in queue:
            distance = np.linalg.norm(centres - centres[k], axis=1)
            distance[k] = np.inf
            if kind == "missing_segmentation":
                distance[dendrite != dendrite[k]] = np.inf
            if distance.min() > CLEARANCE_NM.get(kind, 0.0):
                defects[k] = kind
                queue.remove(k)
                break
    return defects


def apply_defect(
    defect: str,
    site: Site,
    label: int,
    em_zyx: NDArray[np.uint8],
    segment_zyx: NDArray[np.int16],
    cleft_zyx: NDArray[np.int32],
    voxel_size_nm: Floats,
    rng: np.random.Generator,
    spared: list[int] | None = None,
) -> None:
    """Spoil the data around one synapse, in place.

    Args:
        defect: One of `DEFECTS`.
        site: The synapse.
        label: Its label in the cleft volume.
        em_zyx: Image; `blackout` zeroes a box of four to seven sections.
        segment_zyx: Segmentation; `merged_segmentation` lets the presynaptic neurite swallow its neighbours in a ball,
            `missing_segmentation` clears the postsynaptic neurite in a ball.
        cleft_zyx: Cleft labels; `misplaced_cleft` shifts this label by about 250 nm.
        voxel_size_nm: Voxel size (x, y, z) in nm.
        rng: Source of randomness.
        spared: Neurites that `merged_segmentation` leaves alone, because other synapses nearby need them.

    Raises:
        ValueError: If the defect is unknown.
    """
    if defect == "merged_segmentation":
        window, inside = ball(site.bouton_nm, rng.uniform(450, 600), segment_zyx.shape, voxel_size_nm)
        local = segment_zyx[window]
        swallowed = inside & (local > 0) & ~np.isin(local, [site.dendrite, *(spared or [])])
        local[swallowed] = site.axon
    elif defect == "missing_segmentation":
        middle = site.centre_nm + 150 * site.normal
        window, inside = ball(middle, rng.uniform(380, 500), segment_zyx.shape, voxel_size_nm)
        local = segment_zyx[window]
        local[inside & (local == site.dendrite)] = 0
    elif defect == "misplaced_cleft":
        where = _find(label, site, cleft_zyx, voxel_size_nm)
        sideways = rng.choice([-1.0, 1.0]) * site.normal + 0.4 * rng.normal(size=3)
        shift_nm = 250.0 * sideways / np.linalg.norm(sideways)
        moved = where + np.round(shift_nm / voxel_size_nm).astype(int)[::-1]
        cleft_zyx[tuple(where.T)] = 0
        moved = moved[np.all((moved >= 0) & (moved < cleft_zyx.shape), axis=1)]
        moved = moved[cleft_zyx[tuple(moved.T)] == 0]
        cleft_zyx[tuple(moved.T)] = label
    elif defect == "blackout":
        half_nm = np.array([rng.uniform(260, 380), rng.uniform(260, 380), rng.uniform(80, 140)])
        em_zyx[window_around(site.centre_nm, half_nm, em_zyx.shape, voxel_size_nm)] = 0
    else:
        raise ValueError(f"unknown defect {defect!r}; expected one of {', '.join(DEFECTS)}")


def _find(label: int, site: Site, cleft_zyx: NDArray[np.int32], voxel_size_nm: Floats) -> NDArray[np.int64]:
    """Voxels of one cleft label, searched near its site only."""
    window = window_around(site.centre_nm, np.full(3, 600.0), cleft_zyx.shape, voxel_size_nm)
    return np.argwhere(cleft_zyx[window] == label) + [part.start for part in window]


def neighbours(site: Site, sites: list[Site], within_nm: float = 1000.0) -> list[int]:
    """Partners of all other synapses near a site, by neurite index."""
    near = [
        other for other in sites if np.linalg.norm(other.centre_nm - site.bouton_nm) < within_nm and other is not site
    ]
    return [index for other in near for index in (other.axon, other.dendrite)]
