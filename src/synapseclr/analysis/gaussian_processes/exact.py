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

    Classes: the kernel is that of the regression on Dirichlet targets, the latent function the difference of its two
    outputs; given these, the posterior is Laplace's approximation under the logistic likelihood.

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
            solver = _Conditioned(process, likelihood, train, observations, config, rng)
            parts = [solver.predict(query_nr[start : start + _CHUNK]) for start in range(0, len(query_nr), _CHUNK)]
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


class _Conditioned:
    """A latent function given training synapses."""

    def __init__(
        self,
        process: Any,
        likelihood: Any,
        train: torch.Tensor,
        observations: Observations,
        config: GaussianProcessConfig,
        rng: np.random.Generator,
    ) -> None:
        import torch

        self.is_exact = len(train) <= config.exact_up_to
        # Queries by training synapses, and for classes the way to the mode, are the bulk of the work: beyond a few
        # thousand synapses in single precision. The noise of classes is about 4 and more, so that this is enough.
        self.dtype = torch.float64 if self.is_exact else torch.float32
        label = observations.label_a
        prior = LatentPrior(process, self.dtype if label is not None else torch.float64)
        self.train = self.part = train.to(self.dtype)
        train = self.train if label is not None else train
        covariance = prior.covariance(train, train)
        if label is not None:
            weights, noise = posterior_mode(covariance, prior.mean, label, observations.weight_a)
        else:
            noise = likelihood.noise.expand(len(train))
            factor = noisy_factor(covariance, noise)
            weights = torch.cholesky_solve((observations.target_oa - prior.mean)[:, None], factor)[:, 0]
        self.weights = weights.to(self.dtype)
        if self.is_exact:
            self.part_factor = noisy_factor(covariance, noise) if label is not None else factor
        else:
            rows = rng.permutation(len(train))[: config.n_inducing]
            self.part = self.train[rows]
            self.part_factor = noisy_factor(covariance[rows][:, rows], noise[rows]).to(self.dtype)
        self.prior = LatentPrior(process, self.dtype)

    def predict(self, query_nr: np.ndarray) -> tuple[np.ndarray, ...]:
        """Mean, variance, prior variance, each float64 (n,)."""
        import torch

        query = torch.as_tensor(query_nr, dtype=self.dtype)
        prior = self.prior.variance(query)
        cross = self.prior.covariance(query, self.part)
        explained = torch.linalg.solve_triangular(self.part_factor, cross.mT, upper=False).square().sum(dim=0)
        sums = cross @ self.weights if self.is_exact else self.prior.weighted_sums(query, self.train, self.weights)
        variance = (prior - explained).double().clamp(min=1e-12)
        return (self.prior.mean + sums.double()).numpy(), variance.numpy(), prior.double().numpy()
