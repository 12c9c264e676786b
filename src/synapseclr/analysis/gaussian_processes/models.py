"""Regression and classification by one Gaussian process, with the method that suits the number of training synapses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from synapseclr.analysis.config import GaussianProcessConfig
from synapseclr.analysis.gaussian_processes.exact import fit_exact
from synapseclr.analysis.gaussian_processes.likelihoods import class_observations, continuous_observations
from synapseclr.analysis.gaussian_processes.variational import fit_variational

Link = Literal["logistic", "probit"]


@dataclass(frozen=True)
class Posterior:
    """Latent posterior at n synapses, for one output (o = 1).

    Attributes:
        mean_on: float64 (o, n).
        variance_on: float64 (o, n): variance of the latent function, without observation noise.
        prior_variance_on: float64 (o, n): the same before any training synapse was seen.
        noise: Variance of the observation noise; 0 for classes, which have none.
        link: How latent values become the probability of class 1: the logistic function, or the normal distribution
            function.
    """

    mean_on: np.ndarray
    variance_on: np.ndarray
    prior_variance_on: np.ndarray
    noise: float
    link: Link = "logistic"

    @property
    def out_of_distribution_n(self) -> np.ndarray:
        """Posterior over prior variance, float64 (n,) in [0, 1]: 1 where the training synapses say nothing."""
        ratio_on = self.variance_on / np.maximum(self.prior_variance_on, 1e-300)
        clipped_n: np.ndarray = np.clip(ratio_on.mean(axis=0), 0.0, 1.0)
        return clipped_n


def class_probability(posterior: Posterior) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the probability of class 1, each float64 (n,).

    Moments come from Gauss-Hermite quadrature with 16 points.
    """
    from scipy.special import expit, ndtr

    link = ndtr if posterior.link == "probit" else expit
    latent_n, spread_n = posterior.mean_on[0], np.sqrt(posterior.variance_on[0])
    nodes_q, weights_q = np.polynomial.hermite_e.hermegauss(16)
    mean_n, second_n = np.zeros_like(latent_n), np.zeros_like(latent_n)
    for node, weight in zip(nodes_q, weights_q / weights_q.sum(), strict=True):
        probability_n = link(latent_n + node * spread_n)
        mean_n += weight * probability_n
        second_n += weight * np.square(probability_n)
    return mean_n, np.maximum(second_n - np.square(mean_n), 0.0)


LatentFunction = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
Fit = Callable[..., tuple[LatentFunction, Any]]
_FITS: dict[str, Fit] = {"exact": fit_exact, "variational": fit_variational}
_LINKS: dict[str, Link] = {"exact": "logistic", "variational": "probit"}


def chosen_method(config: GaussianProcessConfig, n_train: int) -> str:
    """``exact`` or ``variational``, for a number of training synapses."""
    if config.method != "auto":
        return config.method
    return "exact" if n_train <= config.variational_above else "variational"


@dataclass(frozen=True)
class FittedProcess:
    """A process given its training synapses, for any queries.

    Attributes:
        latent: Mean, variance and prior variance of the latent function at kernel inputs (n, r), each (1, n).
        centre: Added to the latent mean.
        scale: Factor of the latent function.
        noise: Variance of the observation noise, in units of the target.
        link: As of :class:`Posterior`.
    """

    latent: LatentFunction
    centre: float
    scale: float
    noise: float
    link: Link

    def posterior(self, query_nr: np.ndarray) -> Posterior:
        """Posterior at kernel inputs of the synapses to predict, in units of the target."""
        mean_on, variance_on, prior_on = self.latent(query_nr)
        scale = self.scale
        if (self.centre, scale) == (0.0, 1.0):
            return Posterior(mean_on, variance_on, prior_on, self.noise, self.link)
        return Posterior(
            mean_on * scale + self.centre, variance_on * scale**2, prior_on * scale**2, self.noise, self.link
        )


def fit_regression(
    train_ar: np.ndarray, target_a: np.ndarray, query_nr: np.ndarray, config: GaussianProcessConfig, seed: int = 0
) -> Posterior:
    """Regress a continuous trait.

    Args:
        train_ar: Kernel inputs of the training synapses, from
            :func:`~synapseclr.analysis.gaussian_processes.kernels.kernel_inputs`.
        target_a: float (a,).
        query_nr: Kernel inputs of the synapses to predict.
        config: Kernel, method and iterations.
        seed: Seed of what is drawn.

    Returns:
        The posterior in units of the target, one output.
    """
    return regression(train_ar, target_a, config, seed).posterior(query_nr)


def regression(
    train_ar: np.ndarray, target_a: np.ndarray, config: GaussianProcessConfig, seed: int = 0
) -> FittedProcess:
    """Fit the process of :func:`fit_regression`, for queries that come later."""
    centre, scale = float(target_a.mean()), float(target_a.std()) or 1.0
    fit = _FITS[chosen_method(config, len(train_ar))]
    observations = continuous_observations((target_a - centre) / scale)
    latent, likelihood = fit(train_ar, observations, config, seed)
    return FittedProcess(latent, centre, scale, float(likelihood.noise.detach()) * scale**2, "logistic")


def fit_classes(
    train_ar: np.ndarray, target_a: np.ndarray, query_nr: np.ndarray, config: GaussianProcessConfig, seed: int = 0
) -> Posterior:
    """Classify, by the method that fits the number of training synapses.

    The kernel is fitted by regression on log-normal approximations to Dirichlet targets (Milios et al. 2018,
    https://arxiv.org/abs/1805.10915, sections 4.1 to 4.3). Up to ``dirichlet_up_to`` training synapses
    that regression is the posterior; an exact process of more has the logistic likelihood (Laplace's
    approximation), a variational one a probit. With ``balance_classes`` a synapse has the weight n / (2 n of its
    class): it multiplies the logarithm of its likelihood, and divides the noise of its Dirichlet targets.

    Args:
        train_ar: Kernel inputs of the training synapses.
        target_a: float (a,), 0.0 or 1.0.
        query_nr: Kernel inputs of the synapses to predict.
        config: Kernel, method, iterations, prior concentration, balance.
        seed: Seed of what is drawn.

    Returns:
        The posterior of the latent function.
    """
    return classification(train_ar, target_a, config, seed).posterior(query_nr)


def classification(
    train_ar: np.ndarray, target_a: np.ndarray, config: GaussianProcessConfig, seed: int = 0
) -> FittedProcess:
    """Fit the process of :func:`fit_classes`, for queries that come later."""
    method = chosen_method(config, len(train_ar))
    observations = class_observations(target_a, config)
    latent, _ = _FITS[method](train_ar, observations, config, seed)
    return FittedProcess(latent, 0.0, 1.0, 0.0, _LINKS[method])
