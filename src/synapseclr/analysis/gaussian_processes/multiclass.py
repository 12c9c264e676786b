"""Classification into several classes: a Gaussian process each on Dirichlet targets, with a kernel that they share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.analysis.config import GaussianProcessConfig
from synapseclr.analysis.gaussian_processes.exact import linear_algebra
from synapseclr.analysis.gaussian_processes.kernels import base_kernel, noisy_factor

if TYPE_CHECKING:
    import torch

_CHUNK = 1024
_SAMPLES = 128
_LEAST_NOISE = 1e-3


@dataclass(frozen=True)
class ClassPosterior:
    """Latent posteriors at n synapses, one for each of k classes.

    Attributes:
        mean_kn: float64 (k, n).
        variance_kn: float64 (k, n), without observation noise.
        prior_variance_n: float64 (n,): the same before any training synapse was seen, equal for all classes.
    """

    mean_kn: np.ndarray
    variance_kn: np.ndarray
    prior_variance_n: np.ndarray

    @property
    def out_of_distribution_n(self) -> np.ndarray:
        """Mean of posterior over prior variance, float64 (n,) in [0, 1]: 1 where training synapses say nothing."""
        ratio_kn = self.variance_kn / np.maximum(self.prior_variance_n, 1e-300)
        clipped_n: np.ndarray = np.clip(ratio_kn.mean(axis=0), 0.0, 1.0)
        return clipped_n


def fit_multiclass(
    train_ar: np.ndarray,
    target_a: np.ndarray,
    query_nr: np.ndarray,
    config: GaussianProcessConfig,
    n_classes: int,
    seed: int = 0,
) -> ClassPosterior:
    """Posterior at queries ``query_nr`` of the process of :func:`multiclass`, whose arguments the others are."""
    return multiclass(train_ar, target_a, config, n_classes, seed).posterior(query_nr)


class FittedClasses:
    """The processes of several classes given their training synapses, for any queries.

    Args:
        conditioned: All outputs.
    """

    def __init__(self, conditioned: _Conditioned) -> None:
        self.conditioned = conditioned

    def posterior(self, query_nr: np.ndarray) -> ClassPosterior:
        """Posterior at kernel inputs of the synapses to predict."""
        import torch

        with linear_algebra(), torch.no_grad():
            parts = [
                self.conditioned.predict(query_nr[start : start + _CHUNK]) for start in range(0, len(query_nr), _CHUNK)
            ]
        mean_kn, variance_kn, prior_n = (np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
        return ClassPosterior(mean_kn, variance_kn, prior_n)


def multiclass(
    train_ar: np.ndarray, target_a: np.ndarray, config: GaussianProcessConfig, n_classes: int, seed: int = 0
) -> FittedClasses:
    """Regress the log-normal approximations to Dirichlet targets, one output a class.

    Outputs are independent and share kernel and extra noise, so that rare classes borrow them from frequent ones. The
    marginal likelihood is maximised on as many synapses, and the posterior has as many, as cost what those of two
    classes do: ``fit_on`` and ``exact_mean_up_to`` times the cube root of 2 / k. Variances are exact up to
    ``exact_up_to`` training synapses, and beyond those given ``n_inducing`` of them. With ``balance_classes`` a
    synapse has the weight n / (k n of its class), which divides the noise of its targets. There is no variational
    form: of more synapses, some are drawn.

    Args:
        train_ar: Kernel inputs of the training synapses.
        target_a: float (a,): codes 0 to k - 1; a class may be missing.
        config: Kernel, iterations, prior concentration, balance.
        n_classes: Number k of classes.
        seed: Seed of what is drawn.

    Source: Milios et al. 2018, https://arxiv.org/abs/1805.10915 (section 4).
    """
    import torch

    rng = np.random.default_rng(seed)
    share = (2.0 / max(2, n_classes)) ** (1.0 / 3.0)
    label_a = np.asarray(target_a, dtype=np.int64)
    if len(label_a) > round(share * config.exact_mean_up_to):
        drawn = _drawn(label_a, n_classes, round(share * config.exact_mean_up_to), rng)
        train_ar, label_a = train_ar[drawn], label_a[drawn]
    target_ka, noise_ka = (torch.as_tensor(each_ka) for each_ka in _dirichlet_targets(label_a, n_classes, config))
    train = torch.as_tensor(train_ar, dtype=torch.float64)
    n_fitted = max(10, round(share * config.fit_on))
    rows = np.arange(len(label_a)) if len(label_a) <= n_fitted else _drawn(label_a, n_classes, n_fitted, rng)
    with linear_algebra():
        process = _SharedProcess(config, target_ka)
        process.fit(train[rows], target_ka[:, rows], noise_ka[:, rows], config.n_iterations)
        with torch.no_grad():
            conditioned = _Conditioned(process, train, target_ka, noise_ka, config, rng)
    return FittedClasses(conditioned)


def class_probabilities(posterior: ClassPosterior) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the softmax of the latent functions, each float64 (k, n).

    They are those over 128 samples, half of them the other half mirrored, the same for all synapses and calls.
    """
    n_classes, n = posterior.mean_kn.shape
    half_sk = np.random.default_rng(0).normal(size=(_SAMPLES // 2, n_classes))
    draw_sk1 = np.concatenate([half_sk, -half_sk])[:, :, None]
    mean_kn, variance_kn = np.empty((n_classes, n)), np.empty((n_classes, n))
    for start in range(0, n, _CHUNK):
        part = slice(start, start + _CHUNK)
        latent_skn = posterior.mean_kn[:, part] + draw_sk1 * np.sqrt(posterior.variance_kn[:, part])
        latent_skn -= latent_skn.max(axis=1, keepdims=True)
        np.exp(latent_skn, out=latent_skn)
        latent_skn /= latent_skn.sum(axis=1, keepdims=True)
        mean_kn[:, part], variance_kn[:, part] = latent_skn.mean(axis=0), latent_skn.var(axis=0)
    return mean_kn, variance_kn


def _dirichlet_targets(
    label_a: np.ndarray, n_classes: int, config: GaussianProcessConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Targets and variances of their noise, each float64 (k, a): moments of a log-normal that matches the gamma."""
    is_class_ka = label_a == np.arange(n_classes)[:, None]
    alpha_ka = config.dirichlet_alpha + is_class_ka
    noise_ka = np.log1p(1.0 / alpha_ka)
    target_ka = np.log(alpha_ka) - 0.5 * noise_ka
    if config.balance_classes:
        count_k = np.maximum(is_class_ka.sum(axis=1), 1)
        noise_ka = noise_ka / (len(label_a) / (np.count_nonzero(is_class_ka.any(axis=1)) * count_k))[label_a]
    return target_ka, noise_ka


def _drawn(label_a: np.ndarray, n_classes: int, n_drawn: int, rng: np.random.Generator) -> np.ndarray:
    """Rows drawn at random, of every class as many as half of equal shares, if it has them."""
    order = rng.permutation(len(label_a))
    labels = label_a[order]
    kept = np.concatenate([order[labels == code][: n_drawn // (2 * n_classes)] for code in range(n_classes)])
    rest = order[~np.isin(order, kept)][: n_drawn - len(kept)]
    return np.concatenate([kept, rest])


class _SharedProcess:
    """Kernel, noise and one constant mean a class; the parameters are fitted together."""

    def __init__(self, config: GaussianProcessConfig, target_ka: torch.Tensor) -> None:
        import gpytorch
        import torch

        kernel = gpytorch.kernels.ScaleKernel(base_kernel(config.kernel, torch.Size(), config.n_components)).double()
        kernel.outputscale = 0.5 * float(target_ka.var(dim=-1).clamp(min=_LEAST_NOISE).mean())
        self.kernel: Any = kernel
        self.mean_k = target_ka.mean(dim=-1).clone().requires_grad_()
        self.log_noise = torch.zeros((), dtype=torch.float64, requires_grad=True)

    @property
    def noise(self) -> torch.Tensor:
        """Variance of the noise beyond that of the targets."""
        return self.log_noise.exp() + _LEAST_NOISE

    def fit(self, train: torch.Tensor, target_ka: torch.Tensor, noise_ka: torch.Tensor, n_iterations: int) -> None:
        """Maximise the sum of the marginal likelihoods of all outputs by L-BFGS."""
        import torch

        optimiser = torch.optim.LBFGS(
            [*self.kernel.parameters(), self.mean_k, self.log_noise],
            lr=1.0,
            max_iter=n_iterations,
            tolerance_grad=1e-4,
            tolerance_change=1e-5,
            line_search_fn="strong_wolfe",
        )

        def closure() -> torch.Tensor:
            optimiser.zero_grad()
            covariance_kaa = self.kernel(train).to_dense() + torch.diag_embed(noise_ka + self.noise)
            factor_kaa = torch.linalg.cholesky(covariance_kaa)
            surplus_ka1 = (target_ka - self.mean_k[:, None])[..., None]
            white_ka = torch.linalg.solve_triangular(factor_kaa, surplus_ka1, upper=False)[..., 0]
            log_determinant = factor_kaa.diagonal(dim1=-2, dim2=-1).log().sum()
            loss = (0.5 * white_ka.square().sum() + log_determinant) / target_ka.shape[-1]
            loss.backward()
            return loss

        optimiser.step(closure)


class _Conditioned:
    """All outputs given the training synapses; covariances with queries are computed once for all of them."""

    def __init__(
        self,
        process: _SharedProcess,
        train: torch.Tensor,
        target_ka: torch.Tensor,
        noise_ka: torch.Tensor,
        config: GaussianProcessConfig,
        rng: np.random.Generator,
    ) -> None:
        import torch

        is_exact = len(train) <= config.exact_up_to
        self.dtype = torch.float64 if is_exact else torch.float32
        self.kernel, self.mean_k = process.kernel.to(self.dtype), process.mean_k.detach()
        self.train = train.to(self.dtype)
        rows = np.arange(len(train)) if is_exact else rng.permutation(len(train))[: config.n_inducing]
        self.rows = torch.as_tensor(rows)
        covariance_aa = self.kernel(self.train).to_dense()
        weights, factors = [], []
        for mean, target_a, noise_a in zip(self.mean_k, target_ka, noise_ka + process.noise, strict=True):
            factor_aa = noisy_factor(covariance_aa, noise_a.to(self.dtype))
            surplus_a1 = (target_a - mean).to(self.dtype)[:, None]
            weights.append(torch.cholesky_solve(surplus_a1, factor_aa)[:, 0])
            part_aa = covariance_aa[rows][:, rows]
            factors.append(factor_aa if is_exact else noisy_factor(part_aa, noise_a[rows].to(self.dtype)))
        self.weights_ka, self.factors = torch.stack(weights), factors

    def predict(self, query_nr: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean and variance, each float64 (k, n), and prior variance (n,)."""
        import torch

        query = torch.as_tensor(query_nr, dtype=self.dtype)
        prior_n = self.kernel(query, diag=True)
        cross_na = self.kernel(query, self.train).to_dense()
        mean_kn = self.mean_k[:, None] + (self.weights_ka @ cross_na.mT).double()
        part_an = cross_na[:, self.rows].mT
        explained_kn = torch.stack(
            [torch.linalg.solve_triangular(factor, part_an, upper=False).square().sum(dim=0) for factor in self.factors]
        )
        variance_kn = (prior_n - explained_kn).double().clamp(min=1e-12)
        return mean_kn.numpy(), variance_kn.numpy(), prior_n.double().numpy()
