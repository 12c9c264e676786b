"""Axis-aligned boxes as boolean volumes, for the cut-outs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class BoxDraws:
    """Boxes ``[low, high)`` in output voxels, shape (n, 3), and whether each is applied, shape (n,)."""

    low_ni: Tensor
    high_ni: Tensor
    apply_n: Tensor

    def at(self, row_r: Tensor | None) -> BoxDraws:
        """Those of some samples; None for all."""
        if row_r is None:
            return self
        return BoxDraws(self.low_ni[row_r], self.high_ni[row_r], self.apply_n[row_r])


def box_mask(low_ni: Tensor, high_ni: Tensor, size: int, device: torch.device | None = None) -> Tensor:
    """Boxes as boolean volumes, from three one-dimensional intervals each.

    Args:
        low_ni: First voxel per axis, shape (n, 3).
        high_ni: One past the last voxel per axis, shape (n, 3).
        size: Side of the cubic volume.
        device: Where the masks are wanted.

    Returns:
        True inside the box, shape (n, size, size, size).
    """
    voxel = torch.arange(size, device=device)
    low_ni1, high_ni1 = (ends.to(device, non_blocking=True)[..., None] for ends in (low_ni, high_ni))
    inside_nis = (voxel >= low_ni1) & (voxel < high_ni1)
    return inside_nis[:, 0, :, None, None] & inside_nis[:, 1, None, :, None] & inside_nis[:, 2, None, None, :]


def centre_mask(size: int, device: torch.device | None = None) -> Tensor:
    """The central half-cube that corner and random cut-outs leave untouched, shape (1, size, size, size)."""
    low = torch.full((1, 3), size // 4)
    return box_mask(low, torch.full((1, 3), 3 * size // 4), size, device)
