"""What a Gaussian process says of synapses, and what that means for the probability of a class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Link = Literal["logistic", "softmax", "probit"]


@dataclass(frozen=True)
class Posterior:
    """Latent posterior at n synapses, for one output or, of classes with Dirichlet targets, two (one per class).

    Attributes:
        mean_on: float64 (o, n).
        variance_on: float64 (o, n): variance of the latent function, without observation noise.
        prior_variance_on: float64 (o, n): the same before any training synapse was seen.
        noise: Variance of the observation noise; 0 for classes, which have none.
        link: How latent values become the probability of class 1: the logistic function or the normal distribution
            function of one output, or the softmax of two.
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

    The softmax of two Gaussian log concentrations is the logistic function of their difference, which is Gaussian too;
    moments come from Gauss-Hermite quadrature with 16 points.
    """
    from scipy.special import expit, ndtr

    link = ndtr if posterior.link == "probit" else expit
    latent_n = posterior.mean_on[1] - posterior.mean_on[0] if posterior.link == "softmax" else posterior.mean_on[0]
    spread_n = np.sqrt(posterior.variance_on.sum(axis=0))
    nodes_q, weights_q = np.polynomial.hermite_e.hermegauss(16)
    mean_n, second_n = np.zeros_like(latent_n), np.zeros_like(latent_n)
    for node, weight in zip(nodes_q, weights_q / weights_q.sum(), strict=True):
        probability_n = link(latent_n + node * spread_n)
        mean_n += weight * probability_n
        second_n += weight * np.square(probability_n)
    return mean_n, np.maximum(second_n - np.square(mean_n), 0.0)
