"""One Gaussian process on one set of training synapses, by the method that fits its size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from synapseclr.analysis.gaussian_processes.config import GaussianProcessConfig
from synapseclr.analysis.gaussian_processes.exact import fit_exact
from synapseclr.analysis.gaussian_processes.inducing import fit_inducing
from synapseclr.analysis.gaussian_processes.observations import class_observations, continuous_observations
from synapseclr.analysis.gaussian_processes.posterior import Link, Posterior
from synapseclr.analysis.gaussian_processes.variational import fit_variational

Fit = Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray, Any]]
_FITS: dict[str, Fit] = {"exact": fit_exact, "inducing": fit_inducing, "variational": fit_variational}
_LINKS: dict[str, Link] = {"exact": "logistic", "inducing": "softmax", "variational": "probit"}


def chosen_method(config: GaussianProcessConfig, n_train: int) -> str:
    """``exact``, ``inducing`` or ``variational``, for a number of training synapses."""
    if config.method != "auto":
        return config.method
    if n_train <= config.exact_mean_up_to:
        return "exact"
    return "inducing" if n_train <= config.inducing_up_to else "variational"


def fit_regression(
    train_ar: np.ndarray, target_a: np.ndarray, query_nr: np.ndarray, config: GaussianProcessConfig, seed: int = 0
) -> Posterior:
    """Regress a continuous trait.

    Args:
        train_ar: Kernel inputs of the training synapses, from
            :func:`~synapseclr.analysis.gaussian_processes.features.kernel_inputs`.
        target_a: float (a,).
        query_nr: Kernel inputs of the synapses to predict.
        config: Kernel, method and iterations.
        seed: Seed of what is drawn.

    Returns:
        The posterior in units of the target, one output.
    """
    centre, scale = float(target_a.mean()), float(target_a.std()) or 1.0
    fit = _FITS[chosen_method(config, len(train_ar))]
    observations = continuous_observations((target_a - centre) / scale)
    mean_on, variance_on, prior_on, likelihood = fit(train_ar, observations, query_nr, config, seed)
    noise = float(likelihood.noise.detach()) * scale**2
    return Posterior(mean_on * scale + centre, variance_on * scale**2, prior_on * scale**2, noise)


def fit_classes(
    train_ar: np.ndarray, target_a: np.ndarray, query_nr: np.ndarray, config: GaussianProcessConfig, seed: int = 0
) -> Posterior:
    """Classify, by the method that fits the number of training synapses.

    The kernel is fitted by regression on log-normal approximations to Dirichlet targets (Milios et al. 2018,
    https://arxiv.org/abs/1805.10915, sections 4.1 to 4.3). Up to ``dirichlet_up_to`` training synapses, and with
    inducing points, that regression is the posterior; an exact process of more has the logistic likelihood (Laplace's
    approximation), a variational one a probit. With ``balance_classes`` a synapse has the weight n / (2 n of its
    class): it multiplies the logarithm of its likelihood, and divides the noise of its Dirichlet targets.

    Args:
        train_ar: Kernel inputs of the training synapses.
        target_a: float (a,), 0.0 or 1.0.
        query_nr: Kernel inputs of the synapses to predict.
        config: Kernel, method, iterations, prior concentration, balance.
        seed: Seed of what is drawn.

    Returns:
        The posterior of the latent function, or with inducing points of the two classes' log concentrations.
    """
    method = chosen_method(config, len(train_ar))
    observations = class_observations(target_a, config)
    mean_on, variance_on, prior_on, _ = _FITS[method](train_ar, observations, query_nr, config, seed)
    return Posterior(mean_on, variance_on, prior_on, 0.0, _LINKS[method])
