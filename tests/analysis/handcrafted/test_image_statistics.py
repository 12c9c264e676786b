"""Trivial statistics against numpy."""

import numpy as np

from synapseclr.analysis.handcrafted.image_statistics import STATISTIC_NAMES, chunk_statistics, store_statistics


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
