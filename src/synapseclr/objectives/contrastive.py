"""The normalised, temperature-scaled cross entropy of SimCLR."""

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
    logits.fill_diagonal_(float("-inf"))
    partner = torch.arange(len(z), device=z.device).roll(len(z_i))
    return functional.cross_entropy(logits, partner)
