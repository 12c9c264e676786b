"""Synapses: outlines of the postsynaptic density, and clumped and even vesicles."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from synapseclr.simulation.config import ImagingStyle
from synapseclr.simulation.geometry import Site
from synapseclr.simulation.synapses import CENTRAL, SPLIT, WHOLE, Morphology, arrange, paint_contacts
from synapseclr.simulation.territory import Territory

SIZE_NM, EDGE_VX, RADIUS_NM = 8.0, 80, 180.0


def darken(post_outline: int) -> np.ndarray:
    """Darkness behind a flat contact between two halves of a cube, in the plane and summed over depth."""
    height_nm = (np.arange(EDGE_VX) + 0.5 - EDGE_VX / 2) * SIZE_NM
    height_zyx = np.broadcast_to(height_nm[:, None, None], (EDGE_VX,) * 3)
    owner_zyx = np.where(height_zyx < 0, 2, 1).astype(np.int16)
    depth_zyx = (-4 * np.abs(height_zyx)).astype(np.int16)
    territory = Territory(owner_zyx, (3 - owner_zyx).astype(np.int16), depth_zyx, -depth_zyx, np.full(3, SIZE_NM))
    centre = np.full(3, EDGE_VX / 2 * SIZE_NM)
    site = Site(1, "spine", centre, 300.0, centre, np.array([0.0, 0.0, 1.0]), RADIUS_NM, 0.0, axon=2)
    one = np.ones(1)
    look = Morphology(np.zeros((1, 4)), 50 * one, 15 * one, 90 * one, one, np.array([post_outline]))
    image_zyx = np.full((EDGE_VX,) * 3, 150, np.float32)
    rng = np.random.default_rng(0)
    _, verified = paint_contacts([site], look, territory, image_zyx, ImagingStyle(), rng)
    assert verified.all()
    return (150 - image_zyx[height_nm > 0]).sum(axis=0)


def test_central_and_split_densities_are_equal_in_amount():
    whole, central, split = (darken(outline).sum() for outline in (WHOLE, CENTRAL, SPLIT))
    assert central == pytest.approx(split, rel=0.06)
    assert central == pytest.approx(whole / 2, rel=0.1)


def test_a_central_density_is_dark_where_a_split_one_is_not():
    central_yx, split_yx = darken(CENTRAL), darken(SPLIT)
    middle = slice(EDGE_VX // 2 - 3, EDGE_VX // 2 + 3)
    assert central_yx[middle, middle].min() > 0.8 * central_yx.max()
    assert split_yx[middle, middle].max() < 0.05 * split_yx.max()
    # Either outline covers about half of the disc.
    disc_vx = np.pi * (RADIUS_NM / SIZE_NM) ** 2
    for dark_yx in (central_yx, split_yx):
        assert (dark_yx > 0.5 * dark_yx.max()).sum() == pytest.approx(disc_vx / 2, rel=0.1)


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
