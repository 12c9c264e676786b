"""Gaussian blur."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from synapseclr.augmentation.config import AugmentationConfig, Positive, Probability
from synapseclr.augmentation.operation import Operation, Source, ViewState
from synapseclr.augmentation.operations.resampling import carried_intensity


class GaussianBlur(Operation):
    """Blur with a 3 x 3 x 3 Gaussian kernel, over the voxels that carry a signal only (normalised convolution).

    Source of the normalised convolution: Knutsson & Westin 1993, doi:10.1109/CVPR.1993.341081.
    """

    name: ClassVar[str] = "gaussian_blur"

    gaussian_blur_prob: Probability = 0.5
    gaussian_blur_sigmas: Annotated[tuple[Positive, ...], Field(min_length=1)] = (0.25, 0.5, 0.75)

    def draw(self, source: Source, config: AugmentationConfig) -> Tensor:
        """Standard deviation in voxels, 0 for no blur, (n,)."""
        sigma_n = source.choice(self.gaussian_blur_sigmas, source.n)
        return torch.where(source.chance(self.gaussian_blur_prob, source.n), sigma_n, 0.0)

    def apply(self, view: ViewState, draws: Tensor) -> None:
        """Blur the samples that were chosen."""
        chosen = torch.nonzero(draws > 0).flatten()
        if not len(chosen):
            return
        if len(draws) == 1 or view.published:
            view.intensity_bcxyz = self._blurred(view.intensity_bcxyz, view.weight_bcxyz, draws)
            return
        rows = chosen.to(view.device, non_blocking=True)
        intensity, weight = view.intensity_bcxyz[rows], view.weight_bcxyz
        part = None if weight is None else weight[rows]
        view.intensity_bcxyz[rows] = self._blurred(intensity, part, draws[chosen])

    def _blurred(self, intensity: Tensor, weight: Tensor | None, sigma_n: Tensor) -> Tensor:
        if weight is None:
            return blur_gaussian(intensity, sigma_n)
        return carried_intensity(blur_gaussian(intensity * weight, sigma_n), blur_gaussian(weight, sigma_n))


def blur_weights(sigma_n: Tensor) -> Tensor:
    """Weights (edge, centre) of the normalised one-dimensional 3-tap Gaussian; sigma 0 gives (0, 1); shape (n, 2)."""
    edge = torch.where(sigma_n > 0, torch.exp(-0.5 / sigma_n.double().clamp(min=1e-9) ** 2), 0.0)
    return torch.stack([edge, torch.ones_like(edge)], dim=1) / (1 + 2 * edge)[:, None]


def blur_gaussian(intensity_bcxyz: Tensor, sigma_n: Tensor) -> Tensor:
    """Blur with a 3 x 3 x 3 Gaussian kernel, zeros outside, as three passes (the normalised kernel is separable).

    Args:
        intensity_bcxyz: Intensities, shape (batch, channels, x, y, z).
        sigma_n: Standard deviation in voxels, 0 for no blur, shape (batch or 1,), on the CPU.

    Returns:
        A new tensor of the same shape.
    """
    weights = blur_weights(sigma_n).to(intensity_bcxyz.device, intensity_bcxyz.dtype, non_blocking=True)
    edge, centre = (weight[:, None, None, None, None] for weight in weights.unbind(1))
    for axis in (2, 3, 4):
        rest = intensity_bcxyz.shape[axis] - 1
        blurred = intensity_bcxyz * centre
        blurred.narrow(axis, 1, rest).addcmul_(intensity_bcxyz.narrow(axis, 0, rest), edge)
        blurred.narrow(axis, 0, rest).addcmul_(intensity_bcxyz.narrow(axis, 1, rest), edge)
        intensity_bcxyz = blurred
    return intensity_bcxyz
