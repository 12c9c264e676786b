"""Hyper-parameters of a process by its marginal likelihood, exact or bounded by inducing points."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.analysis.gaussian_processes.config import GaussianProcessConfig
from synapseclr.analysis.gaussian_processes.kernels import base_kernel
from synapseclr.analysis.gaussian_processes.observations import Observations

if TYPE_CHECKING:
    import torch


def fit_process(
    train: torch.Tensor,
    observations: Observations,
    config: GaussianProcessConfig,
    inducing_mr: np.ndarray | None = None,
) -> tuple[Any, Any]:
    """Maximise the marginal likelihood by L-BFGS.

    Args:
        train: float64 (a, r).
        observations: At these synapses.
        config: Kernel and iterations.
        inducing_mr: Start of the inducing points (collapsed bound, Titsias 2009); None for the exact likelihood.

    Returns:
        The gpytorch model, in evaluation mode, and its likelihood.
    """
    import gpytorch
    import torch

    likelihood = observations.likelihood()
    process = _process(train, observations.target_oa, likelihood, config, inducing_mr).double()
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
    inducing_mr: np.ndarray | None,
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
            if inducing_mr is not None:
                self.covar_module = gpytorch.kernels.InducingPointKernel(
                    self.prior_kernel, torch.as_tensor(inducing_mr), likelihood
                )

        def forward(self, inputs: torch.Tensor) -> Any:
            return gpytorch.distributions.MultivariateNormal(self.mean_module(inputs), self.covar_module(inputs))

    return Process()


@contextmanager
def linear_algebra(is_exact: bool) -> Iterator[None]:
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
