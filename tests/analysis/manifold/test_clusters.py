"""Clusters of the plane, their axes, and traits along them."""

import numpy as np
import pandas as pd
import pytest

from synapseclr.analysis.manifold import (
    AxesConfig,
    ClusterConfig,
    Clusters,
    axis_position_table,
    axis_profiles,
    cluster_axes,
    cluster_profiles,
    find_clusters,
    sample_along,
)

RNG = np.random.default_rng(0)


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
