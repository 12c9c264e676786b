"""Variance-invariance-covariance regularisation: no contrast, no temperature."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from synapseclr.objectives.views import multiply, stack_views


def vicreg_loss(
    z_i: Tensor,
    z_j: Tensor,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    target_std: float = 1.0,
    epsilon: float = 1e-4,
) -> Tensor:
    """VICReg of the projections as they are, not normalised.

    ``invariance s(Z, Z') + variance [v(Z) + v(Z')] + covariance [c(Z) + c(Z')]`` with
    ``s``: the squared distance of the two views, mean over samples and dimensions;
    ``v``: ``max(0, target_std - sqrt(Var + epsilon))``, mean over dimensions;
    ``c``: the squares of the covariance matrix off its diagonal, summed and divided by the dimension.
    Variances and covariances have the denominator B - 1.

    Args:
        z_i: Projections of the first views, shape (batch, dimension).
        z_j: Projections of the second views, same shape; row b belongs to row b of ``z_i``.
        invariance: Weight of s.
        variance: Weight of v. The authors' training code halves v, their paper does not; neither do we.
        covariance: Weight of c.
        target_std: Standard deviation that every dimension should have, gamma.
        epsilon: Keeps the square root's gradient finite where a dimension has collapsed.

    Returns:
        The scalar loss, in the inputs' precision (at least float32, also under autocast).

    Raises:
        ConfigurationError: If shapes differ or the batch holds fewer than two samples.

    Source: Bardes et al. 2022, arXiv:2105.04906, section 4 and algorithm 1 with its defaults. Equation 5 sums the
    squared distance over dimensions; algorithm 1, for which 25 was found, takes the mean.
    """
    z_i, z_j = stack_views(z_i, z_j, "VICReg").chunk(2)
    loss = invariance * functional.mse_loss(z_i, z_j)
    for z in (z_i, z_j):
        centred = z - z.mean(dim=0)
        covariance_dd = multiply(centred.T, centred) / (len(z) - 1)
        variance_d = covariance_dd.diagonal()
        spread = functional.relu(target_std - (variance_d + epsilon).sqrt()).mean()
        redundancy = covariance_dd.clone().fill_diagonal_(0).square().sum() / z.shape[1]
        loss = loss + variance * spread + covariance * redundancy
    return loss
