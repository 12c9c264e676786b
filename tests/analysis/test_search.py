"""Neighbours in feature space, and queries."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from synapseclr.analysis.config import SimilarityConfig
from synapseclr.analysis.neuroglancer import NeuroglancerConfig
from synapseclr.analysis.search import (
    FeatureIndex,
    answer_query,
    chosen_index,
    distance_histograms,
    eligible_rows,
    make_queries,
    measure_recall,
    nearest_neighbours,
    neighbour_table,
    reciprocal_ranks,
    representative_queries,
    result_table,
)
from synapseclr.errors import SynapseCLRError, TableError

N = 120
IDS = np.arange(N) + 2**60


@pytest.fixture
def features_nf():
    return np.random.default_rng(0).normal(size=(80, 16)).astype(np.float32)


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_neighbours_match_brute_force(features_nf, kind):
    queries = np.array([5, 0, 79])
    found = nearest_neighbours(features_nf, queries, 6, kind)
    distances_qn = np.linalg.norm(features_nf[queries][:, None] - features_nf[None], axis=-1)
    distances_qn[np.arange(3), queries] = np.inf
    np.testing.assert_array_equal(found.indices_qk, np.argsort(distances_qn, axis=1)[:, :6])
    np.testing.assert_allclose(found.distances_qk, np.sort(distances_qn, axis=1)[:, :6], rtol=1e-3)


def test_query_is_excluded_even_among_duplicates():
    features_nf = np.ones((9, 4), np.float32)
    found = nearest_neighbours(features_nf, np.arange(9), 3)
    assert found.indices_qk.shape == (9, 3)
    assert (found.indices_qk != np.arange(9)[:, None]).all()
    np.testing.assert_allclose(found.distances_qk, 0.0)


def test_too_few_synapses_are_refused(features_nf):
    with pytest.raises(SynapseCLRError, match="7 neighbours asked for, but there are 4 other synapses"):
        nearest_neighbours(features_nf[:5], np.arange(5), 7)


def test_representative_queries_come_from_every_cluster():
    rng = np.random.default_rng(0)
    features_nf = (np.repeat(np.eye(4) * 50, 20, axis=0) + rng.normal(size=(80, 4))).astype(np.float32)
    assert sorted(representative_queries(features_nf, 4, seed=0) // 20) == [0, 1, 2, 3]


def test_representative_queries_of_identical_synapses_do_not_fail():
    assert len(representative_queries(np.zeros((10, 3), np.float32), 4)) == 1


def test_table_names_synapses_by_id(features_nf):
    synapse_id = np.arange(80) + 2**60
    queries = np.array([3, 4])
    found = nearest_neighbours(features_nf, queries, 2)
    table = neighbour_table(found, queries, synapse_id)
    assert table["synapse_id"].tolist() == [2**60 + 3] * 2 + [2**60 + 4] * 2
    assert table["rank"].tolist() == [1, 2, 1, 2]
    np.testing.assert_array_equal(table["neighbour_synapse_id"], synapse_id[found.indices_qk.ravel()])


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 400),
    st.integers(1, 6),
    st.sampled_from([1, 3, 200]),
    st.sampled_from([0, 4, 300]),
    st.sampled_from([1, 40]),
)
def test_whole_numbers_with_ties_are_ranked_as_by_brute_force(seed, n, f, reach, query_reach, n_queries):
    """Whole numbers have exact distances, duplicates and constant columns, and queries may lie far outside."""
    rng = np.random.default_rng(seed)
    features_nf = rng.integers(-reach, reach + 1, (n, f)).astype(np.float32)
    features_nf[:, rng.random(f) < 0.2] = 7
    query_qf = rng.integers(-query_reach, query_reach + 1, (n_queries, f)).astype(np.float32)
    k = int(rng.integers(1, min(n, 90) + 1))
    distances_qn = np.sqrt(np.square(features_nf[None].astype(float) - query_qf[:, None]).sum(axis=-1))
    found = FeatureIndex(features_nf, "flat").search(query_qf, k)
    np.testing.assert_allclose(found.distances_qk, np.sort(distances_qn, axis=1)[:, :k], rtol=1e-6)
    # Of equally far synapses any may be found, but none twice, and each at its own distance.
    np.testing.assert_allclose(
        found.distances_qk, np.take_along_axis(distances_qn, found.indices_qk, axis=1), rtol=1e-6
    )
    assert all(len(set(rows_k)) == k for rows_k in found.indices_qk.tolist())


def test_reciprocal_rank_counts_what_stands_before_the_first_match():
    gallery = np.array([[0.0], [1.0], [2.0], [3.0]])
    query = np.array([[0.1], [0.1], [0.1], [2.9]])
    match = np.array([[1, 0, 0, 0], [0, 0, 1, 1], [np.nan, 1, 0, 0], [0, 0, 0, 0]], dtype=float)
    assert reciprocal_ranks(query, gallery, match).tolist()[:3] == [1, 1 / 3, 1]
    assert np.isnan(reciprocal_ranks(query, gallery, match)[3])


def test_a_tie_counts_against_the_query_and_scales_do_not_matter():
    gallery = np.array([[0.0, 0.0], [0.0, 0.0], [5.0, 1e6]])
    match = np.array([[0, 1, 0]], dtype=float)
    assert reciprocal_ranks(np.zeros((1, 2)), gallery, match)[0] == 1 / 2
    assert reciprocal_ranks(np.zeros((1, 2)), gallery * [1, 1e-9], match)[0] == 1 / 2


@pytest.fixture
def stored_nf():
    return np.random.default_rng(0).normal(size=(N, 16)).astype(np.float32)


@pytest.fixture
def obs():
    return pd.DataFrame(
        {
            "synapse_id": IDS,
            "pre_cell_type": np.where(np.arange(N) % 3 == 0, 1.0, 0.0),
            "region": np.where(np.arange(N) < 40, "deep", "shallow"),
            "centre_x_nm": np.arange(N) * 1.0,
            "centre_y_nm": 0.0,
            "centre_z_nm": 0.0,
        }
    )


def _answer(stored_nf, rows_m, config, kind="flat"):
    (query,) = make_queries(stored_nf, IDS, config)
    return query, answer_query(FeatureIndex(stored_nf[rows_m], kind), rows_m, query, config.n_neighbours)


@pytest.mark.parametrize("combine", ["mean", "union"])
@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_several_examples_match_brute_force(stored_nf, combine, kind):
    rows_e = [3, 50, 99]
    config = SimilarityConfig(query=[int(IDS[row]) for row in rows_e], combine=combine, n_neighbours=9)
    _, found = _answer(stored_nf, np.arange(N), config, kind)
    points = stored_nf[rows_e].mean(axis=0, keepdims=True) if combine == "mean" else stored_nf[rows_e]
    distances_n = np.linalg.norm(stored_nf[:, None].astype(float) - points[None], axis=-1).min(axis=1)
    distances_n[rows_e] = np.inf
    np.testing.assert_array_equal(found.indices_qk[0], np.argsort(distances_n)[:9])
    np.testing.assert_allclose(found.distances_qk[0], np.sort(distances_n)[:9], rtol=1e-6)


def test_only_filtered_synapses_are_found(stored_nf, obs):
    rows_m = eligible_rows(obs, {"pre_cell_type": "inhibitory", "region": "deep"})
    assert rows_m.tolist() == list(range(0, 40, 3))
    config = SimilarityConfig(query=int(IDS[100]), n_neighbours=5)
    _, found = _answer(stored_nf, rows_m, config)
    distances_m = np.linalg.norm(stored_nf[rows_m] - stored_nf[100], axis=1)
    np.testing.assert_array_equal(found.indices_qk[0], rows_m[np.argsort(distances_m)[:5]])


def test_a_filter_that_nothing_passes_lists_what_there_is(obs):
    with pytest.raises(TableError, match=r"region = cortex. Values there are: deep, shallow"):
        eligible_rows(obs, {"region": "cortex"})
    with pytest.raises(TableError, match=r"names 'layer'. Columns there are: synapse_id, pre_cell_type"):
        eligible_rows(obs, {"layer": 4})


def test_too_few_eligible_synapses_are_refused(stored_nf):
    config = SimilarityConfig(query=int(IDS[0]), n_neighbours=7)
    with pytest.raises(SynapseCLRError, match="7 neighbours asked for, but there are 3 other synapses"):
        _answer(stored_nf, np.arange(4), config)


def test_ids_may_be_written_as_on_the_command_line():
    expected = (2**60 + 1, 7)
    assert SimilarityConfig(query=f"{2**60 + 1}+7").query == expected
    assert SimilarityConfig(query=[2**60 + 1, 7]).query == expected
    assert SimilarityConfig(query=7).query == (7,)
    for wrong in ("7+x", "7.5", True, 1.5, []):
        with pytest.raises(ValidationError):
            SimilarityConfig(query=wrong)


def test_each_example_is_a_query_of_its_own_unless_combined(stored_nf):
    ids = [int(IDS[1]), int(IDS[2])]
    names = [query.name for query in make_queries(stored_nf, IDS, SimilarityConfig(query=ids))]
    assert names == [str(identifier) for identifier in ids]


def test_results_name_synapses_places_and_distances(stored_nf, obs):
    config = SimilarityConfig(query=f"{IDS[3]}+{IDS[4]}", combine="mean", n_neighbours=2)
    query, found = _answer(stored_nf, np.arange(N), config)
    neuroglancer = NeuroglancerConfig(em="gs://bucket/em")
    table = result_table([query], [found], stored_nf, obs, neuroglancer)
    assert table["query"].unique().tolist() == [f"{IDS[3]}+{IDS[4]}"]
    assert table["rank"].tolist() == [0, 0, 1, 2]
    assert table["synapse_id"].tolist()[:2] == [IDS[3], IDS[4]]
    np.testing.assert_array_equal(table["centre_x_nm"], table["synapse_id"] - 2**60)
    half = np.linalg.norm(stored_nf[3] - stored_nf[4]) / 2
    np.testing.assert_allclose(table["distance"][:2], half, rtol=1e-5)
    assert table["neuroglancer_url"].str.startswith("https://").all()


def test_histograms_count_every_eligible_synapse_once(stored_nf):
    rows_m = np.arange(0, N, 2)
    queries = make_queries(stored_nf, IDS, SimilarityConfig(query=[int(IDS[2]), int(IDS[3])]))
    histograms = distance_histograms(stored_nf, rows_m, queries, n_bins=11)
    assert histograms.groupby("query", sort=False)["n_synapses"].sum().tolist() == [59, 60]
    assert len(histograms) == 22


def test_distances_are_exact_where_faiss_would_round():
    stored_nf = np.float32(1000.0) + np.random.default_rng(0).normal(scale=1e-2, size=(64, 32)).astype(np.float32)
    found = FeatureIndex(stored_nf, "flat").search(stored_nf[:40], 1)
    np.testing.assert_array_equal(found.indices_qk[:, 0] >= 0, True)
    chosen = stored_nf[found.indices_qk[:, 0]].astype(float)
    np.testing.assert_allclose(found.distances_qk[:, 0], np.linalg.norm(chosen - stored_nf[:40], axis=1), rtol=1e-6)


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_recall_is_the_share_of_true_neighbours(kind):
    rng = np.random.default_rng(0)
    clustered_nf = (rng.normal(size=(20, 16))[rng.integers(0, 20, 3000)] * 4 + rng.normal(size=(3000, 16))).astype("f4")
    assert 0.9 < measure_recall(FeatureIndex(clustered_nf, kind), 10, 100) <= 1.0
    assert measure_recall(FeatureIndex(clustered_nf, "flat"), 10, 100) == 1.0


def test_recall_sees_what_an_index_misses(monkeypatch):
    stored_nf = np.random.default_rng(0).normal(size=(4000, 32)).astype(np.float32)
    monkeypatch.setattr("synapseclr.analysis.search._IVF_PROBES", 1)
    assert measure_recall(FeatureIndex(stored_nf, "ivf"), 10, 100) < 0.8


def test_an_index_that_finds_too_few_asks_the_exact_one(monkeypatch):
    monkeypatch.setattr("synapseclr.analysis.search._IVF_PROBES", 1)
    stored_nf = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    found = FeatureIndex(stored_nf, "ivf").search(stored_nf[:5], 200)
    assert [sorted(row) for row in found.indices_qk.tolist()] == [list(range(200))] * 5


def test_the_index_is_chosen_by_size():
    assert [chosen_index(n, "auto") for n in (10, 499_999, 500_000)] == ["flat", "flat", "ivf"]
    assert chosen_index(10, "hnsw") == "hnsw"
