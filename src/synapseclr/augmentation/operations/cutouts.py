"""Cut-outs: whole sections, random boxes, an octant, edge or face of the cube, the periphery, and balls."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from synapseclr.augmentation.config import AugmentationConfig, Count, Fraction, NonNegative, Probability, Voxels
from synapseclr.augmentation.masks import ball_volume, dilate_ball
from synapseclr.augmentation.operation import Operation, Source, ViewState, chosen_rows

N_CORNER_BOXES = 26


class SectionCutout(Operation):
    """Take whole sections away from a sample, with a probability; then each with ``cutout_poisson_rate / sections``."""

    name: ClassVar[str] = "section_cutout"

    section_cutout_prob: Probability = 0.5
    cutout_poisson_rate: NonNegative = 10.0

    def draw(self, source: Source, config: AugmentationConfig) -> Tensor:
        """True where a section is taken away, (n, sections)."""
        do_n1 = source.chance(self.section_cutout_prob, source.n_intensity, 1)
        each = min(1.0, self.cutout_poisson_rate / source.n_sections)
        return source.chance(each, source.n_intensity, source.n_sections) & do_n1

    def apply(self, view: ViewState, draws: Tensor) -> None:
        """Take the signal from the sections; the published code makes them black."""
        if not bool(draws.any()):
            return
        keep = view.per_section((~draws).float())
        if view.weight_bcxyz is None:
            view.intensity_bcxyz = view.intensity_bcxyz * keep
        else:
            view.weight_bcxyz = view.weight_bcxyz * keep


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
