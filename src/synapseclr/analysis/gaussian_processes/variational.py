"""Stochastic variational inference (SVGP): the published method, and the only one whose steps do not grow with n."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.analysis.config import GaussianProcessConfig
from synapseclr.analysis.gaussian_processes.kernels import base_kernel
from synapseclr.analysis.gaussian_processes.likelihoods import Observations

if TYPE_CHECKING:
    import torch

_CHUNK = 8192


class VariationalModel:
    """A fitted process, for any queries.

    Args:
        process: In evaluation mode.
    """

    def __init__(self, process: Any) -> None:
        self._process = process

    def __call__(self, query_nr: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean, variance and prior variance at queries, each float64 (1, n)."""
        import torch

        parts = []
        with torch.no_grad():
            for start in range(0, len(query_nr), _CHUNK):
                query = torch.as_tensor(query_nr[start : start + _CHUNK], dtype=torch.float32)
                found = self._process(query)
                parts.append((found.mean, found.variance, self._process.covar_module(query, diag=True)))
        mean_n, variance_n, prior_n = (torch.cat(part).double().numpy()[None] for part in zip(*parts, strict=True))
        return mean_n, np.maximum(variance_n, 1e-12), prior_n


def fit_variational(
    train_ar: np.ndarray, observations: Observations, config: GaussianProcessConfig, seed: int
) -> tuple[VariationalModel, Any]:
    """Maximise the evidence lower bound by Adam, in single precision; classes by a Bernoulli likelihood (probit).

    Published: RBF, 10 to 400 inducing points, 20,001 steps at 1e-3 on all synapses at once.

    Args:
        train_ar: Kernel inputs of the training synapses.
        observations: At these synapses; their weights multiply the terms of the bound.
        config: Kernel, inducing points, ``n_steps``, ``learning_rate``, ``batch_size``.
        seed: Seed of inducing points, initial state and batches.

    Returns:
        The fitted process of one output, and its likelihood.

    Source: Hensman et al. 2015, http://proceedings.mlr.press/v38/hensman15.html.
    """
    import gpytorch
    import torch

    is_class = observations.label_a is not None
    train = torch.as_tensor(train_ar, dtype=torch.float32)
    target = (observations.label_a if is_class else observations.target_oa).float()  # type: ignore[union-attr]
    weight = observations.weight_a.float()
    likelihoods = gpytorch.likelihoods
    likelihood = likelihoods.BernoulliLikelihood() if is_class else likelihoods.GaussianLikelihood()
    generator = torch.Generator().manual_seed(seed)
    points = torch.as_tensor(inducing_points(train_ar, config.n_inducing, seed), dtype=torch.float32)
    model = _model(points, config)
    model.train()
    likelihood.train()
    optimiser = torch.optim.Adam([*model.parameters(), *likelihood.parameters()], lr=config.learning_rate)
    size = len(train) if config.batch_size is None else min(config.batch_size, len(train))
    for _ in range(config.n_steps):
        rows = slice(None) if size == len(train) else torch.randperm(len(train), generator=generator)[:size]
        optimiser.zero_grad()
        fit_b = weight[rows] * likelihood.expected_log_prob(target[rows], model(train[rows]))
        bound = fit_b.mean() - model.variational_strategy.kl_divergence() / len(train)
        (-bound).backward()
        optimiser.step()
    model.eval()
    likelihood.eval()
    return VariationalModel(model), likelihood


def _model(points_mr: torch.Tensor, config: GaussianProcessConfig) -> Any:
    import gpytorch
    import torch

    class VariationalProcess(gpytorch.models.ApproximateGP):
        """Constant mean and a scaled kernel; inducing points are learned."""

        def __init__(self) -> None:
            distribution = gpytorch.variational.CholeskyVariationalDistribution(len(points_mr), mean_init_std=0.0)
            super().__init__(gpytorch.variational.VariationalStrategy(self, points_mr, distribution))
            self.mean_module = gpytorch.means.ConstantMean()
            self.covar_module = gpytorch.kernels.ScaleKernel(
                base_kernel(config.kernel, torch.Size(), config.n_components)
            )

        def forward(self, inputs: torch.Tensor) -> Any:
            return gpytorch.distributions.MultivariateNormal(self.mean_module(inputs), self.covar_module(inputs))

    return VariationalProcess()


def inducing_points(train_ar: np.ndarray, n_inducing: int, seed: int) -> np.ndarray:
    """Centres of k-means, float64 (m, r), m at most the number of training synapses."""
    from sklearn.cluster import MiniBatchKMeans

    if n_inducing >= len(train_ar):
        return np.array(train_ar, dtype=np.float64)
    clusters = MiniBatchKMeans(n_inducing, n_init=1, batch_size=4096, random_state=seed).fit(train_ar)
    return np.asarray(clusters.cluster_centers_, dtype=np.float64)
