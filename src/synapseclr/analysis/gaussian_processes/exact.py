"""Exact conditioning by Cholesky factors, after hyper-parameters were fitted on some of the synapses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.analysis.gaussian_processes.config import GaussianProcessConfig
from synapseclr.analysis.gaussian_processes.laplace import posterior_mode
from synapseclr.analysis.gaussian_processes.marginal_likelihood import fit_process, linear_algebra
from synapseclr.analysis.gaussian_processes.observations import Observations
from synapseclr.analysis.gaussian_processes.prior import LatentPrior, noisy_factor

if TYPE_CHECKING:
    import torch

_CHUNK = 1024


def fit_exact(
    train_ar: np.ndarray, observations: Observations, query_nr: np.ndarray, config: GaussianProcessConfig, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Any]:
    """Fit kernel, mean and noise on at most ``fit_on`` synapses, then condition on all of them.

    Classes have a latent function that is the difference of the two outputs of a regression on Dirichlet targets. Up
    to ``dirichlet_up_to`` training synapses that regression is the posterior. Above, it gives the kernel, and the
    posterior is Laplace's approximation under the logistic likelihood.

    Means are exact. Variances are exact up to ``exact_up_to`` training synapses. Above, they are those given
    ``n_inducing`` of the training synapses, drawn at random, alone: what is known from a part is never surer than what
    is known from all, and costs a hundredth where there are many queries.

    Returns:
        Mean, variance and prior variance of one latent function, each float64 (1, n), and the fitted likelihood.
    """
    import torch

    rng = np.random.default_rng(seed)
    n_train = len(train_ar)
    rows = np.arange(n_train) if n_train <= config.fit_on else _drawn(observations, config.fit_on, rng)
    train = torch.as_tensor(train_ar, dtype=torch.float64)
    with linear_algebra(is_exact=True):
        process, likelihood = fit_process(train[rows], observations.subset(rows), config)
        with torch.no_grad():
            latent = _latent_functions(process, likelihood, train, observations, config, rng)
            parts = [
                tuple(np.sum([one.predict(query_nr[start : start + _CHUNK]) for one in latent], axis=0))
                for start in range(0, len(query_nr), _CHUNK)
            ]
    mean_on, variance_on, prior_on = (np.concatenate(part)[None] for part in zip(*parts, strict=True))
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


def _latent_functions(
    process: Any,
    likelihood: Any,
    train: torch.Tensor,
    observations: Observations,
    config: GaussianProcessConfig,
    rng: np.random.Generator,
) -> list[_Conditioned]:
    """Independent functions, given the training synapses, whose sum is the latent function."""
    import torch

    label_a, target_oa = observations.label_a, observations.target_oa
    if label_a is None:
        noise_a = likelihood.noise.expand(len(train))
        return [_regression(LatentPrior(process, (1.0,), train.dtype), train, target_oa, noise_a, config, rng)]
    if len(train) <= config.dirichlet_up_to:
        noise_oa = observations.likelihood().noise_covar.noise + likelihood.second_noise_covar.noise
        one_by_one = zip((-1.0, 1.0), ((-1.0, 0.0), (0.0, 1.0)), target_oa, noise_oa, strict=True)
        return [
            _regression(LatentPrior(process, factors, train.dtype), train, sign * target_a, noise_a, config, rng)
            for sign, factors, target_a, noise_a in one_by_one
        ]
    # Beyond a few thousand synapses in single precision: the noise of classes is about 4 and more, so it is enough.
    train = train.to(torch.float64 if len(train) <= config.exact_up_to else torch.float32)
    prior = LatentPrior(process, (-1.0, 1.0), train.dtype)
    covariance_aa = prior.covariance(train, train)
    weights_a, noise_a = posterior_mode(covariance_aa, prior.mean, label_a, observations.weight_a)
    return [_Conditioned(prior, train, covariance_aa, weights_a, noise_a, config, rng)]


def _regression(
    prior: LatentPrior,
    train: torch.Tensor,
    target_a: torch.Tensor,
    noise_a: torch.Tensor,
    config: GaussianProcessConfig,
    rng: np.random.Generator,
) -> _Conditioned:
    import torch

    covariance_aa = prior.covariance(train, train)
    factor_aa = noisy_factor(covariance_aa, noise_a)
    weights_a = torch.cholesky_solve((target_a - prior.mean)[:, None], factor_aa)[:, 0]
    return _Conditioned(prior, train, covariance_aa, weights_a, noise_a, config, rng)


class _Conditioned:
    """A function given training synapses: ``weights_a`` is its departure from the mean there, by the covariance."""

    def __init__(
        self,
        prior: LatentPrior,
        train: torch.Tensor,
        covariance_aa: torch.Tensor,
        weights_a: torch.Tensor,
        noise_a: torch.Tensor,
        config: GaussianProcessConfig,
        rng: np.random.Generator,
    ) -> None:
        import torch

        self.is_exact = len(train) <= config.exact_up_to
        # Queries by training synapses are the bulk of the work: beyond a few thousand of these in single precision.
        dtype = torch.float64 if self.is_exact else torch.float32
        rows = np.arange(len(train)) if self.is_exact else rng.permutation(len(train))[: config.n_inducing]
        self.train, self.part = train.to(dtype), train[rows].to(dtype)
        self.part_factor = noisy_factor(covariance_aa[rows][:, rows], noise_a[rows]).to(dtype)
        self.weights, self.prior = weights_a.to(dtype), prior.to(dtype)

    def predict(self, query_nr: np.ndarray) -> tuple[np.ndarray, ...]:
        """Mean, variance, prior variance, each float64 (n,)."""
        import torch

        query = torch.as_tensor(query_nr, dtype=self.train.dtype)
        prior = self.prior.variance(query)
        cross = self.prior.covariance(query, self.part)
        explained = torch.linalg.solve_triangular(self.part_factor, cross.mT, upper=False).square().sum(dim=0)
        sums = cross @ self.weights if self.is_exact else self.prior.weighted_sums(query, self.train, self.weights)
        variance = (prior - explained).double().clamp(min=1e-12)
        return (self.prior.mean + sums.double()).numpy(), variance.numpy(), prior.double().numpy()
