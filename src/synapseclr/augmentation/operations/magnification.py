"""Magnification of the output cube: close-ups beside views of the whole synapse."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from synapseclr.augmentation.config import AugmentationConfig
from synapseclr.augmentation.operation import Operation, Source, ViewState


class Magnification(Operation):
    """Make the voxels of the image smaller, so that it shows less of the chunk in finer detail.

    The published views have one size. An encoder that has seen several can embed close-ups too
    (``embedding.magnifications``): vesicles and the outline of a density are lost in voxels that are large enough to
    show the whole synapse. The prepared volume has the pitch of unmagnified views, so factors above 2 show nothing new.
    Displacement and the radius of the active zone keep their lengths in the tissue.

    Attributes:
        magnification_max: Factors are drawn from 1 to this, uniform in the logarithm.
    """

    name: ClassVar[str] = "magnification"

    magnification_max: Annotated[float, Field(ge=1.0)] = 1.8

    def draw(self, source: Source, config: AugmentationConfig) -> Tensor:
        """Factors, float64, (n,)."""
        return source.uniform(0.0, math.log(self.magnification_max), source.n).double().exp()

    def apply(self, view: ViewState, draws: Tensor) -> None:
        """Shorten the steps of the pose."""
        view.pose = replace(view.pose, matrix_bij=magnified(view.pose.matrix_bij, draws))


def magnified(matrix_bij: Tensor, factor_n: Tensor) -> Tensor:
    """The matrices of poses, (batch or 1, 3, 3), magnified by factors, (batch or 1,)."""
    return matrix_bij / factor_n.to(torch.float64)[:, None, None]
