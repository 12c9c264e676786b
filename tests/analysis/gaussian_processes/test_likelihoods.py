"""Laplace's approximation against scikit-learn's, and what weights and the prior mean do to it."""

import numpy as np
import pytest
import torch
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF, ConstantKernel

from synapseclr.analysis.config import GaussianProcessConfig
from synapseclr.analysis.gaussian_processes.kernels import noisy_factor
from synapseclr.analysis.gaussian_processes.likelihoods import posterior_mode
from synapseclr.analysis.gaussian_processes.models import Posterior, class_probability, fit_classes


@pytest.fixture
def problem():
    """Inputs, labels with some noise, and the kernel."""
    rng = np.random.default_rng(0)
    inputs_ar = rng.normal(size=(60, 3))
    label_a = (inputs_ar[:, 0] + 0.5 * rng.normal(size=60) > 0).astype(int)
    return inputs_ar, label_a, ConstantKernel(4.0) * RBF(1.5)


def test_the_posterior_is_that_of_scikit_learn(problem):
    inputs_ar, label_a, kernel = problem
    query_nr = np.random.default_rng(1).normal(size=(20, 3))
    reference = GaussianProcessClassifier(kernel, optimizer=None).fit(inputs_ar, label_a)
    mean_n, variance_n = reference.base_estimator_.latent_mean_and_variance(query_nr)

    covariance = torch.as_tensor(kernel(inputs_ar))
    solved, noise = posterior_mode(covariance, 0.0, torch.as_tensor(label_a), torch.ones(60))
    cross = torch.as_tensor(kernel(query_nr, inputs_ar))
    explained = torch.linalg.solve_triangular(noisy_factor(covariance, noise), cross.mT, upper=False).square().sum(0)
    np.testing.assert_allclose(cross @ solved, mean_n, atol=5e-3)
    np.testing.assert_allclose(kernel.diag(query_nr) - explained.numpy(), variance_n, atol=5e-3)


def test_at_the_mode_the_gradient_vanishes(problem):
    inputs_ar, label_a, kernel = problem
    covariance, label = torch.as_tensor(kernel(inputs_ar)), torch.as_tensor(label_a)
    weight = torch.linspace(0.3, 3.0, 60, dtype=torch.float64)
    solved, noise = posterior_mode(covariance, -1.0, label, weight)
    right = torch.sigmoid(torch.where(label == 1, 1.0, -1.0) * (covariance @ solved - 1.0))
    torch.testing.assert_close(solved, weight * (label - torch.where(label == 1, right, 1 - right)), atol=0.02, rtol=0)
    torch.testing.assert_close(noise, 1.0 / (weight * right * (1 - right)), rtol=1e-6, atol=0)


def test_a_weight_of_two_is_a_synapse_seen_twice(problem):
    inputs_ar, label_a, kernel = problem
    weight_a = np.where(np.arange(60) % 3 == 0, 2, 1)
    twice = np.repeat(np.arange(60), weight_a)
    latent = []
    for rows, weights in ((np.arange(60), weight_a), (twice, np.ones(len(twice)))):
        covariance = torch.as_tensor(kernel(inputs_ar[rows]))
        solved, _ = posterior_mode(covariance, 0.5, torch.as_tensor(label_a[rows]), torch.as_tensor(weights))
        latent.append(torch.as_tensor(kernel(inputs_ar, inputs_ar[rows])) @ solved)
    torch.testing.assert_close(latent[0], latent[1], atol=0.01, rtol=0)


def test_separable_classes_and_a_rare_one_stay_finite():
    rng = np.random.default_rng(2)
    inputs_ar = np.r_[rng.normal(size=(200, 4)), rng.normal(size=(3, 4)) + 6.0]
    target_a = np.r_[np.zeros(200), np.ones(3)]
    config = GaussianProcessConfig(dirichlet_up_to=0, exact_up_to=100, n_inducing=50)
    found = fit_classes(inputs_ar, target_a, inputs_ar, config)
    probability_n, variance_n = class_probability(found)
    assert np.isfinite(found.mean_on).all()
    assert (variance_n >= 0).all()
    assert probability_n[200:].min() > 0.5 > probability_n[:200].max()


def test_it_takes_over_from_the_dirichlet_regression_where_synapses_are_many():
    """Probabilities of the two go together, and Laplace's are better where there are enough labels."""
    rng = np.random.default_rng(4)
    inputs_nr = rng.normal(size=(2400, 3)) / np.sqrt(3.0)
    log_odds_n = 5.0 * inputs_nr[:, 0]
    target_n = (rng.random(2400) < 1 / (1 + np.exp(-log_odds_n))).astype(float)
    train, test = slice(0, 900), slice(900, None)
    losses = []
    for dirichlet_up_to in (900, 899):
        config = GaussianProcessConfig(dirichlet_up_to=dirichlet_up_to, balance_classes=False)
        probability_b = class_probability(fit_classes(inputs_nr[train], target_n[train], inputs_nr[test], config))[0]
        losses.append(-np.log(np.where(target_n[test] == 1, probability_b, 1 - probability_b)).mean())
        assert np.corrcoef(probability_b, log_odds_n[test])[0, 1] > 0.9
    assert losses[1] < losses[0]


def test_the_logistic_link_agrees_with_sampling():
    rng = np.random.default_rng(3)
    mean_on, variance_on = np.array([[0.8, -2.0, 0.0]]), np.array([[1.5, 0.3, 4.0]])
    mean_n, variance_n = class_probability(Posterior(mean_on, variance_on, variance_on, 0.0))
    sampled_sn = 1 / (1 + np.exp(-mean_on - np.sqrt(variance_on) * rng.normal(size=(200_000, 3))))
    np.testing.assert_allclose(mean_n, sampled_sn.mean(axis=0), atol=3e-3)
    np.testing.assert_allclose(variance_n, sampled_sn.var(axis=0), atol=3e-3)
