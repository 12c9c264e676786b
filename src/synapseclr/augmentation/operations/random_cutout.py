"""Cut-outs of random boxes, and axis-aligned boxes as boolean volumes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from synapseclr.augmentation.config import AugmentationConfig, Count, Probability, Voxels
from synapseclr.augmentation.operation import Operation, Source, ViewState, chosen_rows


@dataclass(frozen=True)
class BoxDraws:
    """Boxes ``[low, high)`` in output voxels, shape (n, 3), and whether each is applied, shape (n,)."""

    low_ni: Tensor
    high_ni: Tensor
    apply_n: Tensor

    def at(self, row_r: Tensor | None) -> BoxDraws:
        """Select the boxes of some samples; None for all."""
        if row_r is None:
            return self
        return BoxDraws(self.low_ni[row_r], self.high_ni[row_r], self.apply_n[row_r])


class RandomCutout(Operation):
    """Hide boxes of random position and sides, each with a probability."""

    name: ClassVar[str] = "random_cutout"

    random_cutout_prob: Probability = 0.25
    n_random_cutout_applications: Count = 2
    cutout_size_min: Voxels = 12
    cutout_size_max: Voxels = 36
    preserve_center_unmasked: bool = True

    def draw(self, source: Source, config: AugmentationConfig) -> list[BoxDraws]:
        """The boxes of each application."""
        return [self._box(source, config.final_img_size) for _ in range(self.n_random_cutout_applications)]

    def apply(self, view: ViewState, draws: list[BoxDraws]) -> None:
        """Hide the boxes."""
        for box in draws:
            if bool(box.apply_n.any()):
                row_r = chosen_rows(box.apply_n)
                size, centre = view.config.final_img_size, self.preserve_center_unmasked
                view.hide(random_box_keep(box.at(row_r), size, centre, view.device), row_r)

    def _box(self, source: Source, size: int) -> BoxDraws:
        low_ni = source.integers(0, size - self.cutout_size_min, source.n, 3)
        side_ni = source.integers(self.cutout_size_min, self.cutout_size_max + 1, source.n, 3)
        return BoxDraws(low_ni, (low_ni + side_ni).clamp(max=size), source.chance(self.random_cutout_prob, source.n))


def random_box_keep(box: BoxDraws, size: int, preserve_centre: bool, device: torch.device | None = None) -> Tensor:
    """Keep mask of one box per sample where it is applied, shape (n, size, size, size)."""
    keep_nxyz = ~box_mask(box.low_ni, torch.where(box.apply_n[:, None], box.high_ni, box.low_ni), size, device)
    return keep_nxyz | centre_mask(size, device) if preserve_centre else keep_nxyz


def box_mask(low_ni: Tensor, high_ni: Tensor, size: int, device: torch.device | None = None) -> Tensor:
    """Boxes as boolean volumes, from three one-dimensional intervals each.

    Args:
        low_ni: First voxel per axis, shape (n, 3).
        high_ni: One past the last voxel per axis, shape (n, 3).
        size: Side of the cubic volume.
        device: Device of the masks.

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
