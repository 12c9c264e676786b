"""Learning curves on simulated embeddings, whose traits can be learned."""

import numpy as np
import pandas as pd
import pytest

from synapseclr.analysis.config import ImputationConfig
from synapseclr.analysis.imputation.learning_curves import (
    learning_curve_metrics,
    learning_curves,
    summarise_learning_curves,
)
from synapseclr.analysis.traits import trait_named
from synapseclr.simulation.embeddings import simulate_embeddings

CLEFT, TYPE, DISTANCE = (
    trait_named(name) for name in ("cleft_size_log1p_zscore", "pre_cell_type", "presyn_soma_dist_log1p_zscore")
)
CONFIG = ImputationConfig(label_fractions=(0.005, 0.1, 0.9), n_label_draws=2)


@pytest.fixture(scope="module")
def curves():
    simulated = simulate_embeddings(500, n_features=64)
    table = simulated.annotations.assign(presyn_soma_dist_log1p_zscore=np.nan)
    return learning_curves(simulated.features_nf, table, CONFIG, (TYPE, CLEFT, DISTANCE))


def test_more_labels_are_better(curves):
    means = summarise_learning_curves(curves).set_index(["trait", "fraction"])["mean"]
    assert means["cleft_size_log1p_zscore", 0.9] > means["cleft_size_log1p_zscore", 0.1]
    assert means["pre_cell_type", 0.9] > 0.85


def test_too_few_labels_have_a_reason_instead_of_a_score(curves):
    rows = curves[curves["fraction"] == 0.005]
    assert rows["score"].isna().all()
    assert set(rows["reason"]) == {"2 training synapses, at least 4 needed"}


def test_a_trait_without_annotations_takes_no_other_down(curves):
    row = curves[curves["trait"] == DISTANCE.name].iloc[0]
    assert np.isnan(row["score"])
    assert row["reason"] == "no synapse is annotated"


def test_test_neurites_are_not_in_training(curves):
    assert (curves.loc[curves["fraction"] == 0.9, ["n_train", "n_test"]].sum(axis=1) <= 500).all()


def test_metrics_have_stable_names(curves):
    metrics = learning_curve_metrics(curves)
    assert set(metrics) == {
        f"learning_curves/{trait.name}/{percent}_percent/{trait.metric}"
        for trait in (TYPE, CLEFT)
        for percent in (10, 90)
    }


def test_one_class_and_constant_features_have_a_reason_or_chance():
    simulated = simulate_embeddings(120, n_features=8)
    table = simulated.annotations.assign(pre_cell_type=1.0)
    found = learning_curves(np.ones_like(simulated.features_nf), table, CONFIG, (TYPE, CLEFT))
    assert "only one class" in found[found["trait"] == TYPE.name]["reason"].iloc[0]
    scores = found[(found["trait"] == CLEFT.name) & (found["fraction"] == 0.9)]["score"]
    np.testing.assert_allclose(scores, 0.0, atol=1e-6)


def test_no_fractions_make_an_empty_table():
    config = ImputationConfig(label_fractions=())
    found = learning_curves(np.ones((5, 2), np.float32), pd.DataFrame({"synapse_id": range(5)}), config)
    assert found.empty
    assert learning_curve_metrics(found) == {}
