"""Statistics of images and masks by hand, and the plane of the cleft against recorded vectors."""

import numpy as np
import pytest

from synapseclr.analysis.handcrafted import (
    MASK_STATISTIC_NAMES,
    STATISTIC_NAMES,
    chunk_statistics,
    cleft_plane,
    mask_statistics,
    store_mask_statistics,
    store_statistics,
    view_axes,
)


class MemoryStore:
    def __init__(self, chunk_ncxyz):
        self.chunk_ncxyz = chunk_ncxyz
        self.largest_read = 0

    def __len__(self):
        return len(self.chunk_ncxyz)

    def read(self, indices):
        self.largest_read = max(self.largest_read, len(indices))
        return self.chunk_ncxyz[indices]


def _chunks(n):
    rng = np.random.default_rng(0)
    chunk_ncxyz = rng.integers(0, 256, (n, 2, 8, 8, 4), dtype=np.uint8)
    chunk_ncxyz[:, 1] %= 4
    return chunk_ncxyz


def test_statistics_match_numpy():
    chunk_cxyz = _chunks(1)[0]
    statistics = dict(zip(STATISTIC_NAMES, chunk_statistics(chunk_cxyz), strict=True))
    scaled = chunk_cxyz[0] / 255.0
    np.testing.assert_allclose(statistics["intensity_mean"], scaled.mean(), rtol=1e-5)
    np.testing.assert_allclose(statistics["intensity_variance"], scaled.var(), rtol=1e-5)
    histogram = [statistics[f"intensity_histogram_{index:02d}"] for index in range(16)]
    expected = np.histogram(chunk_cxyz[0], bins=16, range=(0, 256))[0] / chunk_cxyz[0].size
    np.testing.assert_allclose(histogram, expected, rtol=1e-5)
    for name, code in (("pre_synaptic", 1), ("synaptic_cleft", 2), ("post_synaptic", 3)):
        np.testing.assert_allclose(statistics[f"{name}_fraction"], (chunk_cxyz[1] == code).mean(), rtol=1e-5)


def test_statistics_ignore_where_anything_lies():
    chunk_cxyz = _chunks(1)[0]
    moved = np.roll(chunk_cxyz[:, ::-1], 3, axis=2)
    np.testing.assert_array_equal(chunk_statistics(moved), chunk_statistics(chunk_cxyz))


def test_store_is_read_in_batches_and_in_order():
    store = MemoryStore(_chunks(7))
    statistics_nk = store_statistics(store, batch_size=3)
    assert store.largest_read == 3
    assert statistics_nk.dtype == np.float32
    np.testing.assert_array_equal(statistics_nk, [chunk_statistics(chunk) for chunk in store.chunk_ncxyz])
    np.testing.assert_array_equal(store_statistics(store, [5, 2]), statistics_nk[[5, 2]])


SIZE_NM = (20.0, 20.0, 40.0)


@pytest.fixture
def chunk_cxyz():
    """Presynaptic left, postsynaptic right, a cleft of two planes between, nothing behind y = 12."""
    chunk_cxyz = np.full((2, 20, 16, 6), 200, np.uint8)
    chunk_cxyz[1, :9], chunk_cxyz[1, 9:11], chunk_cxyz[1, 11:] = 1, 2, 3
    chunk_cxyz[0, 9:11] = 50
    chunk_cxyz[:, :, 12:] = np.array([100, 0], np.uint8)[:, None, None, None]
    return chunk_cxyz


def _named(chunk_cxyz):
    return dict(zip(MASK_STATISTIC_NAMES, mask_statistics(chunk_cxyz, SIZE_NM), strict=True))


def test_masks_have_their_share_and_their_intensity(chunk_cxyz):
    found = _named(chunk_cxyz)
    assert found["background_fraction"] == pytest.approx(0.25)
    assert found["pre_synaptic_fraction"] == pytest.approx(0.75 * 9 / 20)
    assert found["synaptic_cleft_mean"] == pytest.approx(50 / 255)
    assert found["post_synaptic_mean"] == pytest.approx(200 / 255)
    assert found["post_synaptic_deviation"] == pytest.approx(0, abs=1e-6)
    chunk_cxyz[0, :3, :12] = 100
    levels = np.repeat([100, 200], [3, 6]) / 255
    assert _named(chunk_cxyz)["pre_synaptic_deviation"] == pytest.approx(levels.std())


def test_missing_data_are_counted_and_kept_out_of_the_mean(chunk_cxyz):
    chunk_cxyz[0, 11:, :, :2] = 0
    found = _named(chunk_cxyz)
    assert found["post_synaptic_missing"] == pytest.approx(1 / 3)
    assert found["pre_synaptic_missing"] == 0
    assert found["post_synaptic_mean"] == pytest.approx(200 / 255)


def test_both_partners_touch_a_sound_cleft(chunk_cxyz):
    found = _named(chunk_cxyz)
    assert found["shell_60_nm_pre_synaptic_fraction"] == pytest.approx(found["shell_60_nm_post_synaptic_fraction"])
    assert found["shell_60_nm_pre_synaptic_fraction"] > 0.35
    chunk_cxyz[1, 11:] = 0
    without = _named(chunk_cxyz)
    assert without["shell_60_nm_post_synaptic_fraction"] == 0
    assert without["shell_60_nm_background_fraction"] > 0.5


def test_shells_are_measured_in_nm(chunk_cxyz):
    """A voxel 80 nm away lies in the outer shell, one 40 nm away in the inner."""
    chunk_cxyz[1], chunk_cxyz[0] = 0, 100
    chunk_cxyz[1, 10, 8, 3] = 2
    chunk_cxyz[1, 10, 8, 4] = 1  # next section: 40 nm
    chunk_cxyz[1, 14, 8, 3] = 3  # four voxels: 80 nm
    found = _named(chunk_cxyz)
    assert found["shell_60_nm_pre_synaptic_fraction"] > 0 == found["shell_60_nm_post_synaptic_fraction"]
    assert found["shell_120_nm_post_synaptic_fraction"] > 0 == found["shell_120_nm_pre_synaptic_fraction"]


def test_a_cleft_that_is_no_darker_than_around_has_no_contrast(chunk_cxyz):
    assert _named(chunk_cxyz)["cleft_contrast"] < -0.4
    chunk_cxyz[0] = 200
    assert _named(chunk_cxyz)["cleft_contrast"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("intensity", [0, 200])
@pytest.mark.parametrize("code", [0, 2])
def test_degenerate_chunks_have_finite_statistics(intensity, code):
    chunk_cxyz = np.stack([np.full((8, 8, 4), intensity, np.uint8), np.full((8, 8, 4), code, np.uint8)])
    statistics_k = mask_statistics(chunk_cxyz, SIZE_NM)
    assert statistics_k.shape == (25,)
    assert np.isfinite(statistics_k).all()


def test_a_store_is_measured_batch_by_batch(chunk_cxyz):
    class Store:
        chunks = np.stack([chunk_cxyz, chunk_cxyz[:, ::-1], 255 - chunk_cxyz % 4])

        def __len__(self):
            return 3

        def read(self, indices):
            chunks = self.chunks[indices]
            chunks[:, 1] %= 4
            return chunks

    measured_nk = store_mask_statistics(Store(), SIZE_NM, batch_size=2)
    np.testing.assert_array_equal(measured_nk[0], mask_statistics(chunk_cxyz, SIZE_NM))
    np.testing.assert_array_equal(measured_nk[2], mask_statistics(Store().read([2])[0], SIZE_NM))


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
