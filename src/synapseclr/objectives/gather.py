"""One batch out of the batches of all processes, with the gradient that one process would compute.

Let rank r of W hold z_r = f(x_r; p), let Z be their concatenation, and L(Z) the objective. What is wanted is
dL/dp = sum_r (dz_r/dp)^T G_r, where G = dL/dZ and G_r are its rows of rank r. Every rank computes the same L(Z), and so
the same G. Data-parallel training averages the ranks' gradients, so rank r must hand W G_r to its z_r:

    1/W sum_r (dz_r/dp)^T (W G_r) = dL/dp.

Summing G over the ranks gives W G: the gather's backward pass is a sum over ranks, followed by taking the own rows, and
no other factor is needed. (It is the derivative of sum_r L_r, so that what the average yields is the derivative of the
mean over ranks also where their objectives differ.) A gather that hands on only the own rows' G_r, as the published
code's, trains with a gradient W times too small; one that detaches the other ranks' rows, too, and loses their share.

Statistics over the batch, such as VICReg's, are computed on Z and are those of one process. Batch normalisation inside
f is not the objective's matter: it needs SyncBatchNorm for the same equality.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed

from synapseclr.errors import ConfigurationError


def gather(z: Tensor) -> Tensor:
    """Concatenate the processes' rows, in rank order; differentiable.

    Every process must call this the same number of times: it waits for the others.

    Args:
        z: This process's rows, shape (batch, ...), the same on every process.

    Returns:
        Shape (processes * batch, ...). Without a process group, or in a group of one, ``z`` itself.

    Raises:
        ConfigurationError: On every process, if their batch sizes differ.
    """
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return z
    sizes = _sizes(z)
    if len(set(sizes)) > 1:
        raise ConfigurationError(
            f"The processes' batches hold {', '.join(map(str, sizes))} samples (ranks 0 to {len(sizes) - 1}), but the "
            "objective compares them as one batch and needs equally many of each. Drop the incomplete last batch, or "
            "give every process equally many synapses."
        )
    gathered: Tensor = _Gather.apply(z)
    return gathered


def gather_views(z_i: Tensor, z_j: Tensor) -> tuple[Tensor, Tensor]:
    """Gather both views, each on its own, so that row b of the one still belongs to row b of the other.

    Args:
        z_i: Projections of this process's first views, shape (batch, dimension).
        z_j: Projections of its second views, same shape.

    Returns:
        All first and all second views, each (processes * batch, dimension).

    Raises:
        ConfigurationError: On every process, if their batch sizes differ; if the views' shapes differ.
    """
    if z_i.shape != z_j.shape:
        raise ConfigurationError(f"The two views differ in shape: {tuple(z_i.shape)} and {tuple(z_j.shape)}.")
    both = gather(torch.stack([z_i, z_j], dim=1))  # one round of messages for the two
    return both[:, 0], both[:, 1]


class _Gather(torch.autograd.Function):
    """``all_gather`` whose backward pass sums over ranks; see the module's derivation."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        parts = [
            torch.empty_like(z, memory_format=torch.contiguous_format) for _ in range(distributed.get_world_size())
        ]
        distributed.all_gather(parts, z.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        summed = gradients[0].clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(summed)
        return summed.chunk(distributed.get_world_size())[distributed.get_rank()]


def _sizes(z: Tensor) -> list[int]:
    """Number of rows on every rank. Waits for the device: a hang on unequal sizes would cost more."""
    own = torch.tensor([len(z)], device=z.device)
    sizes = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
    distributed.all_gather(sizes, own)
    return torch.cat(sizes).tolist()
