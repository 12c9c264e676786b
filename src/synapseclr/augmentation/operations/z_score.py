"""The z-score of intensities, and the constant where a view shows nothing."""

from __future__ import annotations

from functools import reduce
from typing import ClassVar, Literal

import torch

from synapseclr.augmentation.config import Positive
from synapseclr.augmentation.masks import CLEFT, POST, PRE
from synapseclr.augmentation.operation import Operation, ViewState

VALID_WEIGHT = 0.5  # above it, an output voxel holds a signal


class ZScore(Operation):
    """``(x - mean) / std`` where a view shows signal; one constant elsewhere."""

    name: ClassVar[str] = "z_score"
    random: ClassVar[bool] = False

    intensity_mean: float = 0.44
    intensity_std: Positive = 0.28
    background: Literal["black", "mean"] = "black"

    def apply(self, view: ViewState, draws: None) -> None:
        """Finish the view."""
        if view.published:
            view.intensity_bcxyz = (view.intensity_bcxyz - self.intensity_mean).div_(self.intensity_std)
            return
        assert view.weight_bcxyz is not None
        shown = reduce(torch.bitwise_and, view.shown, view.weight_bcxyz > VALID_WEIGHT)
        if view.config.channel_organization == "separate" and shown.shape[1] == 1:
            sides = [view.mask_bcxyz[:, side] | view.mask_bcxyz[:, CLEFT] for side in (PRE, POST)]
            shown = shown & torch.stack(sides, dim=1)
        outside = 0.0 if self.background == "mean" else -self.intensity_mean / self.intensity_std
        scaled = view.intensity_bcxyz.sub(self.intensity_mean).div_(self.intensity_std)
        view.intensity_bcxyz = torch.where(shown, scaled, outside)
