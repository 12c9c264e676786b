"""Ball holes ("Swiss cheese")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from synapseclr.augmentation.config import AugmentationConfig, Probability, Voxels
from synapseclr.augmentation.masks import ball_volume, dilate_ball
from synapseclr.augmentation.operation import Operation, Source, ViewState


@dataclass(frozen=True)
class HoleDraws:
    """Fraction of the volume that holes take, shape (n,), and the seed of their centres."""

    fraction_n: Tensor
    seed: int


class SwissCheese(Operation):
    """Hide balls of the intensity; masks stay."""

    name: ClassVar[str] = "swiss_cheese"

    swiss_cheese_max_vol_fraction: Probability = 0.3
    swiss_cheese_radii: Annotated[tuple[Voxels, ...], Field(min_length=1)] = (5, 7, 9)

    def draw(self, source: Source, config: AugmentationConfig) -> HoleDraws:
        """Volume fractions, and a seed of the centres."""
        return HoleDraws(source.uniform(0.0, self.swiss_cheese_max_vol_fraction, source.n), source.seed())

    def apply(self, view: ViewState, draws: HoleDraws) -> None:
        """Hide the holes."""
        probability_nl = hole_probability(draws.fraction_n, self.swiss_cheese_radii)
        centre_nlxyz = draw_hole_centres(probability_nl, view.config.final_img_size, draws.seed, view.device)
        keep = holes_keep(centre_nlxyz, self.swiss_cheese_radii)[:, None]
        if view.published:
            view.intensity_bcxyz = view.intensity_bcxyz * keep
        else:
            view.shown.append(keep)


def hole_probability(fraction_n: Tensor, radii: Sequence[int]) -> Tensor:
    """Probability that a voxel is the centre of a hole of each radius, shape (n, radii).

    The expected volume of all holes together (overlaps counted twice) is ``fraction_n`` of the volume, shared equally
    between the radii.
    """
    volume_l = torch.tensor([ball_volume(radius) for radius in radii], dtype=fraction_n.dtype)
    return fraction_n[:, None] / (volume_l * len(radii))


def draw_hole_centres(probability_nl: Tensor, size: int, seed: int, device: torch.device | None = None) -> Tensor:
    """Hole centres per radius, boolean, shape (n, radii, size, size, size), generated on the device."""
    generator = torch.Generator(device=device or "cpu").manual_seed(seed)
    shape = (*probability_nl.shape, size, size, size)
    field = torch.rand(shape, generator=generator, device=device)
    return field < probability_nl.to(device, non_blocking=True)[..., None, None, None]


def holes_keep(centre_nlxyz: Tensor, radii: Sequence[int]) -> Tensor:
    """Keep mask of ball holes.

    Args:
        centre_nlxyz: Hole centres per radius, boolean, shape (n, radii, x, y, z).
        radii: Ball radii in voxels, one per entry of the second axis.

    Returns:
        Boolean masks, shape (n, x, y, z), False inside a hole.
    """
    hole_nxyz = torch.zeros_like(centre_nlxyz[:, 0])
    for position, radius in enumerate(radii):
        hole_nxyz |= dilate_ball(centre_nlxyz[:, position], radius)
    return ~hole_nxyz
