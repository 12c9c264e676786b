"""Search by way of 8-bit codes against brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synapseclr.analysis.search.neighbours import FeatureIndex
from synapseclr.analysis.search.scalar_codes import ScalarCodes


def brute_force(features_nf, query_qf, k):
    """Rows and distances: all differences, squared, summed and sorted; of equal ones the first row first."""
    squared_qn = np.square(features_nf[None].astype(np.float64) - query_qf[:, None].astype(np.float64)).sum(axis=-1)
    rows_qk = np.argsort(squared_qn, axis=1, kind="stable")[:, :k]
    return rows_qk, np.sqrt(np.take_along_axis(squared_qn, rows_qk, axis=1))


def assert_same_as_brute_force(index, query_qf, k):
    rows_qk, distances_qk = brute_force(index.features_nf, query_qf, k)
    found = index.search(query_qf, k)
    np.testing.assert_allclose(found.distances_qk, distances_qk, rtol=1e-6)
    np.testing.assert_array_equal(found.indices_qk, rows_qk)


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
    index = FeatureIndex(features_nf, "flat", codes_from_values=0)
    index.search(query_qf[:1], k)
    assert_same_as_brute_force(index, query_qf, k)


def test_a_feature_with_an_outlier_spoils_its_codes_but_not_the_answer():
    rng = np.random.default_rng(0)
    features_nf = rng.normal(size=(3000, 8)).astype(np.float32)
    features_nf[17] = 1e4  # all others share a handful of codes
    index = FeatureIndex(features_nf, "flat", codes_from_values=0)
    assert_same_as_brute_force(index, features_nf[:5] + np.float32(0.01), 6)
    assert not ScalarCodes(features_nf).search(features_nf[:5], 6)[1].any()


@pytest.mark.parametrize("n_shards", [1, 3])
def test_codes_find_the_neighbours_without_help_where_features_spread(n_shards):
    rng = np.random.default_rng(1)
    features_nf = rng.normal(size=(5000, 32)).astype(np.float32)
    query_qf = features_nf[::500] + np.float32(0.05)
    rows_qk, is_found_q = ScalarCodes(features_nf, n_shards).search(query_qf, 5)
    assert is_found_q.all()
    np.testing.assert_array_equal(rows_qk, brute_force(features_nf, query_qf, 5)[0])


def test_claims_hold_for_every_query_whose_neighbours_are_nearly_equally_far():
    rng = np.random.default_rng(2)
    directions_nf = rng.normal(size=(2000, 4))
    directions_nf /= np.linalg.norm(directions_nf, axis=1, keepdims=True)
    features_nf = (directions_nf * (1 + 1e-3 * rng.random((2000, 1)))).astype(np.float32)
    query_qf = 1e-4 * rng.normal(size=(50, 4)).astype(np.float32)
    rows_qk, is_found_q = ScalarCodes(features_nf, 2).search(query_qf, 3)
    truth_qk = brute_force(features_nf, query_qf, 3)[0]
    np.testing.assert_array_equal(rows_qk[is_found_q], truth_qk[is_found_q])
    assert_same_as_brute_force(FeatureIndex(features_nf, "flat", codes_from_values=0), query_qf, 3)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_features_that_cannot_be_coded_are_left_to_the_other_search(value):
    features_nf = np.random.default_rng(0).normal(size=(2000, 4)).astype(np.float32)
    features_nf[5, 2] = value
    assert not ScalarCodes(features_nf).search(features_nf[:2], 3)[1].any()


def test_a_large_batch_makes_no_codes_but_uses_them():
    features_nf = np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32)
    index = FeatureIndex(features_nf, "flat", codes_from_values=0)
    first = index.search(features_nf[:100], 4)
    assert index._codes is None
    index.search(features_nf[:1], 4)
    assert index._codes is not None
    np.testing.assert_array_equal(index.search(features_nf[:100], 4).indices_qk, first.indices_qk)
