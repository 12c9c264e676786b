"""The plane of features that exceed memory: fitted on a sample, the others placed among it."""

from pathlib import Path

import dask.array as da
import numpy as np
import pytest

from synapseclr.analysis.config import ManifoldConfig
from synapseclr.analysis.manifold import fit_manifold, principal_components
from synapseclr.analysis.manifold_blocks import fit_manifold_in_blocks, neighbour_weights
from synapseclr.analysis.row_blocks import RowBlocksConfig, sample_rows
from synapseclr.errors import SynapseCLRError

N = 240
QUICK = {"n_components": 6, "n_neighbours": 10, "n_epochs": 30}


@pytest.fixture(scope="module")
def features_nf():
    """Three groups of synapses far apart."""
    rng = np.random.default_rng(0)
    centres_3f = 12 * rng.normal(size=(3, 12))
    return (rng.normal(size=(N, 12)) + centres_3f[np.arange(N) % 3]).astype(np.float32)


def _lazy(features_nf):
    return da.from_array(features_nf, chunks=(64, features_nf.shape[1]))


@pytest.fixture
def small_blocks(tmp_path):
    return RowBlocksConfig(rows=64, folder=str(tmp_path))


def test_a_sample_of_all_is_fitted_as_in_memory(features_nf, small_blocks):
    config = ManifoldConfig(**QUICK, three_dimensions=False)
    expected, found = (
        fit_manifold(features_nf, config),
        fit_manifold_in_blocks(_lazy(features_nf), config, small_blocks),
    )
    exact_np, _ = principal_components(features_nf.astype(np.float64), config.n_components)  # fit_manifold: in float32
    np.testing.assert_allclose(found.pca_np, exact_np, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(found.explained_variance_p, expected.explained_variance_p, atol=1e-6)
    assert found.settings == expected.settings | {"n_fitted": N}
    assert found.umap_n3 is None
    assert found.umap_n2.shape == expected.umap_n2.shape


def test_others_are_placed_among_the_sample(features_nf, small_blocks):
    config = ManifoldConfig(**QUICK, n_fitted=N // 2)
    found = fit_manifold_in_blocks(_lazy(features_nf), config, small_blocks)
    assert found.settings["n_fitted"] == N // 2
    assert found.umap_n3.shape == (N, 3)
    sampled_m = sample_rows(N, N // 2, 0)
    placed_o = np.setdiff1d(np.arange(N), sampled_m)
    for coordinates_nd in (found.umap_n2, found.umap_n3):
        between_oq = np.linalg.norm(coordinates_nd[placed_o][:, None] - coordinates_nd[sampled_m], axis=2)
        np.testing.assert_array_equal(sampled_m[between_oq.argmin(axis=1)] % 3, placed_o % 3)
    assert not [path for path in Path(small_blocks.folder).rglob("*") if path.is_file()]


def test_collapsed_features_need_no_neighbours(small_blocks):
    lazy_nf = da.ones((40, 5), chunks=(16, 5), dtype=np.float32)
    found = fit_manifold_in_blocks(lazy_nf, ManifoldConfig(**QUICK, n_fitted=10), small_blocks)
    assert "collapsed" in found.settings["method"]
    assert found.umap_n2.shape == (40, 2)
    assert not found.umap_n2.any()
    with pytest.raises(SynapseCLRError, match="at least 2 synapses"):
        fit_manifold_in_blocks(lazy_nf[:1], ManifoldConfig(), small_blocks)


def test_weights_fall_with_distance_and_duplicates_share_them():
    weights_nk = neighbour_weights(np.array([[0.1, 0.5, 1.0, 2.0, 4.0], [0.0] * 5]))
    np.testing.assert_allclose(weights_nk.sum(axis=1), 1.0)
    assert (np.diff(weights_nk[0]) < 0).all()
    np.testing.assert_allclose(weights_nk[1], 0.2)
