"""Exact Gaussian processes: hyper-parameters by marginal likelihood on some synapses, conditioning on all."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.analysis.config import GaussianProcessConfig
from synapseclr.analysis.gaussian_processes.kernels import LatentPrior, base_kernel, noisy_factor
from synapseclr.analysis.gaussian_processes.likelihoods import Observations, posterior_mode

if TYPE_CHECKING:
    import torch


def fit_process(
    train: torch.Tensor,
    observations: Observations,
    config: GaussianProcessConfig,
) -> tuple[Any, Any]:
    """Maximise the marginal likelihood by L-BFGS.

    Args:
        train: float64 (a, r).
        observations: At these synapses.
        config: Kernel and iterations.

    Returns:
        The gpytorch model, in evaluation mode, and its likelihood.
    """
    import gpytorch
    import torch

    likelihood = observations.likelihood()
    process = _process(train, observations.target_oa, likelihood, config).double()
    process.train()
    objective = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, process)
    optimiser = torch.optim.LBFGS(
        process.parameters(),
        lr=1.0,
        max_iter=config.n_iterations,
        tolerance_grad=1e-4,
        tolerance_change=1e-5,
        line_search_fn="strong_wolfe",
    )

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = -objective(process(train), observations.target_oa).sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    process.eval()
    return process, likelihood


def _process(
    train: torch.Tensor,
    target: torch.Tensor,
    likelihood: Any,
    config: GaussianProcessConfig,
) -> Any:
    import gpytorch
    import torch

    batch = torch.Size(target.shape[:-1])

    class Process(gpytorch.models.ExactGP):
        """Constant mean and a scaled kernel, one pair per output."""

        def __init__(self) -> None:
            super().__init__(train, target, likelihood)
            self.mean_module = gpytorch.means.ConstantMean(batch_shape=batch)
            self.mean_module.initialize(constant=target.mean(dim=-1))
            self.prior_kernel = gpytorch.kernels.ScaleKernel(
                base_kernel(config.kernel, batch, config.n_components), batch_shape=batch
            )
            spread = target.var(dim=-1).clamp(min=1e-3)
            self.prior_kernel.outputscale = 0.5 * spread
            self.covar_module = self.prior_kernel

        def forward(self, inputs: torch.Tensor) -> Any:
            return gpytorch.distributions.MultivariateNormal(self.mean_module(inputs), self.covar_module(inputs))

    return Process()


@contextmanager
def linear_algebra() -> Iterator[None]:
    """Cholesky factors at any size, instead of gpytorch's iterative approximations above 800 synapses."""
    import gpytorch

    with ExitStack() as stack:
        stack.enter_context(gpytorch.settings.fast_computations(False, False, False))
        stack.enter_context(gpytorch.settings.max_cholesky_size(10**7))
        stack.enter_context(warnings.catch_warnings())
        # A matrix that needs a little jitter on its diagonal is common and harmless here.
        warnings.simplefilter("ignore", gpytorch.utils.warnings.NumericalWarning)
        yield


_CHUNK = 1024


class ExactModel:
    """One latent function given training synapses: a sum of independent functions, for any queries.

    Args:
        parts: The functions.
    """

    def __init__(self, parts: list[_Conditioned]) -> None:
        self.parts = parts

    def __call__(self, query_nr: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean, variance and prior variance at queries, each float64 (1, n)."""
        import torch

        with linear_algebra(), torch.no_grad():
            parts = [
                tuple(np.sum([one.predict(query_nr[start : start + _CHUNK]) for one in self.parts], axis=0))
                for start in range(0, len(query_nr), _CHUNK)
            ]
        mean_on, variance_on, prior_on = (np.concatenate(part)[None] for part in zip(*parts, strict=True))
        return mean_on, variance_on, prior_on


def fit_exact(
    train_ar: np.ndarray, observations: Observations, config: GaussianProcessConfig, seed: int
) -> tuple[ExactModel, Any]:
    """Fit kernel, mean and noise on at most ``fit_on`` synapses, then condition on all of them.

    Classes have a latent function that is the difference of the two outputs of a regression on Dirichlet targets. Up
    to ``dirichlet_up_to`` training synapses that regression is the posterior. Above, it gives the kernel, and the
    posterior is Laplace's approximation under the logistic likelihood.

    More than ``exact_mean_up_to`` training synapses are replaced by as many drawn at random, unless ``method`` asks for
    ``exact``. Means are exact. Variances are exact up to ``exact_up_to`` training synapses. Above, they are those given
    ``n_inducing`` of the training synapses, drawn at random, alone: what is known from a part is never surer than what
    is known from all, and costs a hundredth where there are many queries.

    Returns:
        The latent function, and the fitted likelihood.
    """
    import torch

    rng = np.random.default_rng(seed)
    if config.method != "exact" and len(train_ar) > config.exact_mean_up_to:
        drawn = _drawn(observations, config.exact_mean_up_to, rng)
        train_ar, observations = train_ar[drawn], observations.subset(drawn)
    n_train = len(train_ar)
    rows = np.arange(n_train) if n_train <= config.fit_on else _drawn(observations, config.fit_on, rng)
    train = torch.as_tensor(train_ar, dtype=torch.float64)
    with linear_algebra():
        process, likelihood = fit_process(train[rows], observations.subset(rows), config)
        with torch.no_grad():
            latent = _latent_functions(process, likelihood, train, observations, config, rng)
    return ExactModel(latent), likelihood


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
