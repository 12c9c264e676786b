"""What the objectives share: checked views, and products that mixed precision leaves alone."""

from __future__ import annotations

import torch
from torch import Tensor
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
