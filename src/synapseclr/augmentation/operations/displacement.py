"""Displacement of the output cube."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from torch import Tensor

from synapseclr.augmentation.config import AugmentationConfig, NonNegative
from synapseclr.augmentation.operation import Operation, Source, ViewState


class Displacement(Operation):
    """Move the output cube along the axes of the chunk, by at most a fraction of half its side."""

    name: ClassVar[str] = "displacement"

    global_max_relative_displacement: NonNegative = 0.2

    def draw(self, source: Source, config: AugmentationConfig) -> Tensor:
        """Displacements in half sides, (n, 3)."""
        reach = self.global_max_relative_displacement
        return source.uniform(-reach, reach, source.n, 3)

    def apply(self, view: ViewState, draws: Tensor) -> None:
        """Move the pose."""
        view.pose = replace(view.pose, displacement_bi=view.pose.displacement_bi + draws)
