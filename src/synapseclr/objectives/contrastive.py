"""The normalised, temperature-scaled cross entropy of SimCLR."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from synapseclr.errors import ConfigurationError


def nt_xent(z_i: Tensor, z_j: Tensor, temperature: float = 0.5) -> Tensor:
    """NT-Xent over the 2B views of a batch.

    ``l(i, j) = -log exp(sim(i, j) / T) / sum_{k != i} exp(sim(i, k) / T)``, averaged over all 2B views. One matrix
    product of the normalised projections: O(B^2) memory, not O(B^2 D).

    Args:
        z_i: Projections of the first views, shape (batch, dimension).
        z_j: Projections of the second views, same shape; row b belongs to row b of ``z_i``.
        temperature: T > 0. Published value 0.5.

    Returns:
        The scalar loss, in the inputs' precision (at least float32).

    Raises:
        ConfigurationError: If shapes differ, the batch holds fewer than two samples, or T is not positive.

    Source: Chen et al. 2020, arXiv:2002.05709, equation 1.
    """
    if z_i.shape != z_j.shape or z_i.ndim != 2:
        raise ConfigurationError(f"NT-Xent needs two (batch, dimension) tensors, got {z_i.shape} and {z_j.shape}.")
    if len(z_i) < 2:
        raise ConfigurationError("NT-Xent contrasts samples with each other: the batch needs at least 2.")
    if temperature <= 0:
        raise ConfigurationError(f"The temperature of NT-Xent is {temperature}; it must be positive.")
    z = torch.cat([z_i, z_j])
    z = functional.normalize(z.float() if z.dtype in (torch.float16, torch.bfloat16) else z, dim=1)
    logits = (z @ z.T) / temperature
    logits.fill_diagonal_(float("-inf"))
    partner = torch.arange(len(z), device=z.device).roll(len(z_i))
    return functional.cross_entropy(logits, partner)
