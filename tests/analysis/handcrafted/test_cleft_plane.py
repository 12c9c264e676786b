import numpy as np
import pytest

from synapseclr.analysis.handcrafted.cleft_plane import cleft_plane, view_axes

EMPTY, TWO_VOXELS = 14, 16


@pytest.fixture(scope="module")
def recorded(golden_folder):
    with np.load(golden_folder / "g10_cleft.npz") as stored:
        return dict(stored)


def codes_of(mask_cxyz):
    codes = np.zeros(mask_cxyz.shape[1:], np.uint8)
    for code, channel in ((3, 2), (1, 0), (2, 1)):  # the cleft goes before the presynaptic side, this before the other
        codes[mask_cxyz[channel]] = code
    return codes


@pytest.mark.parametrize("item", range(17))
def test_centre_normal_and_view_equal_the_published_ones(recorded, item):
    codes = codes_of(recorded["mask_ncxyz"][item])
    plane = cleft_plane(codes)
    assert plane.is_defined == recorded["cleft_plane_ok"][item] == (item not in (EMPTY, TWO_VOXELS))
    if item != EMPTY:  # where the published code gives the origin, a corner of the chunk
        np.testing.assert_allclose(plane.centre_xyz_nm, recorded["cleft_com"][item], atol=1e-5)
    np.testing.assert_allclose(plane.normal_xyz, recorded["cleft_normal"][item], atol=1e-6)
    longest, other = view_axes(codes, plane)
    assert abs(longest @ recorded["view_1"][item]) == pytest.approx(1, abs=1e-6)
    assert abs(other @ recorded["view_2"][item]) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(np.cross(longest, other), plane.normal_xyz, atol=1e-12)


def test_anisotropic_voxels_do_not_tilt_the_plane():
    x, y, z = np.indices((24, 24, 12))
    height_nm = 8.0 * x + 8.0 * y + 40.0 * z  # a plane with normal (1, 1, 1) in space
    codes = np.where(height_nm > 330, 1, 3).astype(np.uint8)
    codes[np.abs(height_nm - 320) < 20] = 2
    plane = cleft_plane(codes, (8, 8, 40))
    assert plane.normal_xyz @ np.ones(3) / np.sqrt(3) > 0.98
    assert plane.spread_nm[0] < plane.spread_nm[1] <= plane.spread_nm[2]


@pytest.mark.parametrize("code", [1, 3])
def test_one_side_alone_decides_which_way_is_up(code):
    codes = np.zeros((9, 9, 9), np.uint8)
    codes[2:7, 2:7, 4] = 2
    codes[2:7, 2:7, 6:] = code
    assert cleft_plane(codes).normal_xyz[2] == pytest.approx(1 if code == 1 else -1)


def test_a_chunk_without_masks_has_a_view_all_the_same():
    codes = np.zeros((8, 10, 12), np.uint8)
    plane = cleft_plane(codes)
    assert not plane.is_defined
    np.testing.assert_array_equal(plane.centre_xyz_nm, [3.5, 4.5, 5.5])
    np.testing.assert_allclose(np.cross(*view_axes(codes, plane)), [0, 0, 1], atol=1e-12)
