"""The latent function of a fitted process, before any synapse is seen: its constant mean and its covariance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class LatentPrior:
    """Mean and covariance of one latent function; of a process with two outputs, of the second less the first.

    Outputs are independent, so that the covariance of their difference is the sum of theirs.

    Args:
        process: From :func:`~synapseclr.analysis.gaussian_processes.marginal_likelihood.fit_process`.
        dtype: What covariances are computed in.
    """

    def __init__(self, process: Any, dtype: torch.dtype) -> None:
        constant = process.mean_module.constant.detach()
        self.mean = float(constant[1] - constant[0]) if constant.ndim else float(constant)
        self._kernel = process.prior_kernel.to(dtype)
        self._n_outputs = len(constant) if constant.ndim else 1

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
        weight_oa1 = weight_a.expand(self._n_outputs, -1)[..., None]
        sums_on = self._kernel.outputscale.reshape(-1, 1) * base.weighted_sums(query_nr, train_ar, weight_oa1)[..., 0]
        return sums_on.sum(dim=0)

    def _summed(self, values: torch.Tensor) -> torch.Tensor:
        return values.sum(dim=0) if self._n_outputs > 1 else values


def noisy_factor(covariance_aa: torch.Tensor, noise_a: torch.Tensor) -> torch.Tensor:
    """Cholesky factor of the covariance of observations whose noise has the variances ``noise_a``."""
    import torch

    noisy_aa = covariance_aa.clone()
    noisy_aa.diagonal().add_(noise_a)
    return torch.linalg.cholesky(noisy_aa)
