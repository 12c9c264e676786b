"""Intensity operations: section cut-outs, tone maps, pixel noise and blur."""

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from synapseclr.augmentation.draws import ToneDraws, ViewDraws

VALID_WEIGHT = 0.5  # above it, an output voxel holds a signal
LEAST_WEIGHT = 1e-6


def _per_sample(values: Tensor, like: Tensor) -> Tensor:
    """(n,) or (n, z) on the CPU to (n, 1, 1, 1, 1 or z) on the device of ``like``."""
    values = values.to(like.device, like.dtype, non_blocking=True)
    return values.reshape(values.shape[0], 1, 1, 1, -1)


def cut_sections(intensity_bcxyz: Tensor, section_cut_bz: Tensor) -> Tensor:
    """Zero whole sections.

    Args:
        intensity_bcxyz: Intensities, or validity weights, shape (batch, channels, x, y, z).
        section_cut_bz: True where a section goes, shape (batch or 1, z).

    Returns:
        A new tensor of the same shape.
    """
    return intensity_bcxyz * _per_sample(~section_cut_bz, intensity_bcxyz)


def map_tone(intensity_bcxyz: Tensor, tone: ToneDraws) -> Tensor:
    """``clamp(intercept + slope * x ** gamma, 0, 1)`` per section or per sample.

    Args:
        intensity_bcxyz: Intensities in [0, 1], shape (batch, channels, x, y, z).
        tone: Parameters, shape (batch or 1, z) or (batch or 1, 1).

    Returns:
        A new tensor of the same shape, in [0, 1].
    """
    slope, intercept = _per_sample(tone.slope, intensity_bcxyz), _per_sample(tone.intercept, intensity_bcxyz)
    gamma = _per_sample(tone.gamma, intensity_bcxyz)
    if gamma.numel() > 1 and intensity_bcxyz.stride(0) == 1:
        # Repeated along the batch, which is innermost here: torch then takes powers of whole rows, twice as fast.
        gamma = gamma.expand(len(intensity_bcxyz), -1, -1, -1, -1).movedim(0, -1).contiguous().movedim(-1, 0)
    mapped = intensity_bcxyz.pow(gamma)
    return mapped.mul_(slope).add_(intercept).clamp_(0.0, 1.0)


def map_tones(intensity_bcxyz: Tensor, draws: ViewDraws, factor_z: int = 1) -> Tensor:
    """The tone maps of a view, per section and then per sample.

    Args:
        intensity_bcxyz: Intensities in [0, 1], shape (batch, channels, x, y, z).
        draws: Of the view; None of it for no tone map.
        factor_z: Sections of the chunk that make up one of the intensities; the first one's parameters are taken.
    """
    if draws.sectional is not None:
        tone = draws.sectional
        intensity_bcxyz = map_tone(intensity_bcxyz, ToneDraws(*(p[:, ::factor_z] for p in vars(tone).values())))
    return intensity_bcxyz if draws.global_tone is None else map_tone(intensity_bcxyz, draws.global_tone)


