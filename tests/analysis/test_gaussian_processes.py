"""Gaussian processes against plain linear algebra, their uncertainty against simulated truth."""

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from synapseclr.analysis.config import ImputationConfig
from synapseclr.analysis.gaussian_processes.config import GaussianProcessConfig
from synapseclr.analysis.gaussian_processes.ensemble import Member, mixture
from synapseclr.analysis.gaussian_processes.features import kernel_inputs
from synapseclr.analysis.gaussian_processes.imputing import impute_traits
from synapseclr.analysis.gaussian_processes.inducing import inducing_points
from synapseclr.analysis.gaussian_processes.kernels import base_kernel
from synapseclr.analysis.gaussian_processes.models import chosen_method, fit_classes, fit_regression
from synapseclr.analysis.gaussian_processes.posterior import Posterior, class_probability
from synapseclr.analysis.gaussian_processes.units import original_units
from synapseclr.analysis.traits import trait_named
from synapseclr.errors import SynapseCLRError, TableError

SCALES = pd.DataFrame(
    {
        "trait": ["cleft_size_log1p_zscore"],
        "raw_column": ["cleft_size_vx"],
        "transform": ["log1p_zscore"],
        "location": [5.0],
        "scale": [0.5],
    }
)
ONE_SEED = ImputationConfig(gaussian_processes=GaussianProcessConfig(n_seeds=1))
CLEFT, TYPE = trait_named("cleft_size_log1p_zscore"), trait_named("pre_cell_type")
MITO = trait_named("mito_size_pre_vx_log1p_zscore_zi")


def _data(n=240, n_annotated=180, seed=0):
    """A curved trait with known noise, and a class whose probability is known."""
    rng = np.random.default_rng(seed)
    features_nf = rng.normal(size=(n, 6)).astype(np.float32)
    size_n = np.sin(1.5 * features_nf[:, 0]) + 0.3 * rng.normal(size=n)
    class_n = (rng.random(n) < 1 / (1 + np.exp(-2.5 * features_nf[:, 1]))).astype(float)
    size_n[n_annotated:] = class_n[n_annotated:] = np.nan
    table = pd.DataFrame(
        {
            "synapse_id": np.arange(n) + 2**60,
            "pre_root_id": rng.integers(0, 40, n) + 2**60,
            "cleft_size_log1p_zscore": size_n,
            "pre_cell_type": class_n,
        }
    )
    return features_nf, table


@pytest.fixture(scope="module")
def imputation():
    features_nf, table = _data()
    return impute_traits(features_nf, table, SCALES, ONE_SEED, (CLEFT, TYPE, MITO))


def test_scores_and_coverage_on_simulated_truth(imputation):
    scores = imputation.scores[imputation.scores["split"] == "neurite"].groupby("trait")["score"].mean()
    assert scores["cleft_size_log1p_zscore"] > 0.6  # 0.84 is the part that is not noise
    assert scores["pre_cell_type"] > 0.8
    rows = imputation.calibration.set_index(["trait", "split", "is_corrected"])
    assert 0.8 < rows.loc[("cleft_size_log1p_zscore", "neurite", True), "coverage_90"] < 0.97
    row = rows.loc[("pre_cell_type", "neurite", True)]
    assert row["expected_calibration_error"] < row["calibration_error_by_chance"] + 0.05


def test_every_synapse_is_imputed_and_annotated_ones_are_held_out(imputation):
    traits = imputation.traits
    assert len(traits) == 240
    assert traits["synapse_id"].dtype == np.int64
    assert traits["pre_cell_type_is_annotated"].sum() == 180
    assert np.isfinite(traits.drop(columns="synapse_id").to_numpy(dtype=float)).all()
    held_out = imputation.held_out.query("trait == 'pre_cell_type' and split == 'neurite'")
    assert held_out.groupby("neurite")["fold"].nunique().max() == 1
    given_out = traits.set_index("synapse_id").loc[held_out["synapse_id"], "pre_cell_type_probability"]
    np.testing.assert_array_equal(given_out, held_out["mean"])


