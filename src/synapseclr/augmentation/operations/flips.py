"""Flips in x, y, z and exchange of x and y."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from synapseclr.augmentation.config import AugmentationConfig
from synapseclr.augmentation.operation import Operation, Source, ViewState

AXES = 3


@dataclass(frozen=True)
class FlipDraws:
    """True where an axis is mirrored, (n, 3), and where x and y are then exchanged, (n,)."""

    flip_ni: Tensor
    swap_n: Tensor


class Flips(Operation):
    """Mirror and exchange axes of the image, each with probability 1/2.

    Before the resampling they are part of its positions and cost nothing; after it, volumes are turned.
    """

    name: ClassVar[str] = "flips"

    enable_x_flip: bool = True
    enable_y_flip: bool = True
    enable_z_flip: bool = True
    enable_xy_swap: bool = True

    def draw(self, source: Source, config: AugmentationConfig) -> FlipDraws:
        """The axes to mirror and to exchange."""
        enabled_i = torch.tensor([self.enable_x_flip, self.enable_y_flip, self.enable_z_flip])
        flip_ni = source.chance(0.5, source.n, AXES) & enabled_i
        return FlipDraws(flip_ni, source.chance(0.5, source.n) & self.enable_xy_swap)

    def apply(self, view: ViewState, draws: FlipDraws) -> None:
        """Mirror the pose, or the volumes."""
        if not view.is_resampled:
            view.pose = replace(view.pose, matrix_bij=reflect(view.pose.matrix_bij, draws.flip_ni, draws.swap_n))
            return
        for name in ("intensity_bcxyz", "mask_bcxyz"):
            setattr(view, name, swap_xy(flip_axes(getattr(view, name), draws.flip_ni), draws.swap_n))


def reflect(matrix_bij: Tensor, flip_bi: Tensor, swap_b: Tensor) -> Tensor:
    """Fold flips and swaps of the output cube into the matrices that take output to input directions.

    Resampling at the positions of the result gives what ``swap_xy(flip_axes(...))`` makes of the resampled volume.

    Args:
        matrix_bij: Matrices, float64, shape (batch or 1, 3, 3).
        flip_bi: True where an output axis is mirrored, shape (batch or 1, 3).
        swap_b: True where x and y of the output are exchanged, after the flips, shape (batch or 1,).

    Returns:
        Matrices (batch or 1, 3, 3).
    """
    mirror_bij = torch.diag_embed(1.0 - 2.0 * flip_bi.double())
    straight = torch.eye(AXES, dtype=torch.float64)
    exchange_bij = torch.where(swap_b[:, None, None], straight[[1, 0, 2]], straight)
    return matrix_bij @ mirror_bij @ exchange_bij


def flip_axes(volume_bcxyz: Tensor, flip_bi: Tensor) -> Tensor:
    """Mirror volumes along the axes that were drawn.

    Args:
        volume_bcxyz: Any volumes, shape (batch, channels, x, y, z).
        flip_bi: True where an axis is mirrored, shape (batch or 1, 3), on the CPU.

    Returns:
        A tensor of the same shape.
    """
    for axis in range(AXES):
        if bool(flip_bi[:, axis].any()):
            do = flip_bi[:, axis].to(volume_bcxyz.device, non_blocking=True)[:, None, None, None, None]
            volume_bcxyz = torch.where(do, volume_bcxyz.flip(axis + 2), volume_bcxyz)
    return volume_bcxyz


def swap_xy(volume_bcxyz: Tensor, swap_b: Tensor) -> Tensor:
    """Exchange x and y of cubic volumes where ``swap_b``, shape (batch or 1,), on the CPU."""
    if not bool(swap_b.any()):
        return volume_bcxyz
    do = swap_b.to(volume_bcxyz.device, non_blocking=True)[:, None, None, None, None]
    return torch.where(do, volume_bcxyz.transpose(2, 3), volume_bcxyz)
