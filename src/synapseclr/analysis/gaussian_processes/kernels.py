"""Covariances by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from synapseclr.analysis.gaussian_processes.config import Kernel

if TYPE_CHECKING:
    import torch


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

        def forward(self, x1: Any, x2: Any, diag: bool = False, **_: Any) -> Any:
            lengthscale: Any = self.lengthscale
            variance = self.raw_variance_constraint.transform(self.raw_variance)
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
            variance = self.raw_variance_constraint.transform(self.raw_variance).detach().reshape(-1)
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