def test_a_trait_without_annotations_is_listed_and_the_others_are_imputed(imputation):
    assert imputation.unimputed["trait"].tolist() == [MITO.name]
    assert "no such column" in imputation.unimputed["reason"][0]


def test_labels_of_a_neurite_do_not_change_what_is_predicted_for_it(imputation):
    """Turn the labels of the first fold's neurites: its stated predictions must stay as they are."""
    features_nf, table = _data()
    fold = imputation.held_out.query("trait == 'cleft_size_log1p_zscore' and split == 'neurite' and fold == 0")
    chosen = table["synapse_id"].isin(fold["synapse_id"])
    table.loc[chosen, "cleft_size_log1p_zscore"] *= -1
    config = ImputationConfig(gaussian_processes=GaussianProcessConfig(compare_synapse_folds=False, n_seeds=1))
    again = impute_traits(features_nf, table, SCALES, config, (CLEFT,)).held_out.query("fold == 0")
    np.testing.assert_allclose(again["stated_mean"], fold["stated_mean"], rtol=1e-6)
    assert np.abs(again["target"].to_numpy() - fold["target"].to_numpy()).max() > 1


@pytest.mark.parametrize("method", ["exact", "inducing"])
def test_posterior_equals_the_textbook(method):
    """With every training synapse an inducing point, SGPR is exact; both equal k (K + s^2)^-1 y of a linear kernel."""
    rng = np.random.default_rng(1)
    train_ar, query_nr = rng.normal(size=(40, 2)), rng.normal(size=(25, 2))
    target_a = train_ar @ [1.0, -2.0] + 0.1 * rng.normal(size=40)
    config = GaussianProcessConfig(kernel="linear", method=method, n_inducing=40, n_iterations=40)
    posterior = fit_regression(train_ar, target_a, query_nr, config)
    weights = np.linalg.lstsq(np.c_[train_ar, np.ones(40)], target_a, rcond=None)[0]
    np.testing.assert_allclose(posterior.mean_on[0], np.c_[query_nr, np.ones(25)] @ weights, atol=0.05)
    assert 0.05 < np.sqrt(posterior.noise) < 0.2
    assert (posterior.variance_on < posterior.prior_variance_on).all()


def test_inducing_points_classify_as_the_exact_process_does():
    features_nf, table = _data(300, 300)
    inputs_nr, target_n = kernel_inputs(features_nf, 6), table["pre_cell_type"].to_numpy()
    exact, inducing = (
        class_probability(
            fit_classes(inputs_nr[:200], target_n[:200], inputs_nr, GaussianProcessConfig(method=method, n_inducing=80))
        )[0]
        for method in ("exact", "inducing")
    )
    assert np.corrcoef(exact[200:], inducing[200:])[0, 1] > 0.97


def test_far_from_every_training_synapse_uncertainty_returns_to_the_prior():
    features_nf, table = _data(200, 200)
    inputs_nr = kernel_inputs(features_nf, 6)
    far_nr = np.full((1, inputs_nr.shape[1]), 30.0)
    config = GaussianProcessConfig(kernel="rbf")
    found = fit_regression(inputs_nr, table["cleft_size_log1p_zscore"].to_numpy(), np.r_[inputs_nr, far_nr], config)
    assert found.out_of_distribution_n[-1] > 0.999
    assert np.median(found.out_of_distribution_n[:-1]) < 0.5


def test_class_probability_agrees_with_sampling():
    rng = np.random.default_rng(2)
    mean_on, variance_on = np.array([[0.5, -1.0], [1.5, -3.0]]), np.array([[1.0, 0.2], [2.0, 0.5]])
    mean_n, variance_n = class_probability(Posterior(mean_on, variance_on, variance_on, 0.0))
    draws = mean_on[:, None] + np.sqrt(variance_on)[:, None] * rng.normal(size=(2, 200_000, 2))
    sampled_sn = np.exp(draws[1]) / np.exp(draws).sum(axis=0)
    np.testing.assert_allclose(mean_n, sampled_sn.mean(axis=0), atol=3e-3)
    np.testing.assert_allclose(variance_n, sampled_sn.var(axis=0), atol=3e-3)


