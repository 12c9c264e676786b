"""Gaussian processes against plain linear algebra, and against each other."""

import numpy as np
import pytest
import torch
from curved_traits import curved_traits
from scipy.special import expit, ndtr

from synapseclr.analysis.config import GaussianProcessConfig, ImputationConfig
from synapseclr.analysis.gaussian_processes.kernels import base_kernel, kernel_inputs
from synapseclr.analysis.gaussian_processes.models import (
    Posterior,
    chosen_method,
    class_probability,
    classification,
    fit_classes,
    fit_regression,
    regression,
)
from synapseclr.analysis.gaussian_processes.variational import inducing_points
from synapseclr.analysis.traits import trait_named

ONE_SEED = ImputationConfig(gaussian_processes=GaussianProcessConfig(n_seeds=1))
CLEFT, TYPE = trait_named("cleft_size_log1p_zscore"), trait_named("pre_cell_type")
MITO = trait_named("mito_size_pre_vx_log1p_zscore_zi")


def test_posterior_equals_the_textbook():
    """The mean is k (K + s^2)^-1 y of a linear kernel."""
    rng = np.random.default_rng(1)
    train_ar, query_nr = rng.normal(size=(40, 2)), rng.normal(size=(25, 2))
    target_a = train_ar @ [1.0, -2.0] + 0.1 * rng.normal(size=40)
    config = GaussianProcessConfig(kernel="linear", n_iterations=40)
    posterior = fit_regression(train_ar, target_a, query_nr, config)
    weights = np.linalg.lstsq(np.c_[train_ar, np.ones(40)], target_a, rcond=None)[0]
    np.testing.assert_allclose(posterior.mean_on[0], np.c_[query_nr, np.ones(25)] @ weights, atol=0.05)
    assert 0.05 < np.sqrt(posterior.noise) < 0.2
    assert (posterior.variance_on < posterior.prior_variance_on).all()


def test_far_from_every_training_synapse_uncertainty_returns_to_the_prior():
    features_nf, table = curved_traits(200, 200)
    inputs_nr = kernel_inputs(features_nf, 6)
    far_nr = np.full((1, inputs_nr.shape[1]), 30.0)
    config = GaussianProcessConfig(kernel="rbf")
    found = fit_regression(inputs_nr, table["cleft_size_log1p_zscore"].to_numpy(), np.r_[inputs_nr, far_nr], config)
    assert found.out_of_distribution_n[-1] > 0.999
    assert np.median(found.out_of_distribution_n[:-1]) < 0.5


@pytest.mark.parametrize("link", ["logistic", "probit"])
def test_class_probability_agrees_with_sampling(link):
    rng = np.random.default_rng(2)
    mean_on, variance_on = np.array([[1.0, -2.0]]), np.array([[3.0, 0.7]])
    mean_n, variance_n = class_probability(Posterior(mean_on, variance_on, variance_on, 0.0, link))
    draws_sn = mean_on + np.sqrt(variance_on) * rng.normal(size=(200_000, 2))
    sampled_sn = (expit if link == "logistic" else ndtr)(draws_sn)
    np.testing.assert_allclose(mean_n, sampled_sn.mean(axis=0), atol=3e-3)
    np.testing.assert_allclose(variance_n, sampled_sn.var(axis=0), atol=3e-3)


