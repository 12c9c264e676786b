"""Consensus typing against known posteriors, and with few labels."""

import dask.array as da
import numpy as np
import pandas as pd
import pytest

from synapseclr.analysis.config import ConsensusConfig, ImputationConfig
from synapseclr.analysis.consensus import (
    SharedErrors,
    censored_metrics,
    consensus_document,
    consensus_metrics,
    evaluate_censored,
    evaluate_consensus,
    fit_shared_errors,
    neurite_posteriors,
    posteriors_of_sums,
    summed_evidence,
    synapse_evidence,
)
from synapseclr.analysis.row_blocks import RowBlocksConfig
from synapseclr.analysis.traits.calibration import logit
from synapseclr.simulation.embeddings import simulate_embeddings


def _neurites(shared_sd, n_neurites=600, seed=0):
    """Evidence of synapses that is calibrated one by one: log-odds N(+-s^2/2, s^2), a part of the noise shared."""
    rng = np.random.default_rng(seed)
    n_synapses_u = rng.integers(1, 20, n_neurites)
    target_u = rng.integers(0, 2, n_neurites).astype(float)
    neurite_n = np.repeat(np.arange(n_neurites), n_synapses_u)
    variance = 1.5
    own_n = rng.normal(size=len(neurite_n)) * np.sqrt(variance - shared_sd**2)
    shared_n = shared_sd * rng.normal(size=n_neurites)[neurite_n]
    evidence_n = (2 * target_u[neurite_n] - 1) * variance / 2 + own_n + shared_n
    return pd.DataFrame(
        {
            "synapse_id": np.arange(len(neurite_n)),
            "root_id": neurite_n + 2**60,
            "side": np.where(neurite_n % 2, "pre", "post"),
            "probability": 1 / (1 + np.exp(-evidence_n)),
            "evidence": evidence_n,
            "target": target_u[neurite_n],
        }
    )


@pytest.fixture(scope="module")
def correlated():
    neurites, held_out, fit = neurite_posteriors(_neurites(shared_sd=0.9))
    return neurites, held_out, fit, evaluate_consensus(held_out).set_index(["stratum", "method"])


def test_the_fit_gives_the_exact_posterior_where_that_is_known(correlated):
    """For Gaussian evidence the rule is exact: slope 1, correlation 0.9^2 / 1.5, prior 0.

    Slope and correlation trade off against each other, so it is the posterior that is compared.
    """
    neurites, _, fit, _ = correlated
    assert fit.correlation > 0.3
    evidence_u = _neurites(shared_sd=0.9).groupby("root_id")["evidence"].sum().to_numpy()
    log_odds_u = SharedErrors(1.0, 0.9**2 / 1.5, 0.0).log_odds(evidence_u, neurites["n_synapses"].to_numpy())
    exact_u = 1 / (1 + np.exp(-log_odds_u))
    assert np.abs(neurites["probability"] - exact_u).mean() < 0.02
    assert np.abs(neurites["independent_probability"] - exact_u).mean() > 0.06


def test_independent_synapses_stay_independent():
    assert neurite_posteriors(_neurites(shared_sd=0.0))[2].correlation < 0.05


def test_with_shared_errors_the_correction_is_better_calibrated_than_the_independent_sum(correlated):
    rows = correlated[3].loc["all"]
    assert rows.loc["corrected", "log_loss"] < rows.loc["independent", "log_loss"] - 0.05
    assert rows.loc["independent", "expected_calibration_error"] > 0.1
    error, chance = rows.loc["corrected", ["expected_calibration_error", "calibration_error_by_chance"]]
    assert error < chance + 0.03


def test_neurites_beat_their_single_synapses_in_every_stratum(correlated):
    rows = correlated[3].xs("corrected", level="method").drop("1 to 2")
    assert (rows["accuracy"] > rows["synapse_accuracy"]).all()
    assert rows.loc["all", "n_neurites"] == 600
    assert (rows["accuracy_called"] > rows["accuracy"]).all()


def test_neurites_without_enough_evidence_are_not_typed(correlated):
    neurites = correlated[0]
    is_typed = neurites["cell_type"].notna()
    assert 0 < is_typed.sum() < len(neurites)
    sure = np.maximum(neurites["probability"], 1 - neurites["probability"])
    assert (is_typed == (sure >= 0.9)).all()
    assert neurites["root_id"].dtype == np.int64
    assert neurites["n_synapses"].equals(neurites["n_pre"] + neurites["n_post"])


