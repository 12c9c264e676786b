"""Intensities: tone maps ``clamp(intercept + slope x^gamma)`` of a sample or of each section, and the z-score."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from synapseclr.augmentation.config import AugmentationConfig, NonNegative, Positive
from synapseclr.augmentation.masks import CLEFT, POST, PRE
from synapseclr.augmentation.operation import Operation, Source, ViewState

VALID_WEIGHT = 0.5  # above it, an output voxel holds a signal


class ToneDraws(NamedTuple):
    """Parameters of a tone map, each of shape (n, sections) or (n, 1)."""

    intercept: Tensor
    slope: Tensor
    gamma: Tensor


class GlobalIntensity(Operation):
    """Map intensities to ``clamp(intercept + slope x^gamma)``, one draw for all sections."""

    name: ClassVar[str] = "global_intensity"

    global_intensity_intercept_min: float = -0.05
    global_intensity_intercept_max: float = 0.05
    global_intensity_slope_min: NonNegative = 0.9
    global_intensity_slope_max: NonNegative = 1.1
    global_intensity_gamma_min: Positive = 0.9
    global_intensity_gamma_max: Positive = 1.1

    def draw(self, source: Source, config: AugmentationConfig) -> ToneDraws:
        """Parameters (n, 1)."""
        return draw_tone(self, source, 1)

    def apply(self, view: ViewState, draws: ToneDraws) -> None:
        """Map the tones."""
        map_view(view, draws, lambda values_n1: view.per_sample(values_n1[:, 0]))


def draw_tone(operation: Operation, source: Source, n_sections: int) -> ToneDraws:
    """Draw each parameter uniformly from its range, (n, n_sections)."""

    def drawn(name: str) -> Tensor:
        low, high = (getattr(operation, f"{operation.name}_{name}_{end}") for end in ("min", "max"))
        return source.uniform(low, high, source.n_intensity, n_sections)

    return ToneDraws(drawn("intercept"), drawn("slope"), drawn("gamma"))


def map_view(view: ViewState, draws: ToneDraws, spread: Callable[[Tensor], Tensor]) -> None:
    """Map the tones of a view; ``spread`` makes parameters broadcast with its intensities."""
    gamma = None if bool((draws.gamma == 1).all()) else spread(draws.gamma)  # powers are what a tone map costs
    view.intensity_bcxyz = map_tone(view.intensity_bcxyz, spread(draws.intercept), spread(draws.slope), gamma)


def map_tone(intensity_bcxyz: Tensor, intercept: Tensor, slope: Tensor, gamma: Tensor | None = None) -> Tensor:
    """``clamp(intercept + slope * x ** gamma, 0, 1)``; the parameters broadcast against the intensities.

    Args:
        intensity_bcxyz: Intensities in [0, 1], shape (batch, channels, x, y, z).
        intercept: a.
        slope: b.
        gamma: g; None is 1, and no power is taken.

    Returns:
        A new tensor of the same shape, in [0, 1].
    """
    mapped = intensity_bcxyz * slope if gamma is None else intensity_bcxyz.pow(gamma).mul_(slope)
    return mapped.add_(intercept).clamp_(0.0, 1.0)


class SectionalIntensity(Operation):
    """Map intensities to ``clamp(intercept + slope x^gamma)``, drawn anew for every section."""

    name: ClassVar[str] = "sectional_intensity"

    sectional_intensity_intercept_min: float = -0.05
    sectional_intensity_intercept_max: float = 0.05
    sectional_intensity_slope_min: NonNegative = 0.9
    sectional_intensity_slope_max: NonNegative = 1.1
    sectional_intensity_gamma_min: Positive = 0.9
    sectional_intensity_gamma_max: Positive = 1.1

    def draw(self, source: Source, config: AugmentationConfig) -> ToneDraws:
        """Parameters (n, sections)."""
        return draw_tone(self, source, source.n_sections)

    def apply(self, view: ViewState, draws: ToneDraws) -> None:
        """Map the tones of each voxel's section."""
        map_view(view, draws, view.per_section)


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
