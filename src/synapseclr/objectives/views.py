"""The two views that objectives compare: checked, stacked, and gathered from all processes with their gradient.

Let rank r of W hold z_r = f(x_r; p), let Z be their concatenation, and L(Z) the objective. The gradient to compute is
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
from torch.nn import functional

from synapseclr.errors import ConfigurationError


def stack_views(z_i: Tensor, z_j: Tensor, objective: str) -> Tensor:
    """Both views below each other, first views first.

    Args:
        z_i: Projections of the first views, shape (batch, dimension).
        z_j: Projections of the second views, same shape.
        objective: What error messages call it.

    Returns:
        Shape (2 batch, dimension), in the inputs' precision, at least float32.

    Raises:
        ConfigurationError: If shapes differ or the batch holds fewer than two samples.
    """
    if z_i.shape != z_j.shape or z_i.ndim != 2:
        raise ConfigurationError(
            f"{objective} needs two (batch, dimension) tensors, got {tuple(z_i.shape)} and {tuple(z_j.shape)}."
        )
    if len(z_i) < 2:
        raise ConfigurationError(f"{objective} compares samples with each other: the batch needs at least 2.")
    z = torch.cat([z_i, z_j])
    return z.float() if z.dtype in (torch.float16, torch.bfloat16) else z


def cosine_logits(z: Tensor, temperature: float, objective: str) -> Tensor:
    """Cosine similarities of all pairs of rows of z (n, dimension) over the temperature, shape (n, n).

    One matrix product of the normalised rows: O(n^2) memory, not O(n^2 dimension).

    Raises:
        ConfigurationError: If the temperature is not positive.
    """
    if temperature <= 0:
        raise ConfigurationError(f"The temperature of {objective} is {temperature}; it must be positive.")
    z = functional.normalize(z, dim=1)
    return multiply(z, z.T) / temperature


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """Matrix product in the operands' own precision.

    Autocast would round operands and product to 16 bits: with bfloat16, a similarity near 1 is off by up to 0.002, and
    its logit at a temperature of 0.01 by up to 0.2.
    """
    with torch.autocast(a.device.type, enabled=False):
        return a @ b


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
