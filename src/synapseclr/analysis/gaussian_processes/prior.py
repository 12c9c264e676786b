"""The latent function of a fitted process, before any synapse is seen: its constant mean and its covariance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class LatentPrior:
    """Mean and covariance of a weighted sum of a process's outputs, which are independent.

    Args:
        process: From :func:`~synapseclr.analysis.gaussian_processes.marginal_likelihood.fit_process`.
        factors: One per output: (1,) for the output of a regression, (-1, 1) for the second class less the first.
        dtype: What covariances are computed in.
    """

    def __init__(self, process: Any, factors: tuple[float, ...], dtype: torch.dtype) -> None:
        import torch

        constant_o = process.mean_module.constant.detach().reshape(-1)
        self.mean = float(sum(factor * value for factor, value in zip(factors, constant_o.tolist(), strict=True)))
        self._kernel = process.prior_kernel.to(dtype)
        self._squares_o = torch.tensor(factors, dtype=dtype).square()

    def to(self, dtype: torch.dtype) -> LatentPrior:
        """The same, computed in another type from now on, as is all else that has its kernel."""
        self._kernel, self._squares_o = self._kernel.to(dtype), self._squares_o.to(dtype)
        return self

    def covariance(self, first_ar: torch.Tensor, second_br: torch.Tensor) -> torch.Tensor:
        """Shape (a, b)."""
        return self._summed(self._kernel(first_ar, second_br).to_dense())

    def variance(self, inputs_nr: torch.Tensor) -> torch.Tensor:
        """Shape (n,)."""
        return self._summed(self._kernel(inputs_nr, diag=True))

    def weighted_sums(self, query_nr: torch.Tensor, train_ar: torch.Tensor, weight_a: torch.Tensor) -> torch.Tensor:
        """``covariance(query_nr, train_ar) @ weight_a``, shape (n,); without the matrix where the kernel can."""
        base = self._kernel.base_kernel
        if not hasattr(base, "weighted_sums"):
            return self.covariance(query_nr, train_ar) @ weight_a
        weight_oa1 = weight_a.expand(len(self._squares_o), -1)[..., None]
        sums_on = base.weighted_sums(query_nr, train_ar, weight_oa1)[..., 0]
        return (self._squares_o * self._kernel.outputscale.reshape(-1)) @ sums_on

    def _summed(self, values: torch.Tensor) -> torch.Tensor:
        import torch

        if len(self._squares_o) == 1:
            return values
        first, second = self._squares_o.tolist()
        return torch.add(first * values[0], values[1], alpha=second)


def noisy_factor(covariance_aa: torch.Tensor, noise_a: torch.Tensor) -> torch.Tensor:
    """Cholesky factor of the covariance of observations whose noise has the variances ``noise_a``."""
    import torch

    noisy_aa = covariance_aa.clone()
    noisy_aa.diagonal().add_(noise_a)
    return torch.linalg.cholesky(noisy_aa)
