"""The plane, and what stands in for it where UMAP has nothing to say."""

import numpy as np
import pytest

from synapseclr.analysis.manifold import ManifoldConfig, fit_manifold, principal_components, usable_neighbours
from synapseclr.errors import SynapseCLRError

QUICK = ManifoldConfig(n_components=8, n_neighbours=10, n_epochs=50)


def _features(n_synapses, n_features=20):
    return np.random.default_rng(0).normal(size=(n_synapses, n_features)).astype(np.float32)


def test_umap_is_reproducible_and_separates_clusters():
    features_nf = _features(60)
    features_nf[30:] += 20
    first, second = fit_manifold(features_nf, QUICK), fit_manifold(features_nf, QUICK)
    np.testing.assert_array_equal(first.umap_n2, second.umap_n2)
    assert first.umap_n2.shape == (60, 2)
    assert first.settings["method"] == "umap"
    centres = first.umap_n2[:30].mean(0), first.umap_n2[30:].mean(0)
    spread = first.umap_n2[:30].std() + first.umap_n2[30:].std()
    assert np.linalg.norm(centres[0] - centres[1]) > spread


def test_principal_components_match_the_singular_value_decomposition():
    features_nf = _features(30)
    coordinates_np, explained_p = principal_components(features_nf, 5)
    centred_nf = features_nf - features_nf.mean(0)
    left, values, _ = np.linalg.svd(centred_nf, full_matrices=False)
    np.testing.assert_allclose(np.abs(coordinates_np), np.abs(left * values)[:, :5], atol=1e-3)
    np.testing.assert_allclose(explained_p, (values**2 / (values**2).sum())[:5], rtol=1e-4)


def test_components_are_capped_by_synapses_and_features():
    assert principal_components(_features(6), 50)[0].shape == (6, 5)
    assert principal_components(_features(40, 3), 50)[0].shape == (40, 3)


@pytest.mark.parametrize(("asked", "synapses", "used"), [(500, 28, 9), (500, 12, 5), (30, 450, 30), (500, 90000, 500)])
def test_neighbours_are_capped(asked, synapses, used):
    assert usable_neighbours(asked, synapses) == used


@pytest.mark.parametrize("n_synapses", [2, 3, 9])
def test_few_synapses_fall_back_to_principal_components(n_synapses):
    manifold = fit_manifold(_features(n_synapses), QUICK)
    assert manifold.settings["method"].startswith(f"pca: {n_synapses} synapses")
    np.testing.assert_array_equal(manifold.umap_n2[:, 0], manifold.pca_np[:, 0])
    assert manifold.umap_n2.shape == (n_synapses, 2)


def test_collapsed_features_are_said_to_be_collapsed():
    manifold = fit_manifold(np.ones((50, 8), np.float32), QUICK)
    assert "collapsed" in manifold.settings["method"]
    assert not manifold.umap_n2.any()


def test_a_single_synapse_is_refused():
    with pytest.raises(SynapseCLRError, match="at least 2 synapses"):
        fit_manifold(_features(1), QUICK)


def test_settings_hold_nothing_that_anndata_cannot_store():
    config = ManifoldConfig(n_epochs=20, random_state=None)
    assert all(isinstance(value, str | int | float) for value in fit_manifold(_features(5), config).settings.values())
