"""Rows of features in memory, in Zarr and behind dask."""

import numpy as np
import pytest

from synapseclr.analysis.feature_rows import FeatureRows, is_lazy, row_blocks

N, F = 9000, 3


@pytest.fixture(scope="module")
def features_nf():
    return np.random.default_rng(0).normal(size=(N, F)).astype(np.float32)


@pytest.fixture(scope="module")
def sources(features_nf):
    """The same features in every form that is accepted."""
    import dask.array as da
    import zarr

    stored = zarr.create_array({}, shape=(N, F), chunks=(256, F), shards=(2560, F), dtype="f4")
    stored[:] = features_nf
    return {
        "memory": features_nf,
        "zarr": stored,
        "dask": da.from_array(stored, chunks=(2560, F), inline_array=True),
        "dask, array apart": da.from_array(stored, chunks=(2560, F)),
        "dask, computed": 1 * da.from_array(stored, chunks=(2560, F), inline_array=True),
        "dask of numpy": da.from_array(features_nf, chunks=(1000, F)),
    }


def test_single_rows_are_those_asked_for_whatever_holds_them(features_nf, sources):
    rows_r = np.array([8999, 3, 3, 4100, 0, 5])
    for name, source in sources.items():
        found = FeatureRows(source)
        np.testing.assert_array_equal(found[rows_r], features_nf[rows_r], err_msg=name)
        assert found[np.array([], dtype=int)].shape == (0, F)
        assert is_lazy(source) == (name != "memory")


def test_few_chunks_are_decoded_at_a_time(features_nf, sources, monkeypatch):
    monkeypatch.setattr("synapseclr.analysis.feature_rows._CHUNK_VALUES", 2 * 256 * F)
    rows_r = np.random.default_rng(1).permutation(N)[:700]
    np.testing.assert_array_equal(FeatureRows(sources["dask"])[rows_r], features_nf[rows_r])


def test_a_changed_array_is_not_read_around_its_change(sources):
    changed = sources["dask"][:, ::-1] + 1
    np.testing.assert_array_equal(FeatureRows(changed)[np.array([7])], changed[7:8].compute())
    reversed_only = sources["dask, array apart"][::-1]
    np.testing.assert_array_equal(FeatureRows(reversed_only)[np.array([7])], reversed_only[7:8].compute())


def test_blocks_hold_every_row_once(features_nf, sources, monkeypatch):
    monkeypatch.setattr("synapseclr.analysis.feature_rows._BLOCK_VALUES", 1)
    assert [len(rows) for rows in row_blocks(N, F)] == [4096, 4096, 808]
    rows = FeatureRows(sources["dask"])
    np.testing.assert_array_equal(np.concatenate([block for _, block in rows.blocks()]), features_nf)
    rows_m = np.array([2, 4095, 8999])
    parts = list(rows.blocks(rows_m))
    assert len(parts) == 2  # the block without any of them is not read
    np.testing.assert_array_equal(np.concatenate([chosen for chosen, _ in parts]), rows_m)
    np.testing.assert_array_equal(np.concatenate([block for _, block in parts]), features_nf[rows_m])


@pytest.mark.parametrize("n_sampled", [1, 300, N, 3 * N])
def test_samples_are_spread_over_all_rows(features_nf, n_sampled):
    runs = list(FeatureRows(features_nf).sample(n_sampled))
    rows = np.concatenate([np.asarray(run) for run, _ in runs])
    assert len(set(rows.tolist())) == len(rows) >= min(n_sampled, N)
    assert len(rows) <= n_sampled + len(runs)
    np.testing.assert_array_equal(np.concatenate([part for _, part in runs]), features_nf[rows])
    assert np.ptp(rows) >= 0.9 * N or n_sampled == 1