def test_held_out_fit_does_not_see_the_neurite():
    """Without noise in the fold's own labels nothing changes: turning them moves no probability but through others."""
    evidence = _neurites(shared_sd=0.5, n_neurites=60)
    config = ConsensusConfig(n_folds=60)
    chosen = evidence["root_id"] == 2**60
    turned = evidence.assign(target=evidence["target"].where(~chosen, 1 - evidence["target"]))
    before, after = (neurite_posteriors(table, config)[1].set_index("root_id") for table in (evidence, turned))
    assert before.loc[2**60, "probability"] == pytest.approx(after.loc[2**60, "probability"], abs=1e-12)
    assert (before["probability"] - after["probability"]).abs().max() > 1e-6


def test_the_design_effect_by_hand():
    rule = SharedErrors(slope=2.0, correlation=0.5, prior=1.0)
    np.testing.assert_allclose(rule.log_odds(np.array([3.0, 3.0]), np.array([1, 3])), [7.0, 4.0])


@pytest.mark.parametrize("target_u", [np.zeros(50), np.array([0.0, 1.0])])
def test_too_little_to_fit_on_is_taken_with_most_caution(target_u):
    rng = np.random.default_rng(0)
    fit = fit_shared_errors(rng.normal(size=len(target_u)), np.full(len(target_u), 4), target_u)
    assert (fit.slope, fit.correlation) == (1.0, 0.2)


def test_evidence_is_what_a_synapse_adds_to_the_base_rate():
    annotations = pd.DataFrame(
        {
            "synapse_id": [1, 2, 3],
            "pre_root_id": [10, 10, 11],
            "post_root_id": [20, 21, 10],
            "pre_cell_type": [1.0, 0.0, np.nan],
            "post_cell_type": [np.nan, np.nan, np.nan],
        }
    )
    imputed = pd.DataFrame({"synapse_id": [3, 2, 1], "pre_cell_type_probability": [0.9, 0.5, 0.2]})
    evidence = synapse_evidence(imputed, annotations)
    np.testing.assert_allclose(evidence["evidence"], logit(np.array([0.2, 0.5, 0.9])))
    assert evidence["root_id"].tolist() == [10, 10, 11]
    imputed["post_cell_type_probability"] = 0.7
    both = synapse_evidence(imputed, annotations)
    neurites = neurite_posteriors(both)[0].set_index("root_id")
    assert neurites.loc[10, ["n_pre", "n_post"]].tolist() == [2, 1]
    assert np.isnan(neurites.loc[10, "annotated_type"])  # annotated as both types


def test_nothing_imputed_is_an_empty_table():
    annotations = pd.DataFrame({"synapse_id": [1]})
    neurites, held_out, _ = neurite_posteriors(synapse_evidence(pd.DataFrame({"synapse_id": [1]}), annotations))
    assert neurites.empty
    assert held_out.empty
    assert consensus_document(evaluate_consensus(held_out)) == {}
    assert consensus_metrics({"all": {"corrected": {"accuracy": 0.5}}}) == {"consensus/all/corrected/accuracy": 0.5}


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


def test_sums_by_parts_give_the_neurites_of_all_synapses_at_once(simulated):
    table = simulated.annotations.copy()
    rng = np.random.default_rng(0)
    imputed = table[["synapse_id"]].copy()
    for side in ("pre", "post"):
        imputed[f"{side}_cell_type_probability"] = np.clip(
            0.25 + 0.5 * table[f"{side}_cell_type"] + 0.2 * rng.normal(size=len(table)), 0.01, 0.99
        )
        table.loc[rng.random(len(table)) < 0.6, f"{side}_cell_type"] = np.nan
    imputed = imputed.sample(frac=1, random_state=0).iloc[5:]  # in another order, and some are missing
    expected = neurite_posteriors(synapse_evidence(imputed, table))
    found = posteriors_of_sums(summed_evidence(imputed, table, rows_at_a_time=97))
    for one, other in zip(found[:2], expected[:2], strict=True):
        pd.testing.assert_frame_equal(one, other, rtol=1e-9)
    np.testing.assert_allclose(list(vars(found[2]).values()), list(vars(expected[2]).values()), rtol=1e-6)


def test_few_labels_of_lazy_features_give_what_features_in_memory_give(simulated, tmp_path):
    table = simulated.annotations.copy()
    table.loc[np.random.default_rng(0).random(len(table)) < 0.5, ["pre_cell_type", "post_cell_type"]] = np.nan
    config = ConsensusConfig(label_fractions=(0.2,), n_label_seeds=1)
    lazy = da.from_array(simulated.features_nf, chunks=(200, 32))
    blocks = RowBlocksConfig(rows=200, folder=str(tmp_path))
    expected, found = (
        evaluate_censored(features, table, config, ImputationConfig(), row_blocks=blocks).neurites
        for features in (simulated.features_nf, lazy)
    )
    assert len(expected)
    pd.testing.assert_frame_equal(found, expected, rtol=1e-4)
