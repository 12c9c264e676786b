"""The published imputation, in gpytorch: a stochastic variational GP of 20,001 steps, one a trait.

RBF kernel, inducing points from k-means, Adam at 1e-3 on the whole batch; Gaussian likelihood for continuous traits,
Bernoulli for classes, whose synapses are weighted so that both classes count the same. Features are standardised and
divided by the square root of their number, which the RBF kernel sees as a unit of its length scale only. The
state is saved every few hundred steps, and an interrupted training goes on from there.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gpytorch
import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

N_STEPS, LEARNING_RATE = 20_001, 1e-3


@dataclass(frozen=True)
class Problem:
    """Training synapses of one trait: inputs (a, f), targets (a,) and weights (a,), of mean one."""

    inputs_af: Tensor
    target_a: Tensor
    weight_a: Tensor
    is_class: bool


def standardised(features_nf: np.ndarray) -> np.ndarray:
    """float32 (n, f), mean squared norm of a row one."""
    standard_nf = (features_nf - features_nf.mean(axis=0)) / np.maximum(features_nf.std(axis=0), 1e-7)
    return (standard_nf / features_nf.shape[1] ** 0.5).astype(np.float32)


class LeanRBFKernel(gpytorch.kernels.RBFKernel):
    """gpytorch's RBF kernel without copies of the data and without gradients that nobody asks for.

    Values and gradients are those of the parent, at a third of its time: the data are constant, so their squared norms
    are taken once, and nothing is propagated to them.
    """

    def __init__(self, data_af: Tensor) -> None:
        super().__init__()
        self.n_data = len(data_af)
        self.squared_a = data_af.square().sum(dim=-1)

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **_: Any) -> Tensor:
        """Covariances (m, n), or ones (n,)."""
        if diag:
            return torch.ones(x1.shape[:-1], dtype=x1.dtype)
        if self.training and len(x2) == self.n_data:
            x2, squared = x2.detach(), self.squared_a
        else:
            squared = x2.square().sum(dim=-1)
        squared_mn = x1.square().sum(dim=-1)[:, None] + squared - 2.0 * (x1 @ x2.mT)
        return torch.exp(squared_mn.clamp(min=0.0) * (-0.5 / self.lengthscale.square()))


class VariationalProcess(gpytorch.models.ApproximateGP):
    """Constant mean, scaled RBF, inducing points; all learned."""

    def __init__(self, inducing_mf: Tensor, data_af: Tensor) -> None:
        distribution = gpytorch.variational.CholeskyVariationalDistribution(len(inducing_mf))
        super().__init__(
            gpytorch.variational.VariationalStrategy(self, inducing_mf, distribution, learn_inducing_locations=True)
        )
        self.mean_module = gpytorch.means.ConstantMean()
        self.covar_module = gpytorch.kernels.ScaleKernel(LeanRBFKernel(data_af))
        self.covar_module.base_kernel.lengthscale = 1.0

    def forward(self, inputs: Tensor) -> Any:
        """Prior of the latent function."""
        return gpytorch.distributions.MultivariateNormal(self.mean_module(inputs), self.covar_module(inputs))


class Training:
    """A training that can be stopped and continued."""

    def __init__(self, problem: Problem, n_inducing: int, seed: int = 0) -> None:
        self.problem = problem
        self.model = VariationalProcess(_centres(problem.inputs_af, n_inducing, seed), problem.inputs_af)
        likelihoods = gpytorch.likelihoods
        self.likelihood = likelihoods.BernoulliLikelihood() if problem.is_class else likelihoods.GaussianLikelihood()
        parameters = [*self.model.parameters(), *self.likelihood.parameters()]
        self.optimiser = torch.optim.Adam(parameters, lr=LEARNING_RATE)
        self.step = 0
        self.seconds = 0.0

    def run(self, n_steps: int) -> None:
        """Take ``n_steps`` steps."""
        self.model.train()
        self.likelihood.train()
        problem = self.problem
        start = time.perf_counter()
        for _ in range(n_steps):
            self.optimiser.zero_grad()
            fit_a = self.likelihood.expected_log_prob(problem.target_a, self.model(problem.inputs_af))
            bound = (problem.weight_a * fit_a).sum() - self.model.variational_strategy.kl_divergence()
            (-bound / len(fit_a)).backward()
            self.optimiser.step()
        self.step += n_steps
        self.seconds += time.perf_counter() - start

    def predict(self, inputs_bf: Tensor) -> np.ndarray:
        """Predictive mean, or probability of class 1, float32 (b,)."""
        self.model.eval()
        self.likelihood.eval()
        with torch.no_grad():
            return np.asarray(self.likelihood(self.model(inputs_bf)).mean)

    def save(self, path: Path) -> None:
        """Write everything that :meth:`resume` needs."""
        state = {
            "model": self.model.state_dict(),
            "likelihood": self.likelihood.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def resume(self, path: Path) -> None:
        """Go on from a state, if there is one."""
        if path.exists():
            state = torch.load(path, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.likelihood.load_state_dict(state["likelihood"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step, self.seconds = state["step"], state["seconds"]


def _centres(inputs_nf: Tensor, n_inducing: int, seed: int) -> Tensor:
    clusters = KMeans(n_inducing, n_init=1, max_iter=30, random_state=seed).fit(inputs_nf.numpy())
    return torch.as_tensor(clusters.cluster_centers_, dtype=torch.float32)


def class_weights(target_n: np.ndarray) -> np.ndarray:
    """Weights that give both classes half of the total, mean one."""
    ones = target_n.mean()
    return np.where(target_n == 1, 0.5 / ones, 0.5 / (1 - ones))
