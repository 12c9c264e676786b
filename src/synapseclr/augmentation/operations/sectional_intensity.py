"""Tone map of each section."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from synapseclr.augmentation.operations.operation import Operation, Source, ViewState
from synapseclr.augmentation.operations.tone_map import (
    NonNegative,
    Positive,
    ToneDraws,
    check_ranges,
    draw_tone,
    map_tone,
    powers,
)

if TYPE_CHECKING:
    from synapseclr.augmentation.config import AugmentationConfig


class SectionalIntensity(Operation):
    """Map intensities to ``clamp(intercept + slope x^gamma)``, drawn anew for every section."""

    name: ClassVar[str] = "sectional_intensity"

    sectional_intensity_intercept_min: float = -0.05
    sectional_intensity_intercept_max: float = 0.05
    sectional_intensity_slope_min: NonNegative = 0.9
    sectional_intensity_slope_max: NonNegative = 1.1
    sectional_intensity_gamma_min: Positive = 0.9
    sectional_intensity_gamma_max: Positive = 1.1

    _ordered = check_ranges

    def draw(self, source: Source, config: AugmentationConfig) -> ToneDraws:
        """Parameters (n, sections)."""
        return draw_tone(self, self.name, source, source.n_sections)

    def apply(self, view: ViewState, draws: ToneDraws) -> None:
        """Map the tones of each voxel's section."""
        gamma = powers(draws)
        given = [draws.intercept, draws.slope, *([] if gamma is None else [gamma])]
        view.intensity_bcxyz = map_tone(view.intensity_bcxyz, *(view.per_section(each) for each in given))
