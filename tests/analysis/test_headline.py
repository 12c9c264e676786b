"""Headline figures of a run."""

import pytest

from synapseclr.analysis.headline import headline_markdown, headline_metrics, headline_sentence


def score(mean, metric="roc_auc"):
    return {"metric": metric, "mean": mean, "std": 0.01, "folds": 3}


EVALUATION = {
    "n_synapses": 592,
    "epochs": 75,
    "seconds": {"pretraining": 90.0, "embedding": 30.0},
    "representations": {
        "synapseclr": {"encoder.fc": {"size": score(0.9, "explained_variance"), "type": score(0.8)}},
        "random": {"encoder.fc": {"size": score(0.5, "explained_variance"), "type": score(0.8)}},
        "mask_statistics": {"statistics": {"size": score(0.8, "explained_variance"), "type": score(0.6)}},
    },
    "gaussian_processes": {
        "size": {"metric": "explained_variance", "by_neurite": {"mean": 0.95, "coverage_90": 0.9}},
        "type": {"metric": "roc_auc", "by_neurite": {"mean": 0.7}},
        "side": {"metric": "roc_auc", "by_neurite": {"mean": 0.9}},
    },
    "consensus": {"all": {"corrected": {"accuracy": 0.97, "synapse_accuracy": 0.85}}},
    "outliers": {"outliers/synapseclr/encoder.fc/mahalanobis/roc_auc": 0.96},
}


def test_figures_of_all_parts_are_below_summary():
    found = headline_metrics(EVALUATION)
    assert found == {
        "summary/n_synapses": 592,
        "summary/epochs": 75,
        "summary/minutes": 2,
        "summary/size/explained_variance": 0.9,
        "summary/type/roc_auc": 0.8,
        "summary/gain_over_untrained": pytest.approx(0.2),
        "summary/gain_over_best_untrained_rival": pytest.approx(0.05),
        "summary/imputed_explained_variance": 0.95,
        "summary/imputed_coverage_90": 0.9,
        "summary/imputed_roc_auc": pytest.approx(0.8),
        "summary/neurite_type_accuracy": 0.97,
        "summary/synapse_type_accuracy": 0.85,
        "summary/defect_roc_auc": 0.96,
    }
    assert headline_sentence(found) == (
        "592 synapses, 75 epochs, scores +0.200 against the untrained encoder, +0.050 against the best that costs no "
        "training, neurites typed 97% right, defects found with ROC AUC 0.960"
    )


def test_the_search_with_masks_goes_before_the_one_without():
    joined = {"outliers/synapseclr_and_masks/encoder.fc/mahalanobis/roc_auc": 0.99}
    found = headline_metrics({"outliers": EVALUATION["outliers"] | joined})
    assert found == {"summary/defect_roc_auc": 0.99}


def test_a_run_without_any_part_has_no_figures():
    assert headline_metrics({"n_synapses": 0, "epochs": 0, "seconds": {}, "representations": {}}) == {}
    assert headline_sentence({}) == ""
    assert headline_markdown({}) == ""


def test_the_description_has_sentence_picture_and_table():
    text = headline_markdown({"summary/n_synapses": 592.0}, "a.png")
    assert text.split("\n\n") == [
        "592 synapses.",
        "![The synapses of this run](a.png)",
        "| summary | value |\n|---|---|\n| n_synapses | 592 |",
    ]
