"""The evaluation document and its metrics."""

import json

import pandas as pd
import pytest

from synapseclr.analysis.imputation.evaluation_document import (
    evaluation_metrics,
    score_document,
    strongest_rival,
    summarise_scores,
)
from synapseclr.analysis.imputation.trait_scores import SCORE_COLUMNS


def _row(representation, probe, fold, score, layer="encoder.fc"):
    return (representation, layer, "pre_cell_type", probe, "roc_auc", fold, score, 200, 100)


@pytest.fixture
def scores():
    rows = [_row("synapseclr", "linear", fold, score) for fold, score in enumerate((0.9, 0.8, 1.0))]
    rows += [_row("synapseclr", "knn", 0, 0.1), _row("random", "linear", 0, 0.6)]
    return pd.DataFrame(rows, columns=list(SCORE_COLUMNS[:-1]))


def test_document_has_the_agreed_form(scores):
    document = score_document(scores)
    assert set(document) == {"representations", "comparison"}
    assert document["comparison"]["knn"]["synapseclr"]["encoder.fc"]["pre_cell_type"]["mean"] == 0.1
    entry = document["representations"]["synapseclr"]["encoder.fc"]["pre_cell_type"]
    assert entry == {"metric": "roc_auc", "mean": pytest.approx(0.9), "std": pytest.approx(0.1), "folds": 3}
    assert document["representations"]["random"]["encoder.fc"]["pre_cell_type"]["std"] == 0.0
    assert json.loads(json.dumps(document)) == document


def test_metrics_have_stable_names(scores):
    metrics = evaluation_metrics(score_document(scores))
    assert metrics["synapseclr/encoder.fc/pre_cell_type/roc_auc"] == pytest.approx(0.9)
    assert metrics["synapseclr/encoder.fc/pre_cell_type/roc_auc_std"] == pytest.approx(0.1)


def test_no_scores_make_an_empty_evaluation():
    empty = pd.DataFrame([], columns=list(SCORE_COLUMNS[:-1]))
    assert summarise_scores(empty).empty
    assert score_document(empty)["representations"] == {}


def test_the_comparison_has_intervals_over_the_folds_of_all_draws():
    rows = [_row("synapseclr", "linear", fold, fold / 100) for fold in range(101)]
    comparison = score_document(pd.DataFrame(rows, columns=list(SCORE_COLUMNS[:-1])))["comparison"]
    entry = comparison["linear"]["synapseclr"]["encoder.fc"]["pre_cell_type"]
    assert (entry["low"], entry["high"]) == (pytest.approx(0.05), pytest.approx(0.95))
    assert entry["folds"] == 101


def test_metrics_have_no_plus_in_their_names():
    scores = pd.DataFrame([_row("synapseclr+statistics", "linear", 0, 0.9)], columns=list(SCORE_COLUMNS[:-1]))
    assert "synapseclr_and_statistics/encoder.fc/pre_cell_type/roc_auc" in evaluation_metrics(score_document(scores))


def test_the_strongest_rival_is_the_best_of_what_costs_no_training():
    rows = [_row("synapseclr", "linear", 0, 0.99), _row("synapseclr+statistics", "linear", 0, 0.99)]
    rows += [_row("random", "linear", 0, 0.6), _row("mask_statistics", "linear", 0, 0.8, "statistics")]
    representations = score_document(pd.DataFrame(rows, columns=list(SCORE_COLUMNS[:-1])))["representations"]
    label, score = strongest_rival(representations, "pre_cell_type")
    assert (label, score["mean"]) == ("mask statistics", 0.8)
    assert strongest_rival(representations, "post_cell_type") is None
