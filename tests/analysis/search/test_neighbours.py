"""Neighbours against brute force."""

import numpy as np
import pytest

from synapseclr.analysis.search.neighbours import nearest_neighbours, neighbour_table
from synapseclr.analysis.search.representatives import representative_queries
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
