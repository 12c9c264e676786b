"""Tiles, windows and outlines against brute force."""

import numpy as np
import pytest

from synapseclr.explorer.map_tiles import DEEPEST, SELECTED, SHOWN, TILE_PX, TileColours, quad_tree

GREY = np.array([128, 128, 128], np.uint8)


@pytest.fixture(scope="module")
def plane():
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(4000, 2)).astype(np.float32)
    plane[:500] = plane[0]  # many at one place
    plane[-1] = np.nan
    return plane


@pytest.fixture(scope="module")
def tree(plane):
    return quad_tree(plane)


def pixels_of(tree, plane, level, x, y):
    """Pixel of each synapse in a tile, (n, 2) from the lower left; (-1, -1) elsewhere."""
    share = (plane.astype(float) - tree.low) / tree.side * 2**level
    pixel = np.floor((share - [x, y]) * TILE_PX)
    inside = ((pixel >= 0) & (pixel < TILE_PX)).all(axis=1)
    return np.where(inside[:, None], pixel, -1).astype(int)


@pytest.mark.parametrize(("level", "x", "y"), [(0, 0, 0), (2, 1, 2), (DEEPEST, 130, 120)])
def test_a_tile_shows_the_mean_of_numbers_where_synapses_are(tree, plane, level, x, y):
    values = plane[:, 0].copy()
    values[::7] = np.nan
    flags = np.full(len(plane), SHOWN, np.uint8)
    flags[::3] = 0
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    colours = TileColours(np.array([1, 2, 3], np.uint8), None, ramp, -3, 3)
    drawn = tree.tile(level, x, y, values[tree.row_m], flags[tree.row_m], colours)
    pixel = pixels_of(tree, plane, level, x, y)
    expected = np.zeros((TILE_PX, TILE_PX, 3), np.uint8)
    is_drawn = np.zeros((TILE_PX, TILE_PX), bool)
    is_shown = (flags == SHOWN) & (pixel[:, 0] >= 0)
    for across, up in np.unique(pixel[is_shown], axis=0):
        known = values[is_shown & (pixel == (across, up)).all(axis=1)]
        known = known[np.isfinite(known)].astype(float)
        mean = np.clip(np.round((known.mean() + 3) / 6 * 255), 0, 255) if len(known) else None
        expected[up, across], is_drawn[up, across] = (1, 2, 3) if mean is None else mean, True
    assert ((drawn[..., 3] > 0) == is_drawn).all()
    assert np.abs(drawn[..., :3].astype(int) - expected).max() <= 1


def test_classes_are_mixed_and_the_densest_pixel_is_opaque(tree, plane):
    codes = (np.arange(len(plane)) % 2).astype(np.uint8)
    colours = TileColours(GREY, np.array([[255, 0, 0], [0, 0, 255]], np.uint8))
    flags = np.full(len(plane) - 1, SHOWN, np.uint8)
    drawn = tree.tile(0, 0, 0, codes[tree.row_m], flags, colours)
    across, up = pixels_of(tree, plane, 0, 0, 0)[0]
    assert drawn[up, across, 3] == 255
    assert np.abs(drawn[up, across, :3].astype(int) - [128, 0, 128]).max() <= 2
    faint = drawn[..., 3][drawn[..., 3] > 0].min()
    assert 50 < faint < 128


def test_a_single_synapse_with_a_value_is_seen_among_many_without(tree, plane):
    codes = np.full(len(plane), 255, np.uint8)
    codes[0] = 1  # in the densest pixel
    colours = TileColours(GREY, np.array([[255, 0, 0], [0, 0, 255]], np.uint8))
    drawn = tree.tile(0, 0, 0, codes[tree.row_m], np.full(len(plane) - 1, SHOWN, np.uint8), colours)
    across, up = pixels_of(tree, plane, 0, 0, 0)[0]
    assert drawn[up, across].tolist() == [0, 0, 255, 255]
    others = drawn[..., 3] > 0
    others[up, across] = False
    assert (drawn[..., :3][others] == GREY).all()


def test_what_is_not_selected_is_pale(tree, plane):
    flags = np.full(len(plane), SHOWN, np.uint8)
    flags[:500] |= SELECTED
    colours = TileColours(GREY)
    before = tree.tile(0, 0, 0, None, flags[tree.row_m], colours)
    drawn = tree.tile(0, 0, 0, None, flags[tree.row_m], colours, has_selection=True)
    across, up = pixels_of(tree, plane, 0, 0, 0)[0]
    assert drawn[up, across, 3] == before[up, across, 3] == 255
    others = before[..., 3] > 0
    others[up, across] = False
    assert (drawn[..., 3][others] < 0.3 * before[..., 3][others]).all()
    assert (drawn[..., 3][others] > 0).all()


def test_a_tile_has_one_range_and_all_tiles_of_a_level_have_all_synapses(tree, plane):
    spans = [tree.span(3, x, y) for x in range(8) for y in range(8)]
    assert sum(span.stop - span.start for span in spans) == len(plane) - 1
    assert (np.diff(tree.key_m.astype(np.int64)) >= 0).all()


@pytest.mark.parametrize("window", [(-0.5, 0.4, -1.0, 0.3), (-9, 9, -9, 9), (0.2, 0.2003, 0, 0.5), (8, 9, 8, 9)])
def test_a_window_holds_the_shown_synapses_in_it(tree, plane, window):
    flags = np.full(len(plane), SHOWN, np.uint8)
    flags[::3] = 0
    found = tree.in_window(window[:2], window[2:], flags[tree.row_m], 5000)
    low, high = np.array(window).reshape(2, 2).T
    expected = np.flatnonzero(((plane >= low) & (plane <= high)).all(axis=1) & (flags == SHOWN))
    assert sorted(tree.row_m[found]) == expected.tolist()
    if len(expected) > 1:
        assert tree.in_window(window[:2], window[2:], flags[tree.row_m], len(expected) - 1) is None


def test_an_outline_holds_what_the_even_odd_rule_says(tree, plane):
    from matplotlib.path import Path

    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    for radius in (0.02 + 0 * angle, 0.8 + 0.3 * np.sin(5 * angle), 40 + 0 * angle):
        x, y = radius * np.cos(angle) + plane[7, 0], radius * np.sin(angle) + plane[7, 1]
        expected = np.flatnonzero(Path(np.stack([x, y], 1)).contains_points(np.nan_to_num(plane, nan=1e9)))
        assert sorted(tree.inside(x, y)) == expected.tolist()
    assert not len(tree.inside([90, 91, 92], [90, 95, 90]))


def test_the_nearest_shown_synapse_is_found_within_reach(tree, plane):
    flags = np.full(len(plane), SHOWN, np.uint8)
    apart = np.linalg.norm(plane - [0.3, 0.3], axis=1)
    first, second = np.argsort(apart)[:2]
    assert tree.nearest(0.3, 0.3, 1.0, flags[tree.row_m]) == first
    flags[first] = 0
    assert tree.nearest(0.3, 0.3, 1.0, flags[tree.row_m]) == second
    assert tree.nearest(0.3, 0.3, apart[second] / 2, flags[tree.row_m]) == -1
