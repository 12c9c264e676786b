"""Losses of two views: the cross entropy of SimCLR, the same without the positive in its denominator, and VICReg.

VICReg is variance-invariance-covariance regularisation: no contrast, no temperature.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from synapseclr.objectives.views import cosine_logits, multiply, stack_views


def nt_xent(z_i: Tensor, z_j: Tensor, temperature: float = 0.5) -> Tensor:
    """NT-Xent over the 2B views of a batch.

    ``l(i, j) = -log exp(sim(i, j) / T) / sum_{k != i} exp(sim(i, k) / T)``, averaged over all 2B views. One matrix
    product of the normalised projections: O(B^2) memory, not O(B^2 D).

    Args:
        z_i: Projections of the first views, shape (batch, dimension).
        z_j: Projections of the second views, same shape; row b belongs to row b of ``z_i``.
        temperature: T > 0. Published value 0.5.

    Returns:
        The scalar loss, in the inputs' precision (at least float32, also under autocast).

    Raises:
        ConfigurationError: If shapes differ, the batch holds fewer than two samples, or T is not positive.

    Source: Chen et al. 2020, arXiv:2002.05709, equation 1.
    """
    z = stack_views(z_i, z_j, "NT-Xent")
    logits = cosine_logits(z, temperature, "NT-Xent")
    logits.fill_diagonal_(float("-inf"))  # a view is no rival of itself
    partner = torch.arange(len(z), device=z.device).roll(len(z_i))
    return functional.cross_entropy(logits, partner)


def dcl(z_i: Tensor, z_j: Tensor, temperature: float = 0.5) -> Tensor:
    """DCL over the 2B views of a batch.

    ``l(i, j) = -sim(i, j) / T + log sum_k exp(sim(i, k) / T)``, where k runs over the 2(B - 1) views of other samples;
    averaged over all 2B views. The positive does not damp its own gradient as in NT-Xent, which matters for small
    batches. The loss has no lower bound of 0.

    Args:
        z_i: Projections of the first views, shape (batch, dimension).
        z_j: Projections of the second views, same shape; row b belongs to row b of ``z_i``.
        temperature: T > 0.

    Returns:
        The scalar loss, in the inputs' precision (at least float32, also under autocast).

    Raises:
        ConfigurationError: If shapes differ, the batch holds fewer than two samples, or T is not positive.

    Source: Yeh et al. 2022, arXiv:2110.06848, the loss L_DC (unweighted); the mean over views where they write a sum.
    """
    z = stack_views(z_i, z_j, "DCL")
    logits = cosine_logits(z, temperature, "DCL")
    attraction = logits.diagonal(len(z_i)).mean()  # sim is symmetric: the second views' positives are the same
    sample = torch.arange(len(z), device=z.device) % len(z_i)
    repulsion = logits.masked_fill(sample[:, None] == sample, float("-inf")).logsumexp(dim=1).mean()
    return repulsion - attraction


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
