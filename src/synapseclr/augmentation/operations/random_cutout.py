"""Cut-outs of random boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from synapseclr.augmentation.operations.boxes import BoxDraws, box_mask, centre_mask
from synapseclr.augmentation.operations.operation import Operation, Source, ViewState, chosen_rows
from synapseclr.augmentation.operations.tone_map import check_ranges

if TYPE_CHECKING:
    from synapseclr.augmentation.config import AugmentationConfig


class RandomCutout(Operation):
    """Hide boxes of random place and sides, each with a probability."""

    name: ClassVar[str] = "random_cutout"

    random_cutout_prob: Annotated[float, Field(ge=0, le=1)] = 0.25
    n_random_cutout_applications: Annotated[int, Field(ge=0, le=16)] = 2
    cutout_size_min: Annotated[int, Field(ge=1)] = 12
    cutout_size_max: Annotated[int, Field(ge=1)] = 36
    preserve_center_unmasked: bool = True

    _ordered = check_ranges

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
