"""Cut-outs of an octant, an edge or a face of the cube."""

from __future__ import annotations

import itertools
from typing import ClassVar

import torch
from torch import Tensor

from synapseclr.augmentation.config import AugmentationConfig, Count, Probability
from synapseclr.augmentation.operation import Operation, Source, ViewState, chosen_rows
from synapseclr.augmentation.operations.random_cutout import box_mask, centre_mask

N_CORNER_BOXES = 26


class CornerCutout(Operation):
    """Hide one of the 26 octant, edge and face boxes."""

    name: ClassVar[str] = "corner_cutout"

    corner_cutout_prob: Probability = 0.5
    n_corner_cutout_applications: Count = 1
    preserve_center_unmasked: bool = True

    def draw(self, source: Source, config: AugmentationConfig) -> list[Tensor]:
        """Index of the box of each application, 0 for none, (n,)."""
        return [self._index(source) for _ in range(self.n_corner_cutout_applications)]

    def apply(self, view: ViewState, draws: list[Tensor]) -> None:
        """Hide the boxes."""
        size = view.config.final_img_size
        for index_n in draws:
            if bool(index_n.any()):
                row_r = chosen_rows(index_n > 0)
                index_r = index_n if row_r is None else index_n[row_r]
                keep = corner_keep(index_r, size, self.preserve_center_unmasked, view.published, view.device)
                view.hide(keep, row_r)

    def _index(self, source: Source) -> Tensor:
        index_n = source.integers(1, N_CORNER_BOXES + 1, source.n)
        return torch.where(source.chance(self.corner_cutout_prob, source.n), index_n, 0)


def corner_boxes(size: int, published: bool = False) -> tuple[Tensor, Tensor]:
    """The 26 octant, edge and face boxes: every combination of (low, middle, high) halves but the centre.

    Args:
        size: Side of the cubic volume.
        published: The published middle range runs from size / 4 to the end, where it should stop at 3 size / 4.

    Returns:
        ``low_ji`` and ``high_ji``, shape (27, 3); index 0 is the empty box, "no cut-out".
    """
    half, quarter = size // 2, size // 4
    ranges = [(0, half), (quarter, size if published else size - quarter), (size - half, size)]
    combinations = [c for c in itertools.product(range(3), repeat=3) if c != (1, 1, 1)]
    low = [[0, 0, 0]] + [[ranges[i][0] for i in combination] for combination in combinations]
    high = [[0, 0, 0]] + [[ranges[i][1] for i in combination] for combination in combinations]
    return torch.tensor(low), torch.tensor(high)


def corner_keep(
    index_n: Tensor, size: int, preserve_centre: bool, published: bool = False, device: torch.device | None = None
) -> Tensor:
    """Keep mask of one corner cut-out.

    Args:
        index_n: Index of the box to cut, 1 to 26, 0 for none, shape (n,), on the CPU.
        size: Side of the cubic volume.
        preserve_centre: Leave the central half-cube untouched.
        published: Use the published middle range, see ``corner_boxes``.
        device: Device of the mask.

    Returns:
        Boolean masks, shape (n, size, size, size).
    """
    low_ji, high_ji = corner_boxes(size, published)
    keep_nxyz = ~box_mask(low_ji[index_n], high_ji[index_n], size, device)
    return keep_nxyz | centre_mask(size, device) if preserve_centre else keep_nxyz
