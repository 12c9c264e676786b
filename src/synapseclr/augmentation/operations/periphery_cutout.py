"""Cut-out of the periphery."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from synapseclr.augmentation.config import AugmentationConfig, Fraction, Probability
from synapseclr.augmentation.operation import Operation, Source, ViewState, chosen_rows
from synapseclr.augmentation.operations.random_cutout import BoxDraws, box_mask


class PeripheryCutout(Operation):
    """Hide everything but a central cube of random side and position."""

    name: ClassVar[str] = "periphery_cutout"

    random_periphery_cutout_prob: Probability = 0.25
    periphery_cutout_center_max_displacement_fraction: Fraction = 0.2
    periphery_cutout_center_fraction_min: Fraction = 0.5
    periphery_cutout_center_fraction_max: Fraction = 0.75

    def draw(self, source: Source, config: AugmentationConfig) -> BoxDraws:
        """The cubes that stay visible."""
        size, n = config.final_img_size, source.n
        reach = 0.5 * self.periphery_cutout_center_max_displacement_fraction * size
        centre_ni = source.integers(max(int(0.5 * size - reach), 0), min(int(0.5 * size + reach), size), n, 3)
        half_n1 = source.integers(
            int(0.5 * size * self.periphery_cutout_center_fraction_min),
            int(0.5 * size * self.periphery_cutout_center_fraction_max),
            n,
            1,
        )
        apply_n = source.chance(self.random_periphery_cutout_prob, n)
        return BoxDraws((centre_ni - half_n1).clamp(min=0), (centre_ni + half_n1).clamp(max=size), apply_n)

    def apply(self, view: ViewState, draws: BoxDraws) -> None:
        """Hide everything outside of the cubes."""
        if bool(draws.apply_n.any()):
            row_r = chosen_rows(draws.apply_n)
            view.hide(periphery_keep(draws.at(row_r), view.config.final_img_size, view.device), row_r)


def periphery_keep(box: BoxDraws, size: int, device: torch.device | None = None) -> Tensor:
    """Keep mask of a periphery cut-out: only the box stays, where it is applied; shape (n, size, size, size)."""
    whole = box.apply_n.logical_not()[:, None]
    return box_mask(torch.where(whole, 0, box.low_ni), torch.where(whole, size, box.high_ni), size, device)
