"""Blocks of features: rows stay together, and no block drowns another by its number of columns."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from synapseclr.analysis.gaussian_processes.kernels import kernel_inputs
from synapseclr.analysis.handcrafted import MASK_STATISTIC_NAMES
from synapseclr.analysis.representations import FeatureBlocks, blocks_of, check_blocks, normal_scores, with_statistics
from synapseclr.analysis.traits.probes import fold_coordinates
from synapseclr.errors import SynapseCLRError, TableError


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def _statistics(synapse_id):
    """A table whose every value is the id of its row."""
    values_nk = np.repeat(np.asarray(synapse_id, dtype=float)[:, None], len(MASK_STATISTIC_NAMES), axis=1)
    return pd.DataFrame(values_nk, columns=list(MASK_STATISTIC_NAMES)).assign(synapse_id=synapse_id)


def _embeddings(synapse_id):
    obs = pd.DataFrame({"synapse_id": synapse_id}, index=[str(each) for each in synapse_id])
    return AnnData(X=np.arange(2.0 * len(synapse_id), dtype=np.float32).reshape(-1, 2), obs=obs)


def test_rows_are_taken_of_every_block(rng):
    blocks = FeatureBlocks((rng.normal(size=(6, 3)), rng.normal(size=(6, 2))))
    chosen = blocks[np.array([4, 1])]
    assert len(chosen) == 2
    for part_nf, whole_nf in zip(blocks_of(chosen), blocks.parts, strict=True):
        np.testing.assert_array_equal(part_nf, whole_nf[[4, 1]])


def test_a_matrix_is_one_block(rng):
    features_nf = rng.normal(size=(4, 3))
    assert [id(part) for part in blocks_of(features_nf)] == [id(features_nf)]


def test_statistics_are_in_the_order_of_the_embeddings():
    joined = with_statistics(_embeddings([30, 10]), "encoder.fc", _statistics([10, 20, 30]))
    assert joined.parts[1][:, 0].tolist() == normal_scores(np.array([[30.0], [10.0]]))[:, 0].tolist()
    assert joined.parts[1][0, 0] > 0 > joined.parts[1][1, 0]
    assert joined.parts[0].shape == (2, 2)


def test_normal_scores_depend_on_the_order_alone(rng):
    values_nk = rng.normal(size=(2001, 2))
    scores_nk = normal_scores(values_nk)
    np.testing.assert_array_equal(normal_scores(np.exp(3 * values_nk)), scores_nk)
    assert np.abs(scores_nk - values_nk).mean() < 0.05  # normal values are their own scores


def test_equal_values_have_equal_scores_and_a_constant_column_none():
    scores_nk = normal_scores(np.array([[0.0, 7.0], [0.0, 7.0], [5.0, 7.0], [1.0, 7.0]]))
    assert scores_nk[0, 0] == scores_nk[1, 0] < scores_nk[3, 0] < scores_nk[2, 0]
    assert not scores_nk[:, 1].any()


def test_a_synapse_without_statistics_is_named():
    with pytest.raises(TableError, match=r"'mask_statistics' lacks 1 synapses.*\[40\]"):
        with_statistics(_embeddings([40, 10]), "encoder.fc", _statistics([10, 20]))


def test_a_value_that_is_not_finite_is_found_in_any_block(rng):
    broken_nf = rng.normal(size=(5, 2))
    broken_nf[3, 1] = np.nan
    with pytest.raises(SynapseCLRError, match="'joined' are not finite for 1 of 5"):
        check_blocks(FeatureBlocks((rng.normal(size=(5, 3)), broken_nf)), "joined")


@pytest.mark.parametrize("n_columns", [2, 300])
def test_blocks_have_the_same_share_of_distances_whatever_their_widths(rng, n_columns):
    wide_nf, narrow_nf = rng.normal(size=(80, n_columns)), rng.normal(size=(80, 5))
    blocks = FeatureBlocks((wide_nf, narrow_nf))
    both_nr, _ = fold_coordinates(blocks, blocks)
    narrow_nr, _ = fold_coordinates(narrow_nf, narrow_nf)
    assert np.square(narrow_nr).sum() / np.square(both_nr).sum() == pytest.approx(0.5)
    gram_nn = (inputs_nr := kernel_inputs(blocks, 400)) @ inputs_nr.T
    of_each = [(inputs := kernel_inputs(part, 400)) @ inputs.T for part in blocks.parts]
    np.testing.assert_allclose(gram_nn, 0.5 * (of_each[0] + of_each[1]), atol=1e-8)


def test_a_weight_of_zero_leaves_the_other_block(rng):
    blocks = FeatureBlocks((rng.normal(size=(30, 4)), rng.normal(size=(30, 6))))
    weighted_nr, _ = fold_coordinates(blocks, blocks, (1.0, 0.0))
    alone_nr, _ = fold_coordinates(blocks.parts[0], blocks.parts[0])
    np.testing.assert_allclose(weighted_nr @ weighted_nr.T, alone_nr @ alone_nr.T, atol=1e-10)
