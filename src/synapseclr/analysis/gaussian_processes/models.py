"""One Gaussian process on one set of training synapses: fitted by its marginal likelihood, asked for its posterior."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.analysis.gaussian_processes.config import GaussianProcessConfig
from synapseclr.analysis.gaussian_processes.kernels import base_kernel

if TYPE_CHECKING:
    import torch

_CHUNK = 2048


@dataclass(frozen=True)
class Posterior:
    """Latent posterior at n synapses, for one output (regression) or two (one per class).

    Attributes:
        mean_on: float64 (o, n).
        variance_on: float64 (o, n): variance of the latent function, without observation noise.
        prior_variance_on: float64 (o, n): the same before any training synapse was seen.
        noise: Variance of the observation noise; 0 for classes, whose noise belongs to the targets' construction.
    """

    mean_on: np.ndarray
    variance_on: np.ndarray
    prior_variance_on: np.ndarray
    noise: float

    @property
    def out_of_distribution_n(self) -> np.ndarray:
        """Posterior over prior variance, float64 (n,) in [0, 1]: 1 where the training synapses say nothing."""
        ratio_on = self.variance_on / np.maximum(self.prior_variance_on, 1e-300)
        clipped_n: np.ndarray = np.clip(ratio_on.mean(axis=0), 0.0, 1.0)
        return clipped_n


def fit_regression(
    train_ar: np.ndarray, target_a: np.ndarray, query_nr: np.ndarray, config: GaussianProcessConfig, seed: int = 0
) -> Posterior:
    """Regress a continuous trait.

    Args:
        train_ar: Kernel inputs of the training synapses, from
            :func:`~synapseclr.analysis.gaussian_processes.features.kernel_inputs`.
        target_a: float (a,).
        query_nr: Kernel inputs of the synapses to predict.
        config: Kernel, method and iterations.
        seed: Seed of the inducing points.

    Returns:
        The posterior in units of the target, one output.
    """
    import gpytorch
    import torch

    centre, scale = float(target_a.mean()), float(target_a.std()) or 1.0
    likelihood = gpytorch.likelihoods.GaussianLikelihood(noise_constraint=gpytorch.constraints.GreaterThan(1e-3))
    likelihood.noise = 0.5
    target = torch.as_tensor((target_a - centre) / scale, dtype=torch.float64)
    posterior = _fit(train_ar, target, likelihood.double(), query_nr, config, seed)
    return Posterior(
        posterior.mean_on * scale + centre,
        posterior.variance_on * scale**2,
        posterior.prior_variance_on * scale**2,
        float(likelihood.noise.item()) * scale**2,
    )


def fit_classes(
    train_ar: np.ndarray, target_a: np.ndarray, query_nr: np.ndarray, config: GaussianProcessConfig, seed: int = 0
) -> Posterior:
    """Classify by regression of log-normal approximations to Dirichlet targets.

    The exact process stays exact: a class label is a Gaussian target with a noise that depends on the label.
    Source: Milios et al. 2018, https://arxiv.org/abs/1805.10915 (sections 4.1 to 4.3). With ``balance_classes`` that
    noise is divided by the synapse's weight, n / (2 n of its class).

    Args:
        train_ar: Kernel inputs of the training synapses.
        target_a: float (a,), 0.0 or 1.0.
        query_nr: Kernel inputs of the synapses to predict.
        config: Kernel, method, iterations, prior concentration, balance.
        seed: Seed of the inducing points.

    Returns:
        The posterior of the two classes' log concentrations, two outputs.
    """
    import gpytorch
    import torch

    labels = torch.as_tensor(target_a, dtype=torch.int64)
    likelihood = gpytorch.likelihoods.DirichletClassificationLikelihood(
        labels, alpha_epsilon=config.dirichlet_alpha, learn_additional_noise=True, dtype=torch.float64
    ).double()
    if config.balance_classes:
        weight_c = len(labels) / (2.0 * torch.bincount(labels, minlength=2).clamp(min=1))
        likelihood.noise_covar.noise = likelihood.noise_covar.noise / weight_c.double()[labels]
    return _fit(train_ar, likelihood.transformed_targets.double(), likelihood, query_nr, config, seed)


def _fit(
    train_ar: np.ndarray,
    target: torch.Tensor,
    likelihood: Any,
    query_nr: np.ndarray,
    config: GaussianProcessConfig,
    seed: int,
) -> Posterior:
    """Maximise the marginal likelihood of target (a,) or (o, a), then predict."""
    import gpytorch
    import torch

    train = torch.as_tensor(train_ar, dtype=torch.float64)
    with _linear_algebra(is_exact=not _is_inducing(config, len(train))):
        model = _model(train, target, likelihood, config, seed).double()
        model.train()
        objective = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
        optimiser = torch.optim.LBFGS(
            model.parameters(),
            lr=1.0,
            max_iter=config.n_iterations,
            tolerance_grad=1e-4,
            tolerance_change=1e-5,
            line_search_fn="strong_wolfe",
        )

        def closure() -> torch.Tensor:
            optimiser.zero_grad()
            loss = -objective(model(train), target).sum()
            loss.backward()
            return loss

        optimiser.step(closure)
        model.eval()
        with torch.no_grad():
            parts = [_predict(model, torch.as_tensor(chunk)) for chunk in _chunks(query_nr)]
    mean_on, variance_on, prior_on = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
    return Posterior(mean_on, np.maximum(variance_on, 1e-12), prior_on, 0.0)


def _chunks(query_nr: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(query_nr), _CHUNK):
        yield np.asarray(query_nr[start : start + _CHUNK], dtype=np.float64)


def _predict(model: Any, query: torch.Tensor) -> tuple[np.ndarray, ...]:
    posterior = model(query)
    prior = model.prior_kernel(query, diag=True)
    parts = (posterior.mean, posterior.variance, prior)
    return tuple(np.atleast_2d(part.numpy()) for part in parts)


@contextmanager
def _linear_algebra(is_exact: bool) -> Iterator[None]:
    """Cholesky factors at any size, instead of gpytorch's iterative approximations above 800 synapses.

    With inducing points the factor is that of the low-rank form (Woodbury), which gpytorch takes in its fast mode only.
    """
    import gpytorch

    with ExitStack() as stack:
        if is_exact:
            stack.enter_context(gpytorch.settings.fast_computations(False, False, False))
        stack.enter_context(gpytorch.settings.max_cholesky_size(10**7))
        stack.enter_context(warnings.catch_warnings())
        # A matrix that needs a little jitter on its diagonal is common and harmless here.
        warnings.simplefilter("ignore", gpytorch.utils.warnings.NumericalWarning)
        yield


def _model(train: torch.Tensor, target: torch.Tensor, likelihood: Any, config: GaussianProcessConfig, seed: int) -> Any:
    import gpytorch
    import torch

    batch = torch.Size(target.shape[:-1])

    class Process(gpytorch.models.ExactGP):
        """Constant mean and a scaled kernel, one pair per output."""

        def __init__(self) -> None:
            super().__init__(train, target, likelihood)
            self.mean_module = gpytorch.means.ConstantMean(batch_shape=batch)
            self.mean_module.initialize(constant=target.mean(dim=-1))
            self.prior_kernel = gpytorch.kernels.ScaleKernel(base_kernel(config.kernel, batch), batch_shape=batch)
            spread = target.var(dim=-1).clamp(min=1e-3)
            self.prior_kernel.outputscale = 0.5 * spread
            self.covar_module = self.prior_kernel
            if _is_inducing(config, len(train)):
                points = inducing_points(train.numpy(), config.n_inducing, seed)
                self.covar_module = gpytorch.kernels.InducingPointKernel(
                    self.prior_kernel, torch.as_tensor(points), likelihood
                )

        def forward(self, inputs: torch.Tensor) -> Any:
            return gpytorch.distributions.MultivariateNormal(self.mean_module(inputs), self.covar_module(inputs))

    return Process()


def _is_inducing(config: GaussianProcessConfig, n_train: int) -> bool:
    if config.method == "auto":
        return n_train > config.exact_up_to
    return config.method == "inducing"


def inducing_points(train_ar: np.ndarray, n_inducing: int, seed: int) -> np.ndarray:
    """Centres of k-means, float64 (m, r), m at most the number of training synapses."""
    from sklearn.cluster import MiniBatchKMeans

    if n_inducing >= len(train_ar):
        return np.array(train_ar, dtype=np.float64)
    clusters = MiniBatchKMeans(n_inducing, n_init=1, batch_size=4096, random_state=seed).fit(train_ar)
    return np.asarray(clusters.cluster_centers_, dtype=np.float64)
