"""Clumped and even vesicles differ in nothing but their arrangement."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from synapseclr.simulation.geometry import Site
from synapseclr.simulation.synapses import arrange

N_BOUTONS = 40


def fill_boutons(is_clumped: bool, flatness: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Positions and axes in boutons of 240 nm whose cleft lies at z = 0."""
    normal = np.array([0.0, 0.0, 1.0])
    site = Site(1, "spine", np.array([0.0, 0.0, -210.0]), 240.0, np.zeros(3), normal, 140.0, 0.0)
    rng = np.random.default_rng(0)
    return [arrange(site, is_clumped, flatness, rng) for _ in range(N_BOUTONS)]


@pytest.fixture(scope="module")
def clumped():
    return fill_boutons(True, 1.0)


@pytest.fixture(scope="module")
def even():
    return fill_boutons(False, 2.0)


def mean_of(measure, boutons) -> float:
    return float(np.mean([measure(positions) for positions, _ in boutons]))


def test_number_and_distance_to_the_cleft_are_equal(clumped, even):
    assert mean_of(len, clumped) == pytest.approx(mean_of(len, even), rel=0.06)
    height = [mean_of(lambda p: -p[:, 2].mean(), boutons) for boutons in (clumped, even)]
    assert height[0] == pytest.approx(height[1], rel=0.08)
    assert 100 < height[1] < 210


def test_vesicles_do_not_overlap(clumped, even):
    for positions, _ in (*clumped, *even):
        assert pdist(positions).min() >= 30


def test_clumps_hold_more_neighbours(clumped, even):
    def neighbours(positions):
        return (squareform(pdist(positions)) < 100).sum(axis=1).mean() - 1

    assert mean_of(neighbours, clumped) > 1.6 * mean_of(neighbours, even)


def test_flat_vesicles_have_the_area_of_round_ones(clumped, even):
    round_n2, flat_n2 = clumped[0][1][:, :2], even[0][1][:, :2]
    assert flat_n2[:, 0] / flat_n2[:, 1] == pytest.approx(2.0)
    assert flat_n2.prod(axis=1) == pytest.approx(round_n2.prod(axis=1)[0])