def normal_fields(length: int, seed: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Two flat standard normal fields, float32, generated on a device from a seed."""
    flat = torch.empty(length, device=device), torch.empty(length, device=device)
    generator = torch.Generator(device=device or "cpu").manual_seed(seed)
    if flat[0].device.type == "cpu":
        # torch draws on one thread: a thread and a generator for each field, started from one seed.
        second = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=generator)))
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda field, source: field.normal_(generator=source), flat, (generator, second)))
    else:
        for field in flat:
            field.normal_(generator=generator)
    return flat


def noise_fields(intensity_bcxyz: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Two standard normal fields like the intensities, generated on their device from a seed."""
    # Drawn flat and then given the layout of the intensities: torch fills other layouts voxel by voxel, 8 times slower.
    dense = intensity_bcxyz if intensity_bcxyz.is_contiguous() else torch.empty_like(intensity_bcxyz)
    additive, multiplicative = (
        field.as_strided(dense.shape, dense.stride())
        for field in normal_fields(dense.numel(), seed, intensity_bcxyz.device)
    )
    return additive, multiplicative


def lognormal_factor(normal: Tensor, scale: Tensor) -> Tensor:
    """Lognormal noise of mean 1 from a standard normal field, which is overwritten; the scale broadcasts against it."""
    return normal.mul_(scale).sub_(0.5 * scale**2).exp_()


def add_pixel_noise(
    intensity_bcxyz: Tensor,
    additive_scale_b: Tensor,
    multiplicative_scale_b: Tensor,
    additive_bcxyz: Tensor,
    multiplicative_bcxyz: Tensor,
    empirical_mean: bool = False,
) -> Tensor:
    """Multiply by lognormal noise of mean 1, add Gaussian noise, clamp to [0, 1].

    Args:
        intensity_bcxyz: Intensities in [0, 1], shape (batch, channels, x, y, z).
        additive_scale_b: Standard deviation of the additive noise, shape (batch or 1,).
        multiplicative_scale_b: Standard deviation of the logarithm of the multiplicative noise, shape (batch or 1,).
        additive_bcxyz: Standard normal field; overwritten.
        multiplicative_bcxyz: Standard normal field; overwritten.
        empirical_mean: Divide the lognormal field by its own mean, as published, instead of its expectation
            ``exp(scale^2 / 2)``: the same to 1e-5 on a whole chunk, at the cost of a pass.

    Returns:
        A new tensor of the same shape, in [0, 1].
    """
    scale = _per_sample(multiplicative_scale_b, intensity_bcxyz)
    if empirical_mean:
        factor = multiplicative_bcxyz.mul_(scale).exp_()
        factor.div_(factor.mean(dim=(1, 2, 3, 4), keepdim=True))
    else:
        factor = lognormal_factor(multiplicative_bcxyz, scale)
    noise = additive_bcxyz.mul_(_per_sample(additive_scale_b, intensity_bcxyz))
    return noise.addcmul_(intensity_bcxyz, factor).clamp_(0.0, 1.0)


def blur_weights(sigma_b: Tensor) -> Tensor:
    """Weights (edge, centre) of the normalised one-dimensional 3-tap Gaussian; sigma 0 gives (0, 1); shape (n, 2)."""
    edge = torch.where(sigma_b > 0, torch.exp(-0.5 / sigma_b.double().clamp(min=1e-9) ** 2), 0.0)
    return torch.stack([edge, torch.ones_like(edge)], dim=1) / (1 + 2 * edge)[:, None]


def blur_gaussian(intensity_bcxyz: Tensor, sigma_b: Tensor) -> Tensor:
    """Blur with a 3 x 3 x 3 Gaussian kernel, zeros outside, as three passes (the normalised kernel is separable).

    Args:
        intensity_bcxyz: Intensities, shape (batch, channels, x, y, z).
        sigma_b: Standard deviation in voxels, 0 for no blur, shape (batch or 1,), on the CPU.

    Returns:
        A tensor of the same shape; the input itself when no sample is blurred.
    """
    if not bool((sigma_b > 0).any()):
        return intensity_bcxyz
    edge, centre = (_per_sample(weight, intensity_bcxyz) for weight in blur_weights(sigma_b).unbind(1))
    for axis in (2, 3, 4):
        rest = intensity_bcxyz.shape[axis] - 1
        blurred = intensity_bcxyz * centre
        blurred.narrow(axis, 1, rest).addcmul_(intensity_bcxyz.narrow(axis, 0, rest), edge)
        blurred.narrow(axis, 0, rest).addcmul_(intensity_bcxyz.narrow(axis, 1, rest), edge)
        intensity_bcxyz = blurred
    return intensity_bcxyz


def carried_intensity(
    signal_bcxyz: Tensor, weight_bcxyz: Tensor, sigma_b: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Intensities from weighted signals, blurred over the voxels that carry signal only (normalised convolution).

    Args:
        signal_bcxyz: Weighted intensities, shape (batch, 1, x, y, z).
        weight_bcxyz: Their weights in [0, 1], same shape.
        sigma_b: As in ``blur_gaussian``; None for no blur.

    Returns:
        ``intensity_bcxyz`` in [0, 1] and boolean ``valid_bcxyz``: where more than half of the weight carries signal.

    Source: Knutsson & Westin 1993, Normalized and differential convolution, doi:10.1109/CVPR.1993.341081.
    """
    valid_bcxyz = weight_bcxyz > VALID_WEIGHT
    if sigma_b is not None:
        signal_bcxyz, weight_bcxyz = blur_gaussian(signal_bcxyz, sigma_b), blur_gaussian(weight_bcxyz, sigma_b)
    return (signal_bcxyz / weight_bcxyz.clamp(min=LEAST_WEIGHT)).clamp_(0.0, 1.0), valid_bcxyz
