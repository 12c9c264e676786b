"""Shapes that make up neurites, and where synapses sit on them. All positions and radii are in nanometres."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
EXCITATORY, INHIBITORY = 0, 1


@dataclass
class Neurite:
    """One neurite: a centre line with radii, and side branches (spines).

    Attributes:
        index: Position in the list of neurites, from 1; 0 is the unsegmented remainder.
        kind: `axon`, `dendrite` or `filler`.
        cell_type: 0 excitatory, 1 inhibitory.
        soma_dist_um: Path length to the cell body at the first centre-line point, um.
        points_nm: Centre line, shape (points, 3).
        radii_nm: Radius at each centre-line point, shape (points,).
        branches: Side branches as (points, radii) pairs.
    """

    index: int
    kind: str
    cell_type: int
    soma_dist_um: float
    points_nm: Floats
    radii_nm: Floats
    branches: list[tuple[Floats, Floats]] = field(default_factory=list)

    def arc_length_nm(self) -> Floats:
        """Distance along the centre line from its first point, shape (points,)."""
        return path_length(self.points_nm)


@dataclass
class Site:
    """A place where an axon's bouton touches a dendrite.

    Attributes:
        dendrite: Index of the postsynaptic neurite.
        target: `spine` or `shaft`.
        bouton_nm: Bouton centre, shape (3,).
        bouton_radius_nm: Bouton radius.
        centre_nm: Middle of the contact, shape (3,).
        normal: Unit vector from the presynaptic to the postsynaptic side, shape (3,).
        cleft_radius_nm: Radius of the disc of equal area.
        arc_nm: Position along the dendrite.
        pre_type: Cell type that the presynaptic axon must have.
        axon: Index of the presynaptic neurite, 0 until an axon takes the site.
    """

    dendrite: int
    target: str
    bouton_nm: Floats
    bouton_radius_nm: float
    centre_nm: Floats
    normal: Floats
    cleft_radius_nm: float
    arc_nm: float
    pre_type: int = EXCITATORY
    axon: int = 0


class Capsules(NamedTuple):
    """Tapered capsules as parallel arrays; unpacked, they are the first arguments of the painting loops.

    Attributes:
        start_nm: First ends, shape (n, 3).
        end_nm: Second ends, shape (n, 3).
        start_radius_nm: Radii at the first ends, shape (n,).
        end_radius_nm: Radii at the second ends, shape (n,).
        owner: Index of the neurite (or organelle), int32, shape (n,).
    """

    start_nm: Floats
    end_nm: Floats
    start_radius_nm: Floats
    end_radius_nm: Floats
    owner: NDArray[np.int32]

    @classmethod
    def from_chains(cls, chains: list[tuple[Floats, Floats, int]]) -> Capsules:
        """Join polylines, each as (points, radii, owner), into one set of capsules."""
        chains = [chain for chain in chains if len(chain[0]) > 1]
        if not chains:
            empty = np.zeros((0, 3))
            return cls(empty, empty, np.zeros(0), np.zeros(0), np.zeros(0, np.int32))
        return cls(
            np.concatenate([points[:-1] for points, _, _ in chains]),
            np.concatenate([points[1:] for points, _, _ in chains]),
            np.concatenate([radii[:-1] for _, radii, _ in chains]),
            np.concatenate([radii[1:] for _, radii, _ in chains]),
            np.concatenate([np.full(len(points) - 1, owner, np.int32) for points, _, owner in chains]),
        )


def unit(vector: Floats) -> Floats:
    """Scale a vector to length 1."""
    return vector / max(float(np.linalg.norm(vector)), 1e-9)


def path_length(points_nm: Floats) -> Floats:
    """Distance along a polyline from its first point, shape (points,)."""
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points_nm, axis=0), axis=1))])


def random_direction(rng: np.random.Generator) -> Floats:
    """A unit vector, uniform on the sphere."""
    return unit(rng.normal(size=3))


def perpendicular(direction: Floats, rng: np.random.Generator) -> Floats:
    """A random unit vector at right angles to a direction."""
    vector = rng.normal(size=3)
    return unit(vector - direction * float(vector @ direction))


def chord(rng: np.random.Generator, extent_nm: Floats, overshoot_nm: float, spacing_nm: float) -> Floats:
    """A wavy line through a random point of the box that leaves the box at both ends.

    Args:
        rng: Source of randomness.
        extent_nm: Edge lengths of the box, shape (3,).
        overshoot_nm: How far the line goes on outside the box.
        spacing_nm: Distance between neighbouring points.

    Returns:
        Points on the line, shape (points, 3).
    """
    through = rng.uniform(0.08, 0.92, 3) * extent_nm
    direction = random_direction(rng)
    with np.errstate(divide="ignore"):
        to_faces = np.stack([(0 - through) / direction, (extent_nm - through) / direction])
    first, last = to_faces.min(0).max() - overshoot_nm, to_faces.max(0).min() + overshoot_nm
    along = np.linspace(first, last, max(int((last - first) / spacing_nm) + 1, 4))
    points = through + along[:, None] * direction
    for wavelength_nm, amplitude_nm in ((9000, 300), (3500, 110), (1500, 35)):
        for _ in range(2):
            wave = np.sin(2 * np.pi * (along / (wavelength_nm * rng.uniform(0.7, 1.4)) + rng.uniform()))
            points = points + amplitude_nm * rng.normal() * wave[:, None] * perpendicular(direction, rng)
    return points


def window_around(
    centre_nm: Floats, half_nm: Floats, shape: tuple[int, ...], voxel_size_nm: Floats
) -> tuple[slice, slice, slice]:
    """The part of a (z, y, x) array within a distance of a point, per axis."""
    first = np.maximum(np.floor((centre_nm - half_nm) / voxel_size_nm), 0).astype(int)
    last = np.ceil((centre_nm + half_nm) / voxel_size_nm).astype(int)
    x, y, z = (slice(int(a), max(int(b), 0)) for a, b in zip(first, np.minimum(last, shape[::-1]), strict=True))
    return z, y, x


def ball(
    centre_nm: Floats, radius_nm: float, shape: tuple[int, ...], voxel_size_nm: Floats
) -> tuple[tuple[slice, slice, slice], NDArray[np.bool_]]:
    """Window around a ball, and which of its voxels lie inside."""
    window = window_around(centre_nm, np.full(3, radius_nm), shape, voxel_size_nm)
    z, y, x = (
        ((np.arange(part.start, part.stop) + 0.5) * size - centre) ** 2
        for part, size, centre in zip(window, voxel_size_nm[::-1], centre_nm[::-1], strict=True)
    )
    return window, z[:, None, None] + y[None, :, None] + x[None, None, :] < radius_nm**2
