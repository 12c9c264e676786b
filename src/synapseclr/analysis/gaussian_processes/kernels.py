"""Inputs, covariances and latent prior of Gaussian processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.analysis.config import GaussianProcessConfig, Kernel
from synapseclr.analysis.representations import (
    Features,
    Statistics,
    blocks_of,
    is_lazy_features,
    layer_array,
    layer_features,
    with_statistics,
)
from synapseclr.analysis.row_blocks import RowBlocks, RowBlocksConfig
from synapseclr.storage.sharded_anndata import is_lazy

if TYPE_CHECKING:
    import torch
    from anndata import AnnData

_MAX_FITTED = 20_000


def process_features(embeddings: AnnData, mask_statistics: Statistics, config: GaussianProcessConfig) -> Features:
    """Features that the processes are fitted on: the layer of the parameters, with the statistics of the masks."""
    if config.with_masks:
        return with_statistics(embeddings, config.layer, mask_statistics)
    features = layer_array(embeddings, config.layer)
    return features if is_lazy(features) else layer_features(embeddings, config.layer)


def kernel_inputs(features_nf: Features, n_components: int, seed: int = 0) -> np.ndarray:
    """Standardise features, keep the leading principal components, and scale them to a mean squared norm of one.

    No annotation is used, so all synapses may take part, those of test folds included: imputation always knows the
    features of the synapses that it imputes. Axes are those of 20,000 synapses drawn at random if there are more.

    Args:
        features_nf: Shape (n, f), finite; blocks of features have the same weight.
        n_components: Components wanted; at most the rank is kept. Constant features are left out.
        seed: Seed of the draw.

    Returns:
        float64 (n, r). All zero, with r = 1, if every feature is constant.
    """
    standard_nf = np.hstack([_standardised(part_nf) for part_nf in blocks_of(features_nf)])
    if not standard_nf.shape[1]:
        return np.zeros((len(features_nf), 1))
    fitted_nf = standard_nf
    if len(standard_nf) > _MAX_FITTED:
        fitted_nf = standard_nf[np.random.default_rng(seed).choice(len(standard_nf), _MAX_FITTED, replace=False)]
    # The sign of an axis is arbitrary; kernels of distances and dot products do not see it.
    inputs_nr = standard_nf @ _leading_axes(fitted_nf, n_components)
    scaled_nr: np.ndarray = inputs_nr / np.sqrt(np.square(inputs_nr).sum(axis=1).mean())
    return scaled_nr


@dataclass(frozen=True)
class KernelInputMap:
    """The map of :func:`kernel_inputs`, for rows that come block by block.

    Attributes:
        mean_f: float64 (f,), of all columns side by side.
        axes_fr: float64 (f, r): scaled axes; zero for constant features.
    """

    mean_f: np.ndarray
    axes_fr: np.ndarray

    @classmethod
    def fit(cls, blocks: RowBlocks, n_components: int, seed: int = 0) -> KernelInputMap:
        """Fit on the rows of one array or of several side by side, as :func:`kernel_inputs` does."""
        moments = blocks.moments(None)
        std_f = moments.std_f
        varies_f = std_f > 1e-7 * np.maximum(np.abs(moments.mean_f), 1e-30)
        if not varies_f.any():
            return cls(moments.mean_f, np.zeros((len(std_f), 1)))
        # Every block of columns has the same weight, whatever the number of its columns that vary.
        width = np.concatenate(
            [np.full(array.shape[1], max(1, int(varies.sum()))) for array, varies in _by_array(blocks, varies_f)]
        )
        scale_v = 1 / std_f[varies_f] / np.sqrt(width[varies_f])
        if blocks.n_rows > _MAX_FITTED:
            drawn = np.random.default_rng(seed).choice(blocks.n_rows, _MAX_FITTED, replace=False)
            drawn_mf = np.hstack(blocks.rows(np.sort(drawn))).astype(np.float64)
            standard_mv = (drawn_mf[:, varies_f] - moments.mean_f[varies_f]) * scale_v
            axes_vr = _leading_axes(standard_mv, n_components)
        else:
            standard_nf = np.hstack(blocks.rows(np.arange(blocks.n_rows))).astype(np.float64)
            axes_vr = _leading_axes((standard_nf[:, varies_f] - moments.mean_f[varies_f]) * scale_v, n_components)
        axes_vr = axes_vr * scale_v[:, None]
        covariance_vv = moments.covariance_ff[np.ix_(varies_f, varies_f)]
        mean_square = float(np.einsum("vr,vw,wr->", axes_vr, covariance_vv, axes_vr, optimize=True))
        axes_fr = np.zeros((len(std_f), axes_vr.shape[1]))
        axes_fr[varies_f] = axes_vr / np.sqrt(mean_square)
        return cls(moments.mean_f, axes_fr)

    def apply(self, *parts: np.ndarray) -> np.ndarray:
        """Kernel inputs float64 (n, r) of some rows, from the same columns side by side."""
        rows_nf = np.hstack(parts) if len(parts) > 1 else parts[0]
        return np.asarray((rows_nf - self.mean_f) @ self.axes_fr)


def inputs_of_rows(
    features: Features, rows_s: np.ndarray, config: GaussianProcessConfig, seed: int, row_blocks: RowBlocksConfig
) -> np.ndarray:
    """Kernel inputs of some rows, float64 (s, r), as :func:`kernel_inputs` gives them; fitted on all rows.

    Args:
        features: Shape (n, f), or blocks; in memory, or lazy.
        rows_s: int (s,), ascending.
        config: Its kernel says how many components are wanted.
        seed: As of :func:`kernel_inputs`.
        row_blocks: Blocks of rows of lazy features, and who computes them.
    """
    if not is_lazy_features(features):
        return kernel_inputs(features, config.n_inputs, seed)[rows_s]
    with RowBlocks("kernel inputs", blocks_of(features), row_blocks) as blocks:
        found = KernelInputMap.fit(blocks, config.n_inputs, seed)
        return found.apply(*blocks.rows(rows_s)) if len(rows_s) else np.zeros((0, 1))


def threads_for(n_synapses: int, config: GaussianProcessConfig) -> int | None:
    """Threads of libraries for models of so many synapses; None: all.

    Below some thousands, one is faster than two: they wait for each other.
    """
    return 1 if n_synapses <= 2 * config.exact_up_to else None


def _by_array(blocks: RowBlocks, of_columns_f: np.ndarray) -> list[tuple[Any, np.ndarray]]:
    """The arrays, and what belongs to their columns."""
    ends = np.cumsum([array.shape[1] for array in blocks.arrays])
    return list(zip(blocks.arrays, np.split(of_columns_f, ends[:-1]), strict=True))


def _leading_axes(features_nf: np.ndarray, n_axes: int) -> np.ndarray:
    """Orthonormal axes (f, r) along which centred features vary most, r at most their rank."""
    from scipy.linalg import eigh

    n, f = features_nf.shape
    products = features_nf.T @ features_nf if f <= n else features_nf @ features_nf.T
    first = max(0, len(products) - n_axes)
    eigenvalues_r, vectors_r = eigh(products, subset_by_index=(first, len(products) - 1))
    kept = np.flatnonzero(eigenvalues_r > eigenvalues_r[-1] * 1e-10)[::-1]
    if f <= n:
        leading_fr: np.ndarray = vectors_r[:, kept]
        return leading_fr
    axes_fr: np.ndarray = features_nf.T @ (vectors_r[:, kept] / np.sqrt(eigenvalues_r[kept]))
    return axes_fr


def _standardised(features_nf: np.ndarray) -> np.ndarray:
    """Features that vary, standardised and divided by the root of their number."""
    features_nf = np.asarray(features_nf, dtype=np.float64)
    mean_f, std_f = features_nf.mean(axis=0), features_nf.std(axis=0)
    varies_f = std_f > 1e-7 * np.maximum(np.abs(mean_f), 1e-30)
    standard_nf: np.ndarray = (features_nf[:, varies_f] - mean_f[varies_f]) / std_f[varies_f]
    return standard_nf / np.sqrt(max(1, standard_nf.shape[1]))


def base_kernel(name: Kernel, batch_shape: torch.Size, n_radial: int | None = None) -> Any:
    """Make a kernel with its start values, to be scaled by an output scale.

    Inputs have a mean squared norm of one, so that a length scale of one is about their typical distance.

    Args:
        name: ``rbf``, ``matern32``, ``matern52``, ``linear``, or ``rbf+linear``: a linear trend and
            what departs from it.
        batch_shape: () for one output, (o,) for several with hyper-parameters of their own.
        n_radial: Leading columns of the inputs that the radial part of ``rbf+linear`` sees; None: all.

    Returns:
        A ``gpytorch.kernels.Kernel``.
    """
    import gpytorch

    if name == "linear":
        return gpytorch.kernels.LinearKernel(batch_shape=batch_shape)
    if name == "rbf+linear":
        return _radial_and_linear(batch_shape, n_radial)
    if name == "rbf":
        kernel = gpytorch.kernels.RBFKernel(batch_shape=batch_shape)
    else:
        kernel = gpytorch.kernels.MaternKernel(nu=1.5 if name == "matern32" else 2.5, batch_shape=batch_shape)
    kernel.lengthscale = 1.0
    return kernel


def _radial_and_linear(batch_shape: torch.Size, n_radial: int | None) -> Any:
    """``exp(-|x - y|^2 / 2 l^2) + v x.y`` as one dense matrix.

    The sum of gpytorch's own two kernels is the same function, but it is kept as a sum of operators whose products and
    singular value decompositions take four times as long at a few hundred synapses. A linear trend can use many more
    components than distances, in which weak ones are noise.
    """
    import gpytorch
    import torch

    class RadialAndLinearKernel(gpytorch.kernels.Kernel):
        has_lengthscale = True

        def __init__(self) -> None:
            super().__init__(batch_shape=batch_shape)
            self.register_parameter("raw_variance", torch.nn.Parameter(torch.zeros(*batch_shape, 1, 1)))
            self.register_constraint("raw_variance", gpytorch.constraints.Positive())
            self.lengthscale = 1.0
            self.n_radial = n_radial

        @property
        def variance(self) -> Any:
            """Factor of the linear part."""
            return self.raw_variance_constraint.transform(self.raw_variance)

        def forward(self, x1: Any, x2: Any, diag: bool = False, **_: Any) -> Any:
            lengthscale: Any = self.lengthscale
            variance = self.variance
            if diag:
                squared = (x1 - x2)[..., :n_radial].square().sum(dim=-1) / lengthscale[..., 0].square()
                return torch.exp(-0.5 * squared) + variance[..., 0] * (x1 * x2).sum(dim=-1)
            near1, near2 = x1[..., :n_radial], x2[..., :n_radial]
            products = near1 @ near2.mT
            squared = near1.square().sum(dim=-1)[..., :, None] + near2.square().sum(dim=-1)[..., None, :]
            radial = torch.exp((products - 0.5 * squared).clamp(max=0.0) / lengthscale.square())
            if n_radial is not None and n_radial < x1.shape[-1]:
                products = products + x1[..., n_radial:] @ x2[..., n_radial:].mT
            return radial + variance * products

        def weighted_sums(self, query: Any, train: Any, weights: Any) -> Any:
            """``self(query, train) @ weights`` without gradients: (n, r), (a, r), (o, a, 1) -> (o, n, 1).

            The linear part never becomes a matrix, and the radial one is made in place.
            """
            fitted: Any = self.lengthscale
            lengthscale = fitted.detach().reshape(-1)
            variance = self.variance.detach().reshape(-1)
            near_query, near_train = query[:, :n_radial], train[:, :n_radial]
            half_query, half_train = (0.5 * near.square().sum(dim=-1) for near in (near_query, near_train))
            parts = []
            for number, weight_a in enumerate(weights.reshape(-1, len(train))):
                scale = lengthscale[number].square()
                exponent = torch.addmm(-half_train / scale, near_query / scale, near_train.mT)
                exponent.sub_((half_query / scale)[:, None]).clamp_(max=0.0).exp_()
                parts.append(exponent @ weight_a + variance[number] * (query @ (train.mT @ weight_a)))
            return torch.stack(parts).reshape(*weights.shape[:-2], len(query), 1)

    return RadialAndLinearKernel()


class LatentPrior:
    """Mean and covariance of a weighted sum of a process's outputs, which are independent.

    Args:
        process: From :func:`~synapseclr.analysis.gaussian_processes.exact.fit_process`.
        factors: One per output: (1,) for the output of a regression, (-1, 1) for the second class less the first.
        dtype: What covariances are computed in.

    Attributes:
        kernel: Scaled kernel of the outputs.
        squares_o: Squared factors.
        mean: Prior mean of the sum.
    """

    def __init__(self, process: Any, factors: tuple[float, ...], dtype: torch.dtype) -> None:
        import torch

        constant_o = process.mean_module.constant.detach().reshape(-1)
        self.mean = float(sum(factor * value for factor, value in zip(factors, constant_o.tolist(), strict=True)))
        self.kernel = process.prior_kernel.to(dtype)
        self.squares_o = torch.tensor(factors, dtype=dtype).square()

    def to(self, dtype: torch.dtype) -> LatentPrior:
        """The same, computed in another type from now on, as is all else that has its kernel."""
        self.kernel, self.squares_o = self.kernel.to(dtype), self.squares_o.to(dtype)
        return self

    def covariance(self, first_ar: torch.Tensor, second_br: torch.Tensor) -> torch.Tensor:
        """Shape (a, b)."""
        return self._summed(self.kernel(first_ar, second_br).to_dense())

    def variance(self, inputs_nr: torch.Tensor) -> torch.Tensor:
        """Shape (n,)."""
        import torch

        if len(inputs_nr) == len(self.squares_o):
            # gpytorch would take variances (outputs, queries) for a matrix of covariances, and return its diagonal.
            return self.variance(torch.cat([inputs_nr, inputs_nr[:1]]))[..., :-1]
        return self._summed(self.kernel(inputs_nr, diag=True))

    def weighted_sums(self, query_nr: torch.Tensor, train_ar: torch.Tensor, weight_a: torch.Tensor) -> torch.Tensor:
        """``covariance(query_nr, train_ar) @ weight_a``, shape (n,); without the matrix where the kernel can."""
        base = self.kernel.base_kernel
        if not hasattr(base, "weighted_sums"):
            return self.covariance(query_nr, train_ar) @ weight_a
        weight_oa1 = weight_a.expand(len(self.squares_o), -1)[..., None]
        sums_on = base.weighted_sums(query_nr, train_ar, weight_oa1)[..., 0]
        return (self.squares_o * self.kernel.outputscale.reshape(-1)) @ sums_on

    def _summed(self, values: torch.Tensor) -> torch.Tensor:
        import torch

        if len(self.squares_o) == 1:
            return values
        first, second = self.squares_o.tolist()
        return torch.add(first * values[0], values[1], alpha=second)


def noisy_factor(covariance_aa: torch.Tensor, noise_a: torch.Tensor) -> torch.Tensor:
    """Cholesky factor of the covariance of observations whose noise has the variances ``noise_a``."""
    import torch

    noisy_aa = covariance_aa.clone()
    noisy_aa.diagonal().add_(noise_a)
    return torch.linalg.cholesky(noisy_aa)
