"""Pushes neurites off each other: compiled repulsion and tension on the points of all centre lines."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from synapseclr.simulation.geometry import Floats

CELL_NM = 400.0


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
        movable: Which spheres may move, shape (n,).
        linked: Whether a sphere is joined by tension to the previous and the next one, shape (n,).
        n_rounds: Number of passes.
        gap_nm: Distance to keep between surfaces.

    Returns:
        New centres, shape (n, 3).
    """
    points = points_nm.copy()
    for step in range(n_rounds):
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
        points = _round(
            points,
            radii_nm,
            owner,
            movable,
            linked,
            origin,
            cells,
            counts,
            order,
            starts,
            largest,
            reach,
            gap_nm,
            tension,
        )
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
                        push = (wanted - d) / d * (0.35 if movable[j] else 0.6)
                        px += dx * push
                        py += dy * push
                        pz += dz * push
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
