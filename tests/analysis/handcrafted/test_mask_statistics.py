"""Mask statistics of chunks whose answers are known."""

import numpy as np
import pytest

from synapseclr.analysis.handcrafted.mask_statistics import MASK_STATISTIC_NAMES, mask_statistics, store_mask_statistics

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
