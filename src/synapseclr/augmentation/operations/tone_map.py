"""The tone map ``clamp(intercept + slope x^gamma)``, which sections and samples get alike."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, Field, model_validator
from torch import Tensor

from synapseclr.augmentation.operations.operation import Source

NonNegative = Annotated[float, Field(ge=0.0)]
Positive = Annotated[float, Field(gt=0.0)]


class ToneDraws(NamedTuple):
    """Parameters of a tone map, each of shape (n, sections) or (n, 1)."""

    intercept: Tensor
    slope: Tensor
    gamma: Tensor


def check_minimum_below_maximum(parameters: BaseModel) -> BaseModel:
    """Refuse a ``*_min`` above its ``*_max``."""
    for name in type(parameters).model_fields:
        if name.endswith("_min"):
            low, high = getattr(parameters, name), getattr(parameters, f"{name[:-4]}_max")
            if low > high:
                raise ValueError(f"{name} ({low}) is above {name[:-4]}_max ({high})")
    return parameters


check_ranges: Any = model_validator(mode="after")(check_minimum_below_maximum)


def draw_tone(parameters: BaseModel, family: str, source: Source, n_sections: int) -> ToneDraws:
    """Draw each parameter uniformly from its range, (n, n_sections)."""

    def drawn(name: str) -> Tensor:
        low, high = (getattr(parameters, f"{family}_{name}_{end}") for end in ("min", "max"))
        return source.uniform(low, high, source.n_intensity, n_sections)

    return ToneDraws(drawn("intercept"), drawn("slope"), drawn("gamma"))


def powers(draws: ToneDraws) -> Tensor | None:
    """The exponents of a draw, or None where all are 1: powers are what a tone map costs."""
    return None if bool((draws.gamma == 1).all()) else draws.gamma


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
