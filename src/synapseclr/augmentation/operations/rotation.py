"""Rotation, uniform on SO(3)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from synapseclr.augmentation.config import AugmentationConfig
from synapseclr.augmentation.operation import Operation, Source, ViewState


class Rotation(Operation):
    """Turn the output cube in physical space, about its centre."""

    name: ClassVar[str] = "rotation"

    def draw(self, source: Source, config: AugmentationConfig) -> Tensor:
        """Rotation matrices, float64, (n, 3, 3)."""
        return draw_rotations(source.n, source.generator)

    def apply(self, view: ViewState, draws: Tensor) -> None:
        """Turn the pose."""
        view.pose = replace(view.pose, matrix_bij=view.pose.matrix_bij @ draws)


def quaternions_to_matrices(quaternion_nk: Tensor) -> Tensor:
    """Rotation matrices (n, 3, 3) of unit quaternions (w, x, y, z), (n, 4)."""
    w, x, y, z = quaternion_nk.unbind(1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], dim=1),
        torch.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], dim=1),
        torch.stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], dim=1),
    ]
    return torch.stack(rows, dim=1)


def draw_rotations(n: int, generator: torch.Generator | None = None) -> Tensor:
    """Rotation matrices, uniform on SO(3), from normalised Gaussian quaternions.

    Args:
        n: How many.
        generator: A CPU generator; ``None`` takes torch's default one.

    Returns:
        float64 matrices, shape (n, 3, 3), determinant +1.

    Source: Shoemake 1992, Uniform random rotations, Graphics Gems III.
    """
    quaternion_nk = torch.randn(n, 4, generator=generator, dtype=torch.float64)
    return quaternions_to_matrices(quaternion_nk / quaternion_nk.norm(dim=1, keepdim=True))


def spread_rotations(n: int) -> Tensor:
    """A fixed set of rotations that covers SO(3) evenly; the first is the identity.

    Each next one is that of many candidates whose nearest earlier rotation is farthest away.

    Args:
        n: How many.

    Returns:
        float64 matrices, shape (n, 3, 3).

    Source: candidates by super-Fibonacci spirals, Alexa 2022, doi:10.1109/CVPR52688.2022.00811.
    """
    phi, psi = 2**0.5, 1.533751168755204288118041
    s_c = torch.arange(max(1000, 50 * n), dtype=torch.float64) + 0.5
    inner_c, outer_c = (s_c / len(s_c)).sqrt(), (1 - s_c / len(s_c)).sqrt()
    alpha_c, beta_c = 2 * torch.pi * s_c / phi, 2 * torch.pi * s_c / psi
    parts = [inner_c * alpha_c.sin(), inner_c * alpha_c.cos(), outer_c * beta_c.sin(), outer_c * beta_c.cos()]
    candidate_ck = torch.stack(parts, dim=1)
    chosen = [torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)]
    closeness_c = (candidate_ck @ chosen[0]).abs()  # 1 for the same rotation: a quaternion and its negative are one
    while len(chosen) < n:
        chosen.append(candidate_ck[closeness_c.argmin()])
        closeness_c = torch.maximum(closeness_c, (candidate_ck @ chosen[-1]).abs())
    return quaternions_to_matrices(torch.stack(chosen))
