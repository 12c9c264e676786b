"""Observations of Gaussian processes and their likelihoods: Gaussian, Dirichlet targets, logistic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.analysis.config import GaussianProcessConfig
from synapseclr.analysis.gaussian_processes.kernels import noisy_factor

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Observations:
    """Observations at the training synapses.

    Attributes:
        target_oa: float64 (o, a), or (a,) for one output.
        label_a: int64 (a,) classes; None for a continuous trait.
        weight_a: float64 (a,): worth of every synapse, mean one.
        alpha: Prior concentration of the Dirichlet targets.
    """

    target_oa: torch.Tensor
    label_a: torch.Tensor | None
    weight_a: torch.Tensor
    alpha: float

    def subset(self, rows: np.ndarray) -> Observations:
        """Select the observations of some of the synapses."""
        label_a = None if self.label_a is None else self.label_a[rows]
        return Observations(self.target_oa[..., rows], label_a, self.weight_a[rows], self.alpha)

    def likelihood(self) -> Any:
        """Gaussian likelihood with a noise to be learned; for classes on top of the fixed noise of their targets.

        With weights, the fixed noise is divided by them.
        """
        import gpytorch

        if self.label_a is None:
            likelihood = gpytorch.likelihoods.GaussianLikelihood(
                noise_constraint=gpytorch.constraints.GreaterThan(1e-3)
            ).double()
            likelihood.noise = 0.5
            return likelihood
        likelihood = gpytorch.likelihoods.DirichletClassificationLikelihood(
            self.label_a, alpha_epsilon=self.alpha, learn_additional_noise=True, dtype=self.target_oa.dtype
        ).double()
        likelihood.noise_covar.noise = likelihood.noise_covar.noise / self.weight_a
        return likelihood


def continuous_observations(target_a: np.ndarray) -> Observations:
    """A trait that is standardised already."""
    import torch

    target = torch.as_tensor(target_a, dtype=torch.float64)
    return Observations(target, None, torch.ones_like(target), 0.0)


def class_observations(target_a: np.ndarray, config: GaussianProcessConfig) -> Observations:
    """A class trait, 0.0 or 1.0, both of which occur."""
    import torch

    label_a = torch.as_tensor(target_a, dtype=torch.int64)
    weight_a = torch.ones(len(label_a), dtype=torch.float64)
    if config.balance_classes:
        weight_a = (len(label_a) / (2.0 * torch.bincount(label_a, minlength=2).clamp(min=1))).double()[label_a]
    observations = Observations(torch.empty(2, 0, dtype=torch.float64), label_a, weight_a, config.dirichlet_alpha)
    return Observations(observations.likelihood().transformed_targets, label_a, weight_a, config.dirichlet_alpha)


_N_ITERATIONS, _N_HALVINGS = 20, 10
_LEAST_CURVATURE = 1e-6
_TOLERANCE = 1e-4


def posterior_mode(
    covariance_aa: torch.Tensor, mean: float, label_a: torch.Tensor, weight_a: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mode of the latent function under the logistic likelihood, by Newton's method.

    Every step is a regression on targets that follow the gradient of the likelihood, with its inverse curvature as the
    variance of their noise. A step that does not raise the posterior is halved; the method ends when one gains less
    than 1e-4 nats a synapse. Weights multiply the logarithm of the likelihood.

    Args:
        covariance_aa: Prior covariance of the latent function at the training synapses.
        mean: Its prior mean.
        label_a: 0 or 1.
        weight_a: Worth of every synapse.

    Returns:
        The latent function's departure from its mean at the mode, by the inverse of the covariance; and the noise
        variances there, which make the Gaussian approximation of the posterior. Each (a,), in the type of the
        covariance.

    Source: Rasmussen & Williams 2006, http://gaussianprocess.org/gpml (section 3.4).
    """
    import torch

    sign_a = torch.where(label_a == 1, 1.0, -1.0).to(covariance_aa)
    weight_a = weight_a.to(covariance_aa)

    def log_posterior(latent_a: torch.Tensor, solved_a: torch.Tensor) -> float:
        likelihood = weight_a @ torch.nn.functional.logsigmoid(sign_a * latent_a)
        return float(likelihood - 0.5 * solved_a @ (latent_a - mean))

    latent_a, solved_a = torch.full_like(sign_a, mean), torch.zeros_like(sign_a)
    reached = log_posterior(latent_a, solved_a)
    for _ in range(_N_ITERATIONS):
        slope_a, noise_a = _slope_and_noise(latent_a, sign_a, weight_a)
        target_a = latent_a + noise_a * slope_a - mean
        step_a = torch.cholesky_solve(target_a[:, None], noisy_factor(covariance_aa, noise_a))[:, 0] - solved_a
        change_a, size, gained = covariance_aa @ step_a, 1.0, 0.0
        for _ in range(_N_HALVINGS):
            gained = log_posterior(latent_a + size * change_a, solved_a + size * step_a) - reached
            if gained > 0:
                latent_a, solved_a, reached = latent_a + size * change_a, solved_a + size * step_a, reached + gained
                break
            size /= 2
        if gained < _TOLERANCE * len(sign_a):
            break
    return solved_a, _slope_and_noise(latent_a, sign_a, weight_a)[1]


def _slope_and_noise(
    latent_a: torch.Tensor, sign_a: torch.Tensor, weight_a: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """First derivative of the log likelihood, and the inverse of its negative second one."""
    right_a = (sign_a * latent_a).sigmoid()
    curvature_a = (weight_a * right_a * (1.0 - right_a)).clamp(min=_LEAST_CURVATURE)
    return weight_a * sign_a * (1.0 - right_a), 1.0 / curvature_a
