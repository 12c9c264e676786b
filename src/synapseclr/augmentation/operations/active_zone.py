"""The active zone: the pieces of both neurites that meet the cleft, inflated by a ball; and the published form of it.

The published operation keeps its errors, for parity with published weights and golden vectors.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from synapseclr.augmentation.config import AugmentationConfig, Radii
from synapseclr.augmentation.masks import CLEFT, POST, PRE, dilate_ball, neurite_sides
from synapseclr.augmentation.operation import Operation, Source, ViewState


class ActiveZone(Operation):
    """Show only voxels within a radius, drawn from a list, of the two neurite pieces.

    Inflation is a threshold on the sampled distances; the connectivity is that of the component filter in the
    preparation. With ``channel_organization: separate`` each side has a channel and a zone of its own.
    """

    name: ClassVar[str] = "active_zone"
    random: ClassVar[bool] = False  # with one radius in the list

    connectivity: Literal[0, 6, 18, 26] = 26
    active_zone_inflation_radii: Radii = (1, 2, 3, 4, 5, 6, 7, 8, 9)

    def draw(self, source: Source, config: AugmentationConfig) -> Tensor:
        """Radius in output voxels, (n,)."""
        return source.choice(self.active_zone_inflation_radii, source.n).long()

    def apply(self, view: ViewState, draws: Tensor) -> None:
        """Show the zone."""
        view.shown.append(inflated_sides(view, draws))


def inflated_sides(view: ViewState, radius_n: Tensor) -> Tensor:
    """Voxels within a radius of each side, (batch, 2, x, y, z), or of either, (batch, 1, x, y, z), where merged."""
    assert view.distance_bcxyz is not None, "the active zone comes after the resampling"
    code_n = view.preparation.distance_code(radius_n.double())
    assert isinstance(code_n, Tensor)
    limit = view.per_sample((code_n + 0.5).floor().clamp(max=254).to(torch.uint8))
    within = view.distance_bcxyz[:, [PRE, POST]] <= limit
    return within.any(1, keepdim=True) if view.config.channel_organization == "merged" else within


class PublishedActiveZone(Operation):
    """The published masking: dilation of the masks in the view, one radius for the whole batch.

    In ``separate`` mode stray fragments of a side can enter, and the mask is not cut.
    """

    name: ClassVar[str] = "published_active_zone"
    random: ClassVar[bool] = False

    connectivity: Literal[0, 6, 18, 26] = 26
    active_zone_inflation_radii: Radii = (1, 2, 3, 4, 5, 6, 7, 8, 9)
    enable_active_zone: bool = True

    def draw(self, source: Source, config: AugmentationConfig) -> int:
        """One radius in output voxels; nothing is drawn where the zone is off."""
        return int(source.choice(self.active_zone_inflation_radii, 1)) if self.enable_active_zone else 0

    def apply(self, view: ViewState, draws: int) -> None:
        """Mask the intensities, in one channel or one for each side."""
        mask = view.mask_bcxyz
        zone = active_zone(mask, self.connectivity, draws) if self.enable_active_zone else None
        if view.config.channel_organization == "merged":
            if zone is not None:
                view.intensity_bcxyz = view.intensity_bcxyz * zone[:, None]
                view.mask_bcxyz = mask & zone[:, None]
            return
        sides = torch.stack([dilate_ball(mask[:, side] | mask[:, CLEFT], draws) for side in (PRE, POST)], dim=1)
        view.intensity_bcxyz = view.intensity_bcxyz * (sides if zone is None else sides & zone[:, None])


def active_zone(mask_bcxyz: Tensor, connectivity: int, radius: int) -> Tensor:
    """The neurite pieces that touch the cleft, dilated by a ball.

    Args:
        mask_bcxyz: Boolean masks (pre, cleft, post), shape (batch, 3, x, y, z).
        connectivity: 6, 18, 26, or 0 for no component filter.
        radius: Inflation in voxels.

    Returns:
        Boolean masks, shape (batch, x, y, z); empty for a sample without a cleft (unless the connectivity is 0).
    """
    pre_bxyz, post_bxyz = neurite_sides(mask_bcxyz, connectivity)
    return dilate_ball(pre_bxyz | post_bxyz, radius)
