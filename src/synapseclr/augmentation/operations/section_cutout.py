"""Cut-outs of whole sections."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from synapseclr.augmentation.config import AugmentationConfig, NonNegative, Probability
from synapseclr.augmentation.operation import Operation, Source, ViewState


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