def test_mixture_leaves_out_models_that_saw_the_synapse():
    ones = np.ones(3)
    members = [Member(0 * ones, ones, ones, np.array([0])), Member(2 * ones, ones, ones, np.array([1]))]
    found = mixture(members, np.array([0, 1]))
    np.testing.assert_allclose(found.mean_n, [0.0, 2.0, 1.0])
    np.testing.assert_allclose(found.sd_n, [1.0, 1.0, np.sqrt(2.0)])  # mean of second moments: (1 + 5) / 2 - 1


def test_original_units_agree_with_sampling():
    rng = np.random.default_rng(3)
    found = original_units(np.array([0.4]), np.array([0.8]), "cleft_size_log1p_zscore", SCALES)
    values = np.expm1(5.0 + 0.5 * (0.4 + 0.8 * rng.normal(size=400_000)))
    np.testing.assert_allclose(found["cleft_size_vx_mean"], values.mean(), rtol=5e-3)
    np.testing.assert_allclose(found["cleft_size_vx_sd"], values.std(), rtol=2e-2)
    np.testing.assert_allclose(found["cleft_size_vx_lower_90"], np.quantile(values, 0.05), rtol=1e-2)


def test_unknown_scales_leave_the_measured_units_out():
    scales = SCALES.assign(location=np.nan)
    assert original_units(np.zeros(2), np.ones(2), "cleft_size_log1p_zscore", scales) == {}
    with pytest.raises(TableError, match="lacks the columns"):
        original_units(np.zeros(2), np.ones(2), "cleft_size_log1p_zscore", SCALES.drop(columns="scale"))


def test_constant_features_predict_the_mean():
    _, table = _data(120, 120)
    config = ImputationConfig(gaussian_processes=GaussianProcessConfig(compare_synapse_folds=False, n_seeds=1))
    found = impute_traits(np.ones((120, 4), np.float32), table, SCALES, config, (CLEFT,))
    assert np.ptp(found.held_out.query("fold == 0")["mean"]) < 1e-6
    assert abs(found.scores["score"].mean()) < 1e-6


def test_traits_that_cannot_be_imputed_take_no_other_down():
    """All NaN, one class only, too few annotations, equal values: each is listed with its reason."""
    features_nf, table = _data(90, 90)
    table["pre_cell_type"] = 1.0
    table["has_mito_pre"] = np.nan
    table["post_root_id"] = table["pre_root_id"]
    table["post_cell_type"] = np.where(np.arange(90) < 10, np.arange(90) % 2, np.nan)
    table["postsyn_soma_dist_log1p_zscore"] = 0.5
    names = ("pre_cell_type", "has_mito_pre", "post_cell_type", "postsyn_soma_dist_log1p_zscore")
    config = ImputationConfig(gaussian_processes=GaussianProcessConfig(compare_synapse_folds=False, n_seeds=1))
    found = impute_traits(features_nf, table, SCALES, config, (*map(trait_named, names), CLEFT))
    reasons = found.unimputed.set_index("trait")["reason"]
    assert list(reasons.index) == list(names)
    assert "only one class" in reasons["pre_cell_type"]
    assert reasons["has_mito_pre"] == "no synapse is annotated"
    assert reasons["post_cell_type"] == "10 annotated synapses, at least 30 needed"
    assert reasons["postsyn_soma_dist_log1p_zscore"] == "all annotated values are equal"
    assert np.isfinite(found.traits["cleft_size_log1p_zscore_mean"]).all()


def test_several_seeds_widen_the_ensemble():
    features_nf, table = _data(120, 90)
    process = GaussianProcessConfig(n_seeds=2, compare_synapse_folds=False, kernel="linear")
    found = impute_traits(features_nf, table, SCALES, ImputationConfig(gaussian_processes=process), (TYPE,))
    assert found.scores.groupby("repetition").size().tolist() == [3, 3]


