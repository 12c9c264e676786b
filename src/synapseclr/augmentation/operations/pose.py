"""Pose of the output cube: rotation, uniform on SO(3), displacement, and magnification."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from synapseclr.augmentation.config import AugmentationConfig, NonNegative
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


class Displacement(Operation):
    """Move the output cube along the axes of the chunk, by at most a fraction of half its side."""

    name: ClassVar[str] = "displacement"

    global_max_relative_displacement: NonNegative = 0.2

    def draw(self, source: Source, config: AugmentationConfig) -> Tensor:
        """Displacements in half sides, (n, 3)."""
        reach = self.global_max_relative_displacement
        return source.uniform(-reach, reach, source.n, 3)

    def apply(self, view: ViewState, draws: Tensor) -> None:
        """Move the pose."""
        view.pose = replace(view.pose, displacement_bi=view.pose.displacement_bi + draws)


class Magnification(Operation):
    """Make the voxels of the image smaller, so that it shows less of the chunk in finer detail.

    The published views have one size. An encoder that has seen several can embed close-ups too
    (``embedding.magnifications``): vesicles and the outline of a density are lost in voxels that are large enough to
    show the whole synapse. The prepared volume has the pitch of unmagnified views, so factors above 2 show nothing new.
    Displacement and the radius of the active zone keep their lengths in the tissue.

    Attributes:
        magnification_max: Factors are drawn from 1 to this, uniform in the logarithm.
    """

    name: ClassVar[str] = "magnification"

    magnification_max: Annotated[float, Field(ge=1.0)] = 1.8

    def draw(self, source: Source, config: AugmentationConfig) -> Tensor:
        """Factors, float64, (n,)."""
        return source.uniform(0.0, math.log(self.magnification_max), source.n).double().exp()

    def apply(self, view: ViewState, draws: Tensor) -> None:
        """Shorten the steps of the pose."""
        view.pose = replace(view.pose, matrix_bij=magnified(view.pose.matrix_bij, draws))


def magnified(matrix_bij: Tensor, factor_n: Tensor) -> Tensor:
    """The matrices of poses, (batch or 1, 3, 3), magnified by factors, (batch or 1,)."""
    return matrix_bij / factor_n.to(torch.float64)[:, None, None]
