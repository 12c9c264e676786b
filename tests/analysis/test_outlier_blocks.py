"""Outlier scores block by block are those of features in memory."""

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.stats import spearmanr

from synapseclr.analysis.config import OutliersConfig
from synapseclr.analysis.handcrafted import MASK_STATISTIC_NAMES, STATISTIC_NAMES
from synapseclr.analysis.outlier_blocks import detect_in_blocks
from synapseclr.analysis.outliers import detect, unsupervised_score, whiten
from synapseclr.analysis.representations import FeatureBlocks
from synapseclr.analysis.row_blocks import RowBlocksConfig
from synapseclr.errors import SynapseCLRError
from synapseclr.pipelines.outliers.nodes import measure_detection

N = 400
ROWS_E = np.array([7, 3])


@pytest.fixture(scope="module")
def parts():
    """Correlated features, one of them constant, and statistics on another scale; the first rows stand out."""
    rng = np.random.default_rng(0)
    features_nf = (rng.normal(size=(N, 4)) @ rng.normal(size=(4, 12)) + rng.normal(size=(N, 12))).astype(np.float32)
    features_nf[:, 5] = 3.0
    features_nf[:8] += 4 * rng.normal(size=12).astype(np.float32)
    return features_nf, (1e3 * rng.normal(size=(N, 3))).astype(np.float32)


@pytest.fixture
def small_blocks(tmp_path):
    return RowBlocksConfig(rows=70, folder=str(tmp_path))


@pytest.mark.parametrize("kind", ["mahalanobis", "knn", "lof"])
@pytest.mark.parametrize("rows_e", [ROWS_E, np.array([], int)], ids=["examples", "none"])
def test_scores_are_those_in_memory(parts, small_blocks, kind, rows_e):
    config = OutliersConfig(unsupervised=kind, n_neighbours=5)
    white_nf = whiten(FeatureBlocks(parts), config.shrinkage)
    unsupervised_n = unsupervised_score(white_nf, kind, config.n_neighbours)
    expected = detect(white_nf, unsupervised_n, rows_e, config.prior_examples)
    features = FeatureBlocks((da.from_array(parts[0], chunks=(64, 12)), parts[1]))
    found = detect_in_blocks(features, rows_e, config, small_blocks)
    np.testing.assert_allclose(found.unsupervised_n, expected.unsupervised_n, rtol=1e-6)
    np.testing.assert_allclose(found.likeness_n, expected.likeness_n, rtol=1e-6, atol=1e-9)
    is_other_n = ~np.isin(np.arange(N), rows_e)  # examples are all equally like one: rounding decides on their ranks
    np.testing.assert_allclose(found.score_n[is_other_n], expected.score_n[is_other_n], rtol=1e-6)


def test_a_sample_ranks_much_as_all_synapses_do(parts, small_blocks):
    features = da.from_array(parts[0], chunks=(64, 12))
    ranks = {
        n_reference: detect_in_blocks(
            features, np.array([], int), OutliersConfig(unsupervised="knn", n_reference=n_reference), small_blocks
        ).unsupervised_n
        for n_reference in (N, N // 2)
    }
    assert spearmanr(*ranks.values())[0] > 0.95
    assert set(np.argsort(-ranks[N // 2])[:4]) <= set(range(8))


def test_constant_features_are_an_error(small_blocks):
    features = da.ones((50, 3), chunks=(20, 3), dtype=np.float32)
    with pytest.raises(SynapseCLRError, match="all 3 features of the 50 synapses are constant"):
        detect_in_blocks(features, np.array([], int), OutliersConfig(), small_blocks)


def test_detection_is_measured_on_the_same_drawn_synapses_in_memory_and_beyond(parts):
    rng = np.random.default_rng(1)
    synapse_id = 10 + np.arange(N)
    defect = np.where(np.arange(N) < 60, "merged", "")
    obs = pd.DataFrame({"synapse_id": synapse_id, "defect": defect}, index=synapse_id.astype(str))
    tables = [
        pd.DataFrame(rng.normal(size=(N, len(names))), columns=list(names)).assign(synapse_id=synapse_id)
        for names in (MASK_STATISTIC_NAMES, STATISTIC_NAMES)
    ]
    lazy = da.from_array(parts[0], chunks=(64, 12))
    of_120, of_120_beyond, of_all = (
        measure_detection(
            AnnData(features, obs.copy()),
            AnnData(parts[0][:, ::-1].copy(), obs[["synapse_id"]].copy()),
            *tables,
            pd.DataFrame(),
            OutliersConfig(n_evaluated=n_evaluated, n_draws=3),
        )[0]
        for features, n_evaluated in ((parts[0], 120), (lazy, 120), (parts[0], N))
    )
    pd.testing.assert_frame_equal(of_120, of_120_beyond)
    assert (of_all["n_defects"] == 60).all()
    assert (of_120["n_defects"] < 40).all()
