import numpy as np
import pytest

from synapseclr.analysis.search.retrieval import interval_over_groups, reciprocal_ranks


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


def test_the_interval_is_over_groups():
    value = np.repeat([0.0, 1.0], 50)
    few, many = np.repeat([0, 1], 50), np.arange(100)
    mean, low, high = interval_over_groups(value, few, 2000, 0)
    assert (mean, low, high) == (0.5, 0.0, 1.0)
    mean, low, high = interval_over_groups(value, many, 2000, 0)
    assert low == pytest.approx(0.5 - 1.645 * 0.05, abs=0.01)
    assert high == pytest.approx(0.5 + 1.645 * 0.05, abs=0.01)
