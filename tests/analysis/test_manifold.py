"""Projection to the plane, clusters, and the axes through them."""

import numpy as np
import pandas as pd
import pytest

from synapseclr.analysis.config import AxesConfig, ClusterConfig, ManifoldConfig
from synapseclr.analysis.manifold import (
    Clusters,
    axis_position_table,
    axis_profiles,
    cluster_axes,
    cluster_profiles,
    find_clusters,
    fit_manifold,
    principal_components,
    sample_along,
    usable_neighbours,
)
from synapseclr.errors import SynapseCLRError

QUICK = ManifoldConfig(n_components=8, n_neighbours=10, n_epochs=50)
RNG = np.random.default_rng(0)


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


def _blobs(sizes, distance=20.0):
    parts = [RNG.normal(loc=(distance * k, 0), size=(size, 2)) for k, size in enumerate(sizes)]
    return np.concatenate(parts), np.repeat(np.arange(len(sizes)), sizes)


@pytest.fixture
def ellipse():
    """One cluster, three times as long as wide, along the diagonal."""
    points_n2 = RNG.normal(size=(200, 2)) * [3.0, 1.0]
    turn = np.array([[1, 1], [-1, 1]]) / np.sqrt(2)
    return points_n2 @ turn, Clusters(np.zeros(200, np.int64), "hdbscan")


@pytest.mark.parametrize("most", [1000, 120])
def test_separate_groups_are_clusters_by_size(most):
    coordinates_n2, truth = _blobs([40, 100, 60])
    clusters = find_clusters(coordinates_n2, ClusterConfig(max_synapses=most))
    assert clusters.n_clusters == 3
    for label, group in enumerate((1, 2, 0)):
        assert (clusters.label_n[truth == group] == label).mean() > 0.8


@pytest.mark.parametrize(
    ("coordinates_n2", "said"),
    [(np.zeros((50, 2)), "same place"), (RNG.normal(size=(7, 2)), "7 synapses"), (np.zeros((1, 2)), "1 synapses")],
)
def test_what_has_no_clusters_is_one_and_said_to_be(coordinates_n2, said):
    clusters = find_clusters(coordinates_n2)
    assert clusters.n_clusters == 1
    assert not clusters.label_n.any()
    assert said in clusters.method


def test_axes_are_principal_axes(ellipse):
    points_n2, clusters = ellipse
    long, short = cluster_axes(points_n2, clusters, 1)
    assert abs(long.direction_d @ [1, 1]) / np.sqrt(2) > 0.99
    assert abs(long.direction_d @ short.direction_d) < 1e-12
    assert long.variance_fraction > 0.8
    np.testing.assert_allclose(np.hypot(long.position_m, long.offset_m) ** 2, _squared(points_n2), rtol=1e-9)


def _squared(points_n2):
    return np.square(points_n2 - points_n2.mean(axis=0)).sum(axis=1)


def test_samples_go_along_the_axis_and_stay_near_it(ellipse):
    points_n2, clusters = ellipse
    axis = cluster_axes(points_n2, clusters, 1)[0]
    chosen = sample_along(axis, 8)
    assert len(set(chosen)) == 8
    assert (np.diff(axis.position_m[chosen]) > 0).all()
    assert axis.offset_m[chosen].mean() < axis.offset_m.mean()
    assert len(sample_along(axis, 500)) == 200


def test_a_cluster_in_one_place_has_no_axis():
    clusters = Clusters(np.zeros(9, np.int64), "one cluster")
    assert cluster_axes(np.ones((9, 2)), clusters, 2) == []
    assert axis_position_table([], np.arange(9), 4).empty
    line = cluster_axes(np.stack([np.arange(9.0), np.zeros(9)], axis=1), clusters, 2)
    assert [axis.axis for axis in line] == [1]


def test_profiles_follow_a_trait_that_changes_along_the_axis(ellipse):
    points_n2, clusters = ellipse
    axes = cluster_axes(points_n2, clusters, 1)
    place_n = axes[0].position_m
    obs = pd.DataFrame(
        {
            "synapse_id": np.arange(200),
            "pre_root_id": np.arange(200) // 4 + 2**60,
            "cleft_size_log1p_zscore": np.where(np.arange(200) % 2, place_n, np.nan),
            "pre_cell_type": (place_n > 0).astype(float),
            "post_cell_type": np.nan,
        }
    )
    table = axis_profiles(axes, obs, AxesConfig(n_bins=5))
    assert set(table["trait"]) == {"cleft_size_log1p_zscore", "pre_cell_type"}
    along = table[(table["axis"] == 1) & (table["trait"] == "cleft_size_log1p_zscore")]
    assert along["n"].tolist() == [20] * 5
    assert (np.diff(along["mean"]) > 0).all()
    np.testing.assert_allclose(along["mean"], along["position"])
    assert (table["lower_90"] <= table["mean"]).all()
    assert (table["mean"] <= table["upper_90"]).all()
    whole = cluster_profiles(obs, clusters).set_index("trait")
    assert whole.loc["pre_cell_type", "mean"] == pytest.approx((place_n > 0).mean())
    assert whole.loc["pre_cell_type", "n_neurites"] == 50


def test_nothing_annotated_gives_empty_profiles(ellipse):
    points_n2, clusters = ellipse
    obs = pd.DataFrame({"synapse_id": np.arange(200), "pre_root_id": 0})
    assert axis_profiles(cluster_axes(points_n2, clusters, 1), obs).empty
    assert cluster_profiles(obs, clusters).empty