@pytest.mark.parametrize(
    ("trait", "dirichlet_up_to"), [("cleft_size_log1p_zscore", 0), ("pre_cell_type", 500), ("pre_cell_type", 0)]
)
def test_bounded_variances_are_wider_than_exact_ones_and_means_the_same(trait, dirichlet_up_to):
    features_nf, table = curved_traits(300, 300)
    inputs_nr, target_n = kernel_inputs(features_nf, 6), table[trait].to_numpy()
    fit = fit_classes if trait == "pre_cell_type" else fit_regression
    exact, bounded = (
        fit(
            inputs_nr[:200],
            target_n[:200],
            inputs_nr,
            GaussianProcessConfig(exact_up_to=size, n_inducing=40, dirichlet_up_to=dirichlet_up_to),
        )
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
    features_nf, table = curved_traits(500, 500)
    inputs_nr, target_n = kernel_inputs(features_nf, 6), table["cleft_size_log1p_zscore"].to_numpy()
    whole, part = (
        fit_regression(inputs_nr[:400], target_n[:400], inputs_nr, GaussianProcessConfig(fit_on=size)).mean_on[0]
        for size in (400, 150)
    )
    errors = [np.square(mean_n[400:] - target_n[400:]).mean() for mean_n in (whole, part)]
    assert errors[1] < 1.2 * errors[0]


@pytest.mark.parametrize("trait", ["cleft_size_log1p_zscore", "pre_cell_type"])
def test_the_variational_process_comes_near_the_exact_one(trait):
    features_nf, table = curved_traits(300, 300)
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
    assert [chosen_method(config, n) for n in (500, 100_000, 100_001)] == ["exact", "exact", "variational"]
    assert chosen_method(GaussianProcessConfig(method="variational"), 50) == "variational"


def test_there_are_never_more_inducing_points_than_synapses():
    assert inducing_points(np.zeros((5, 2)), 50, 0).shape == (5, 2)


@pytest.mark.parametrize("trait", [CLEFT, TYPE])
def test_of_many_training_synapses_a_part_is_drawn(trait):
    features_nf, table = curved_traits(400, 400)
    inputs_nr, target_n = kernel_inputs(features_nf, 6), table[trait.name].to_numpy()
    fit = fit_classes if trait.is_class else fit_regression
    drawn, asked = (
        fit(inputs_nr[:300], target_n[:300], inputs_nr, GaussianProcessConfig(exact_mean_up_to=150, method=method))
        for method in ("auto", "exact")
    )
    everyone = fit(inputs_nr[:300], target_n[:300], inputs_nr, GaussianProcessConfig())
    np.testing.assert_allclose(asked.mean_on, everyone.mean_on)
    assert np.corrcoef(drawn.mean_on[0, 300:], everyone.mean_on[0, 300:])[0, 1] > 0.8
    # The synapses that were not drawn are known less well.
    assert drawn.variance_on[0, :300].mean() > everyone.variance_on[0, :300].mean()


def test_the_former_method_is_read_with_a_message(caplog):
    assert GaussianProcessConfig(method="inducing").method == "auto"
    assert "inducing is gone" in caplog.text


def test_the_former_name_of_a_limit_is_read_with_a_message(caplog):
    config = GaussianProcessConfig.model_validate({"inducing_up_to": 50, "variational_above": 100_000})
    assert config.variational_above == 50  # a user's own file still has it, beside the project's
    assert "is now called variational_above" in caplog.text


@pytest.mark.parametrize("dirichlet_up_to", [0, 500])
@pytest.mark.parametrize("is_class", [False, True])
def test_a_query_gets_the_same_answer_in_any_company(is_class, dirichlet_up_to):
    """One or two queries have the shape of covariances of as many outputs."""
    inputs_nr = kernel_inputs(curved_traits()[0], 6)
    target_n = np.arange(120) % 2.0 if is_class else np.sin(5 * inputs_nr[:120, 0])
    config = GaussianProcessConfig(n_iterations=2, dirichlet_up_to=dirichlet_up_to)
    process = (classification if is_class else regression)(inputs_nr[:120], target_n, config)
    together = process.posterior(inputs_nr[120:130])
    for n in (1, 2, 3):
        alone = process.posterior(inputs_nr[120 : 120 + n])
        for name in ("mean_on", "variance_on", "prior_variance_on"):
            np.testing.assert_allclose(getattr(alone, name), getattr(together, name)[:, :n], rtol=1e-6, atol=1e-9)
