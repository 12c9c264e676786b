"""The active zone: the pieces of both neurites that meet the cleft, inflated by a ball."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from synapseclr.augmentation.config import AugmentationConfig, Radii
from synapseclr.augmentation.masks import POST, PRE
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
