"""Resampling of the chunk to an isotropic cube in its pose."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from synapseclr.augmentation.masks import CLEFT, POST, PRE
from synapseclr.augmentation.operation import Operation, ViewState
from synapseclr.augmentation.preparation import LEVELS
from synapseclr.augmentation.sampling import sample

LEAST_WEIGHT = 1e-6


class Resampling(Operation):
    """Sample the prepared chunk once: intensity, weight, distances, and the section that each voxel lies in."""

    name: ClassVar[str] = "resampling"
    random: ClassVar[bool] = False

    def apply(self, view: ViewState, draws: None) -> None:
        """Resample; masks are where the sampled distances are not positive, and the cleft wins."""
        assert view.prepared is not None, "resampling needs a prepared batch"
        sampled = sample(view.prepared, view.preparation, view.pose, view.config.final_img_size)
        view.weight_bcxyz = sampled.weight_bxyz[:, None]
        view.intensity_bcxyz = carried_intensity(sampled.signal_bxyz, sampled.weight_bxyz)[:, None]
        view.distance_bcxyz = sampled.distance_bcxyz
        view.section_bxyz = sampled.section_bxyz
        view.mask_bcxyz = masks_within(view, 0.0)
        view.is_resampled = True


def carried_intensity(signal: Tensor, weight: Tensor) -> Tensor:
    """Intensity in [0, 1] of a voxel from the signal and the weight that it carries; overwrites the signal."""
    return signal.div_(weight.clamp(min=LEAST_WEIGHT)).clamp_(0.0, 1.0)


def masks_within(view: ViewState, distance: float) -> Tensor:
    """Voxels within a distance, in output voxels, of presynaptic side, cleft and postsynaptic side; disjoint."""
    assert view.distance_bcxyz is not None
    within = view.distance_bcxyz <= int(min(view.preparation.distance_code(distance) + 0.5, LEVELS - 1))
    cleft = within[:, CLEFT]
    pre = within[:, PRE] & ~cleft
    return torch.stack([pre, cleft, within[:, POST] & ~cleft & ~pre], dim=1)