def test_bad_input_is_refused():
    features_nf, table = _data(60, 60)
    with pytest.raises(TableError, match="59 rows of features and 60 of annotations"):
        impute_traits(features_nf[:59], table, SCALES)
    features_nf[3, 0] = np.nan
    with pytest.raises(SynapseCLRError, match="not finite for 1 of 60"):
        impute_traits(features_nf, table, SCALES)
    with pytest.raises(ValidationError):
        GaussianProcessConfig(kernel="cubic")
    with pytest.raises(ValidationError):
        GaussianProcessConfig(layer="encoder.layer4")


@pytest.mark.parametrize("trait", ["cleft_size_log1p_zscore", "pre_cell_type"])
def test_bounded_variances_are_wider_than_exact_ones_and_means_the_same(trait):
    features_nf, table = _data(300, 300)
    inputs_nr, target_n = kernel_inputs(features_nf, 6), table[trait].to_numpy()
    fit = fit_classes if trait == "pre_cell_type" else fit_regression
    exact, bounded = (
        fit(inputs_nr[:200], target_n[:200], inputs_nr, GaussianProcessConfig(exact_up_to=size, n_inducing=40))
        for size in (200, 199)
    )
    np.testing.assert_allclose(bounded.mean_on, exact.mean_on, atol=1e-3)
    assert (bounded.variance_on > exact.variance_on - 1e-4).all()
    assert (bounded.variance_on < bounded.prior_variance_on).all()


@pytest.mark.parametrize("batch", [(), (2,)])
def test_weighted_sums_equal_the_product_with_the_matrix(batch):
    kernel = base_kernel("rbf+linear", torch.Size(batch), n_radial=3).double()
    kernel.lengthscale = 0.7
    query, train = torch.randn(5, 4, dtype=torch.float64), torch.randn(9, 4, dtype=torch.float64)
    weights = torch.randn(*batch, 9, 1, dtype=torch.float64)
    torch.testing.assert_close(kernel.weighted_sums(query, train, weights), kernel(query, train).to_dense() @ weights)


def test_hyper_parameters_of_a_part_do_nearly_as_well():
    features_nf, table = _data(500, 500)
    inputs_nr, target_n = kernel_inputs(features_nf, 6), table["cleft_size_log1p_zscore"].to_numpy()
    whole, part = (
        fit_regression(inputs_nr[:400], target_n[:400], inputs_nr, GaussianProcessConfig(fit_on=size)).mean_on[0]
        for size in (400, 150)
    )
    errors = [np.square(mean_n[400:] - target_n[400:]).mean() for mean_n in (whole, part)]
    assert errors[1] < 1.2 * errors[0]


@pytest.mark.parametrize("trait", ["cleft_size_log1p_zscore", "pre_cell_type"])
def test_the_variational_process_comes_near_the_exact_one(trait):
    features_nf, table = _data(300, 300)
    inputs_nr, target_n = kernel_inputs(features_nf, 6), table[trait].to_numpy()
    config = GaussianProcessConfig(method="variational", n_inducing=60, n_steps=300, learning_rate=0.03, batch_size=150)
    if trait == "pre_cell_type":
        found, wanted = (
            class_probability(fit_classes(inputs_nr[:200], target_n[:200], inputs_nr, one))[0]
            for one in (config, GaussianProcessConfig())
        )
    else:
        found, wanted = (
            fit_regression(inputs_nr[:200], target_n[:200], inputs_nr, one).mean_on[0]
            for one in (config, GaussianProcessConfig())
        )
    assert np.corrcoef(found[200:], wanted[200:])[0, 1] > 0.9


def test_the_method_follows_the_number_of_training_synapses():
    config = GaussianProcessConfig()
    assert [chosen_method(config, n) for n in (500, 10_000, 10_001, 100_001)] == [
        "exact",
        "exact",
        "inducing",
        "variational",
    ]
    assert chosen_method(GaussianProcessConfig(method="variational"), 50) == "variational"


def test_there_are_never_more_inducing_points_than_synapses():
    assert inducing_points(np.zeros((5, 2)), 50, 0).shape == (5, 2)
