"""Exact conditioning by one Cholesky factor, after hyper-parameters were fitted on some of the synapses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.analysis.gaussian_processes.config import GaussianProcessConfig
from synapseclr.analysis.gaussian_processes.marginal_likelihood import fit_process, linear_algebra
from synapseclr.analysis.gaussian_processes.observations import Observations, noise_variance

if TYPE_CHECKING:
    import torch

_CHUNK = 1024


def fit_exact(
    train_ar: np.ndarray, observations: Observations, query_nr: np.ndarray, config: GaussianProcessConfig, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Any]:
    """Fit kernel, mean and noise on at most ``fit_on`` synapses, then condition on all of them.

    Means are exact. Variances are exact up to ``exact_up_to`` training synapses. Above, they are those given
    ``n_inducing`` of the training synapses, drawn at random, alone: what is known from a part is never surer than what
    is known from all, and costs a hundredth where there are many queries.

    Returns:
        Mean, variance and prior variance, each float64 (o, n), and the fitted likelihood.
    """
    import torch

    rng = np.random.default_rng(seed)
    n_train = len(train_ar)
    rows = np.arange(n_train) if n_train <= config.fit_on else _drawn(observations, config.fit_on, rng)
    train = torch.as_tensor(train_ar, dtype=torch.float64)
    with linear_algebra(is_exact=True):
        process, likelihood = fit_process(train[rows], observations.subset(rows), config)
        full = observations.likelihood()
        _copy_noise(likelihood, full)
        noise_oa = noise_variance(full, n_train)
        with torch.no_grad():
            solver = _Conditioned(process, train, observations.target_oa, noise_oa, config, rng)
            parts = [
                solver.predict(torch.as_tensor(query_nr[start : start + _CHUNK], dtype=torch.float64))
                for start in range(0, len(query_nr), _CHUNK)
            ]
    mean_on, variance_on, prior_on = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
    return mean_on, variance_on, prior_on, likelihood


def _drawn(observations: Observations, n_drawn: int, rng: np.random.Generator) -> np.ndarray:
    """Rows drawn at random; of classes, a tenth each at least, if there are as many."""
    order = rng.permutation(len(observations.weight_a))
    if observations.label_a is None:
        return order[:n_drawn]
    label_a = observations.label_a.numpy()[order]
    fewest = [order[label_a == label][: n_drawn // 10] for label in (0, 1)]
    kept = np.concatenate(fewest)
    rest = order[~np.isin(order, kept)][: n_drawn - len(kept)]
    return np.concatenate([kept, rest])


def _copy_noise(fitted: Any, full: Any) -> None:
    if hasattr(full, "second_noise_covar"):
        full.second_noise_covar.load_state_dict(fitted.second_noise_covar.state_dict())
    else:
        full.load_state_dict(fitted.state_dict())


class _Conditioned:
    """A process given training synapses."""

    def __init__(
        self,
        process: Any,
        train: torch.Tensor,
        target_oa: torch.Tensor,
        noise_oa: torch.Tensor,
        config: GaussianProcessConfig,
        rng: np.random.Generator,
    ) -> None:
        import torch

        self.process = process
        self.is_exact = len(train) <= config.exact_up_to
        kernel = process.prior_kernel
        factor = _factor(kernel, train, noise_oa)
        residual = (target_oa - process.mean_module(train))[..., None]
        self.dtype = torch.float64 if self.is_exact else torch.float32
        self.weights = torch.cholesky_solve(residual, factor).to(self.dtype)
        self.constant = process.mean_module.constant.detach()[..., None]
        self.train = train.to(self.dtype)
        self.part, self.part_factor = self.train, factor
        if not self.is_exact:
            rows = rng.permutation(len(train))[: config.n_inducing]
            self.part = self.train[rows]
            self.part_factor = _factor(kernel, train[rows], noise_oa[..., rows]).to(self.dtype)

    def predict(self, query: torch.Tensor) -> tuple[np.ndarray, ...]:
        """Mean, variance, prior variance, each (o, n)."""
        import torch

        # Queries by training synapses are the bulk of the work: beyond a few thousand of these in single precision.
        kernel = self.process.prior_kernel.to(self.dtype)
        query = query.to(self.dtype)
        prior = kernel(query, diag=True)
        cross = kernel(query, self.part).to_dense()
        explained = torch.linalg.solve_triangular(self.part_factor, cross.mT, upper=False).square().sum(dim=-2)
        if self.is_exact:
            sums = cross @ self.weights
        elif hasattr(kernel.base_kernel, "weighted_sums"):
            scale = kernel.outputscale[..., None, None]
            sums = scale * kernel.base_kernel.weighted_sums(query, self.train, self.weights)
        else:
            sums = kernel(query, self.train).to_dense() @ self.weights
        mean = self.constant + sums[..., 0].double()
        variance = (prior - explained).double().clamp(min=1e-12)
        return tuple(np.atleast_2d(part.numpy()) for part in (mean, variance, prior.double()))


def _factor(kernel: Any, train: torch.Tensor, noise_oa: torch.Tensor) -> torch.Tensor:
    """Cholesky factor of the covariance of noisy observations."""
    import torch

    covariance = kernel(train).to_dense().clone()
    covariance.diagonal(dim1=-2, dim2=-1).add_(noise_oa)
    return torch.linalg.cholesky(covariance)
