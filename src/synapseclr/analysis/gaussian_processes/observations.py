"""Targets of a Gaussian process and their noise: a continuous trait, or a class as Dirichlet targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.analysis.gaussian_processes.config import GaussianProcessConfig

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Observations:
    """What was observed at the training synapses.

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
        """Those of some of the synapses."""
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
