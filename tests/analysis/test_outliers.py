"""Defective synapses found with and without examples, and how that is evaluated."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from sklearn.neighbors import LocalOutlierFactor

from synapseclr.analysis.neuroglancer import NeuroglancerConfig
from synapseclr.analysis.outliers import (
    OutliersConfig,
    detect,
    detection_metrics,
    evaluate_detection,
    excluded_table,
    known_defects,
    likeness,
    ranked_table,
    unsupervised_score,
    whiten,
    with_links,
    without_excluded,
)
from synapseclr.analysis.representations import FeatureBlocks
from synapseclr.errors import SynapseCLRError, TableError

N, N_DEFECTS = 300, 30


@pytest.fixture
def features_nf():
    """Two kinds of defects, fifteen of each, that differ from the rest in one direction each, hidden in large noise."""
    features_nf = np.random.default_rng(0).normal(size=(N, 20))
    features_nf[:15, 0] += 4.0
    features_nf[15:30, 1] += 4.0
    features_nf[:, 2:5] *= 20.0
    return features_nf.astype(np.float32)


@pytest.fixture
def defect_n():
    return np.array(["merged"] * 15 + ["blackout"] * 15 + [""] * (N - N_DEFECTS))


@pytest.mark.parametrize("shrinkage", [0.0, 0.5, 1.0])
def test_whitening_is_what_its_formula_says(features_nf, shrinkage):
    white_np = whiten(features_nf, shrinkage)
    scaled_nf = (features_nf - features_nf.mean(axis=0)) / features_nf.std(axis=0)
    variance_p = np.sort(np.linalg.eigvalsh(np.cov(scaled_nf.T, bias=True)))
    expected_p = variance_p / ((1 - shrinkage) * variance_p + shrinkage * variance_p.mean())
    covariance_pp = white_np.T @ white_np / N
    np.testing.assert_allclose(np.sort(np.diag(covariance_pp)), np.sort(expected_p), rtol=1e-4)
    np.testing.assert_allclose(covariance_pp - np.diag(np.diag(covariance_pp)), 0, atol=1e-4)


def test_constant_features_are_dropped_and_nothing_else_is_an_error(features_nf):
    with_constant = np.hstack([features_nf, np.full((N, 2), 7.0, np.float32)])
    np.testing.assert_allclose(np.abs(whiten(with_constant, 0.5)), np.abs(whiten(features_nf, 0.5)), atol=1e-6)
    for hopeless in (np.ones((10, 3), np.float32), np.ones((1, 3), np.float32)):
        with pytest.raises(SynapseCLRError, match=r"all 3 features of the .* synapses are constant"):
            whiten(hopeless, 0.5)


def test_more_features_than_synapses_are_fine():
    white_np = whiten(np.random.default_rng(0).normal(size=(10, 50)).astype(np.float32), 0.5)
    assert white_np.shape[0] == 10
    assert np.isfinite(unsupervised_score(white_np, "knn", n_neighbours=20)).all()


def test_blocks_have_the_same_share_whatever_their_widths():
    rng = np.random.default_rng(0)
    wide_nf, narrow_nf = rng.normal(size=(N, 200)), rng.normal(size=(N, 4))
    narrow_nf[:5, 0] += 8.0
    white_np = whiten(FeatureBlocks((wide_nf, narrow_nf)), 0.5)
    np.testing.assert_allclose(np.square(white_np[:, -4:]).sum(axis=1).mean(), 1.0)
    np.testing.assert_allclose(np.square(white_np[:, :-4]).sum(axis=1).mean(), 1.0)
    defects_e = np.arange(5)
    together = unsupervised_score(whiten(np.hstack([wide_nf, narrow_nf]), 0.5), "mahalanobis")
    beside = unsupervised_score(white_np, "mahalanobis")
    ranks = [np.argsort(np.argsort(-score_n))[defects_e].max() for score_n in (together, beside)]
    assert ranks[1] == 4  # all five come first
    assert ranks[0] > 20


def test_local_outlier_factor_matches_scikit_learn(features_nf):
    white_np = whiten(features_nf, 0.5).astype(np.float32)
    reference = LocalOutlierFactor(n_neighbors=10).fit(white_np)
    np.testing.assert_allclose(unsupervised_score(white_np, "lof", 10), -reference.negative_outlier_factor_, rtol=1e-4)


def test_duplicates_have_a_finite_factor():
    white_np = np.repeat(np.random.default_rng(0).normal(size=(4, 3)), 15, axis=0)
    assert np.isfinite(unsupervised_score(white_np, "lof", 5)).all()


def test_examples_find_their_own_kind_first(features_nf):
    white_np = whiten(features_nf, 0.5)
    likeness_n = likeness(white_np, np.array([0]))
    assert likeness_n[0] == pytest.approx(1.0)
    assert likeness_n[1:15].mean() > likeness_n[15:30].mean() + 0.1
    both_n = likeness(white_np, np.array([0, 15]))
    np.testing.assert_allclose(both_n, np.maximum(likeness_n, likeness(white_np, np.array([15]))))


def test_ranking_puts_examples_first_without_a_rank(features_nf):
    obs = pd.DataFrame({"synapse_id": np.arange(N) + 2**60})
    config = OutliersConfig(examples=f"{2**60}+{2**60 + 15}", accept=(2**60 + 2,))
    white_np = whiten(features_nf, 0.5)
    detection = detect(white_np, unsupervised_score(white_np, "mahalanobis"), np.array([0, 15]), 0.0)
    excluded = excluded_table(obs["synapse_id"].to_numpy(), config)
    table = with_links(ranked_table(obs, detection, config.examples, excluded), obs, NeuroglancerConfig())
    assert table["rank"].tolist() == [0, 0, *range(1, N - 1)]
    assert set(table["synapse_id"][:2]) == set(config.examples)
    assert table["score"][2:].is_monotonic_decreasing
    assert table.loc[table["is_accepted"], "synapse_id"].tolist() == [2**60 + 2]
    found = table["synapse_id"][2:30] - 2**60
    assert (found < N_DEFECTS).mean() > 0.4  # 0.1 by chance


def test_accepted_synapses_can_be_left_out():
    embeddings = AnnData(X=np.zeros((4, 2), np.float32), obs=pd.DataFrame({"synapse_id": [5, 6, 7, 8]}, list("abcd")))
    excluded = excluded_table(np.array([5, 6, 7, 8]), OutliersConfig(examples=[6], accept=[8, 6]))
    assert excluded.to_dict("list") == {"synapse_id": [6, 8], "reason": ["example", "accepted"]}
    assert without_excluded(embeddings, excluded).obs["synapse_id"].tolist() == [5, 7]
    assert without_excluded(embeddings, excluded[:0]) is embeddings
    with pytest.raises(TableError, match=r"outliers.accept names synapses without embedding: \[9\]"):
        excluded_table(np.array([5]), OutliersConfig(accept=9))


def test_defects_accepted_in_a_table_are_left_out_too(caplog):
    listed = pd.DataFrame({"synapse_id": [7, 6, 2**60], "note": ["black", "", "of other data"]})
    excluded = excluded_table(np.array([5, 6, 7, 8]), OutliersConfig(examples=[6]), listed)
    assert excluded.to_dict("list") == {"synapse_id": [6, 7], "reason": ["example", "listed"]}
    assert "accepted_defects lists 1 of 3 synapses without embedding" in caplog.text
    assert excluded_table(np.array([5]), OutliersConfig(), pd.DataFrame()).empty


def test_leaving_out_every_synapse_is_refused():
    with pytest.raises(TableError, match="All 2 synapses would be left out as defective"):
        excluded_table(np.array([5, 6]), OutliersConfig(accept=[5]), pd.DataFrame({"synapse_id": [6]}))


def test_likeness_counts_more_with_more_examples(features_nf):
    white_np = whiten(features_nf, 0.5)
    unsupervised_n = unsupervised_score(white_np, "mahalanobis")
    alone_n = detect(white_np, unsupervised_n, np.array([], dtype=int), 5.0).score_n
    order_n = np.argsort(-unsupervised_n)
    np.testing.assert_allclose(alone_n[order_n], -np.log((np.arange(N) + 0.5) / N))
    one_n = detect(white_np, unsupervised_n, np.array([0]), 5.0)
    likest = int(np.argmax(one_n.likeness_n))
    gained = -np.log(0.5 / N)
    assert one_n.score_n[likest] == pytest.approx(alone_n[likest] + gained / 6)
    equal_n = detect(white_np, unsupervised_n, np.array([0]), 0.0)
    assert equal_n.score_n[likest] == pytest.approx(alone_n[likest] + gained)


def test_evaluation_tells_good_features_from_noise(features_nf, defect_n):
    noise_nf = np.random.default_rng(1).normal(size=(N, 20)).astype(np.float32)
    config = OutliersConfig(n_draws=10, evaluated_examples=(1, 5, 30))
    table = evaluate_detection({"good": {"a": features_nf}, "noise": {"a": noise_nf}}, defect_n, config)
    overall = table[(table["kind"] == "all kinds") & (table["metric"] == "roc_auc")]
    scores = overall.set_index(["representation", "method", "n_examples"])["mean"]
    assert scores["good", "examples", 5] > 0.85 > 0.65 > scores["noise", "examples", 5]
    assert ("good", "examples", 30) not in scores.index
    one_shot = table[(table["method"] == "examples") & (table["kind"] == "merged") & (table["metric"] == "roc_auc")]
    assert one_shot["n_defects"].tolist() == [15, 15]
    again = evaluate_detection({"good": {"a": features_nf}}, defect_n, config)
    pd.testing.assert_frame_equal(table[table["representation"] == "good"], again)
    metrics = detection_metrics(table)
    assert metrics["outliers/good/a/examples_5/roc_auc"] == scores["good", "examples", 5]
    assert "outliers/good/a/mahalanobis/precision_at_10" in metrics


def test_examples_themselves_are_not_judged(defect_n):
    """Features that are alike for equal rows only: an example is found by itself, and nothing else is."""
    features_nf = np.eye(N, dtype=np.float32)
    config = OutliersConfig(n_draws=5, evaluated_examples=(29,))
    table = evaluate_detection({"x": {"a": features_nf}}, defect_n, config)
    found = table[
        (table["method"] == "examples") & (table["metric"] == "precision_at_10") & (table["n_examples"] == 29)
    ]
    assert found["mean"].item() <= 0.1


def test_truth_about_other_synapses_is_no_truth():
    truth = pd.DataFrame({"synapse_id": [1, 2, 3], "defect": ["blackout", None, ""]})
    assert known_defects(truth, np.array([3, 1])).tolist() == ["", "blackout"]
    assert known_defects(truth, np.array([1, 4])) is None
    assert known_defects(truth, np.array([2, 3])) is None
    assert known_defects(pd.DataFrame(), np.array([1])) is None
