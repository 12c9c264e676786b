"""Typing neurites with few labels, on simulated embeddings of neurites whose type is known."""

import numpy as np
import pandas as pd
import pytest

from synapseclr.analysis.config import ConsensusConfig, ImputationConfig
from synapseclr.analysis.consensus.censoring import evaluate_censored
from synapseclr.analysis.consensus.evaluation import censored_metrics
from synapseclr.simulation.embeddings import simulate_embeddings

CONFIG = ConsensusConfig(label_fractions=(0.15, 0.002), n_label_seeds=2, strata=(5,))


@pytest.fixture(scope="module")
def simulated():
    return simulate_embeddings(600, n_features=32, synapses_per_neurite=8)


@pytest.fixture(scope="module")
def found(simulated):
    return evaluate_censored(simulated.features_nf, simulated.annotations, CONFIG, ImputationConfig())


def test_neurites_are_typed_better_than_their_single_synapses(found):
    rows = found.evaluation.set_index(["stratum", "method"]).loc[("6 and more", "corrected")]
    assert rows["accuracy"] > rows["synapse_accuracy"] + 0.02
    assert rows["lower_90"] < rows["accuracy"] <= rows["upper_90"] <= 1
    assert (rows["fraction"], rows["n_labels"], rows["n_seeds"]) == (0.15, 90, 2)


def test_no_tested_neurite_has_a_label(simulated, found):
    """Turn the hidden annotations of every tested neurite: predictions must stay, targets must turn."""
    tested = found.neurites[found.neurites["seed"] == 0]
    table = simulated.annotations.copy()
    for side in ("pre", "post"):
        chosen = table[f"{side}_root_id"].isin(tested["root_id"])
        table.loc[chosen, f"{side}_cell_type"] = 1 - table.loc[chosen, f"{side}_cell_type"]
    config = ConsensusConfig(label_fractions=(0.15,), n_label_seeds=1, strata=(5,))
    again = evaluate_censored(simulated.features_nf, table, config, ImputationConfig()).neurites
    np.testing.assert_allclose(again["probability"], tested["probability"], rtol=1e-6)
    assert (again["target"].to_numpy() == 1 - tested["target"].to_numpy()).all()


def test_draws_with_too_few_labels_are_listed_with_the_reason(found):
    assert found.failed["fraction"].tolist() == [0.002, 0.002]
    assert found.failed["reason"].str.contains("only one class among 1 labels").all()


def test_metrics_name_the_labelled_share(found):
    metrics = censored_metrics(found.evaluation)
    assert 0.5 < metrics["consensus/labels_15_percent/all/corrected/accuracy"] <= 1
    assert not any("0.2_percent" in name for name in metrics)


def test_without_annotations_nothing_is_evaluated_and_nothing_fails(simulated):
    table = simulated.annotations.assign(pre_cell_type=np.nan, post_cell_type=np.nan)
    nothing = evaluate_censored(simulated.features_nf, table, CONFIG, ImputationConfig())
    assert nothing.evaluation.empty
    assert len(nothing.failed) == 4


def test_constant_features_say_nothing_and_nothing_fails(simulated):
    config = ConsensusConfig(label_fractions=(0.15,), n_label_seeds=1)
    found = evaluate_censored(np.ones_like(simulated.features_nf), simulated.annotations, config, ImputationConfig())
    assert np.isfinite(found.neurites["probability"]).all()
    assert not found.evaluation["accuracy_called"].between(0, 0.5).any()


def test_one_side_is_enough(simulated):
    table = simulated.annotations.assign(post_cell_type=np.nan)
    config = ConsensusConfig(label_fractions=(0.15,), n_label_seeds=1)
    one = evaluate_censored(simulated.features_nf, table, config, ImputationConfig())
    assert one.neurites["root_id"].isin(table["pre_root_id"]).all()
    assert isinstance(one.evaluation, pd.DataFrame)
    assert len(one.evaluation)
