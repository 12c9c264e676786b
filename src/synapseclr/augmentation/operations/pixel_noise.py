"""Pixel noise: multiplicative lognormal and additive Gaussian."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from synapseclr.augmentation.config import AugmentationConfig, NonNegative
from synapseclr.augmentation.operation import Operation, Source, ViewState
from synapseclr.augmentation.threads import together


@dataclass(frozen=True)
class NoiseDraws:
    """Noise scales, shape (n,), and the seed of both noise fields."""

    additive_scale_n: Tensor
    multiplicative_scale_n: Tensor
    seed: int


class PixelNoise(Operation):
    """Multiply by lognormal noise of mean 1, add Gaussian noise, clamp to [0, 1]; the scales are drawn per sample.

    The published code divides the lognormal field by its own mean, ours by its expectation: the same to 1e-5 on a
    chunk.
    """

    name: ClassVar[str] = "pixel_noise"

    global_additive_gaussian_noise_scale_min: NonNegative = 0.0
    global_additive_gaussian_noise_scale_max: NonNegative = 0.05
    global_multiplicative_lognormal_noise_scale_min: NonNegative = 0.0
    global_multiplicative_lognormal_noise_scale_max: NonNegative = 0.05

    def draw(self, source: Source, config: AugmentationConfig) -> NoiseDraws:
        """Scales and a seed."""
        additive, multiplicative = (
            source.uniform(
                getattr(self, f"{name}_noise_scale_min"), getattr(self, f"{name}_noise_scale_max"), source.n_intensity
            )
            for name in ("global_additive_gaussian", "global_multiplicative_lognormal")
        )
        return NoiseDraws(additive, multiplicative, source.seed())

    def apply(self, view: ViewState, draws: NoiseDraws) -> None:
        """Add the noise, generated on the batch's device."""
        view.intensity_bcxyz = add_pixel_noise(
            view.intensity_bcxyz,
            view.per_sample(draws.additive_scale_n),
            view.per_sample(draws.multiplicative_scale_n),
            *normal_fields(view.intensity_bcxyz.shape, draws.seed, view.device),
            empirical_mean=view.published,
        )


def normal_fields(shape: torch.Size, seed: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Two standard normal fields, float32, generated on a device from a seed."""
    fields = torch.empty(shape, device=device), torch.empty(shape, device=device)
    generator = torch.Generator(device=device).manual_seed(seed)
    if device.type == "cpu":
        # torch draws on one thread: a generator for each field, started from one seed.
        second = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=generator)))
        together([lambda: fields[0].normal_(generator=generator), lambda: fields[1].normal_(generator=second)])
    else:
        for each in fields:
            each.normal_(generator=generator)
    return fields


def add_pixel_noise(
    intensity_bcxyz: Tensor,
    additive_scale: Tensor,
    multiplicative_scale: Tensor,
    additive_bcxyz: Tensor,
    multiplicative_bcxyz: Tensor,
    empirical_mean: bool = False,
) -> Tensor:
    """Multiply by lognormal noise of mean 1, add Gaussian noise, clamp to [0, 1].

    Args:
        intensity_bcxyz: Intensities in [0, 1], shape (batch, channels, x, y, z).
        additive_scale: Standard deviation of the additive noise; broadcasts against the intensities, as the next one.
        multiplicative_scale: Standard deviation of the logarithm of the multiplicative noise.
        additive_bcxyz: Standard normal field; overwritten.
        multiplicative_bcxyz: Standard normal field; overwritten.
        empirical_mean: Divide the lognormal field by its own mean, as published, instead of its expectation
            ``exp(scale^2 / 2)``.

    Returns:
        A new tensor of the same shape, in [0, 1].
    """
    if empirical_mean:
        factor = multiplicative_bcxyz.mul_(multiplicative_scale).exp_()
        factor.div_(factor.mean(dim=(1, 2, 3, 4), keepdim=True))
    else:
        factor = multiplicative_bcxyz.mul_(multiplicative_scale).sub_(0.5 * multiplicative_scale**2).exp_()
    return additive_bcxyz.mul_(additive_scale).addcmul_(intensity_bcxyz, factor).clamp_(0.0, 1.0)
