"""Neighbours against brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synapseclr.analysis.search.neighbours import FeatureIndex, nearest_neighbours, neighbour_table, reciprocal_ranks
from synapseclr.analysis.search.similarity import representative_queries
from synapseclr.errors import SynapseCLRError


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
