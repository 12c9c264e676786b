"""Tone map of each section."""

from __future__ import annotations

from typing import ClassVar

from synapseclr.augmentation.config import AugmentationConfig, NonNegative, Positive
from synapseclr.augmentation.operation import Operation, Source, ViewState
from synapseclr.augmentation.operations.global_intensity import ToneDraws, draw_tone, map_view


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
