"""Contrastive objectives: the cross entropy of SimCLR, and the same without the positive in its denominator."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from synapseclr.objectives.views import cosine_logits, stack_views


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
