"""The randomness of one view, drawn before anything is applied, so that it can be replayed, logged and tested.

Every number lives on the CPU and is small: decisions taken from it cost no device synchronisation. Voxel-wise fields
(noise, hole centres) are represented by a seed and generated on the batch's device when they are applied.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from synapseclr.augmentation.config import AugmentationConfig
from synapseclr.augmentation.cutouts import N_CORNER_BOXES


@dataclass(frozen=True)
class ToneDraws:
    """Parameters of ``clamp(intercept + slope * x ** gamma)``, shape (n, sections) or (n, 1)."""

    intercept: Tensor
    slope: Tensor
    gamma: Tensor


@dataclass(frozen=True)
class NoiseDraws:
    """Noise scales per sample, shape (n,), and the seed of both noise fields."""

    additive_scale_b: Tensor
    multiplicative_scale_b: Tensor
    seed: int


@dataclass(frozen=True)
class BoxDraws:
    """Boxes ``[low, high)`` in output voxels, shape (n, 3), and whether each is applied, shape (n,)."""

    low_bi: Tensor
    high_bi: Tensor
    apply_b: Tensor


@dataclass(frozen=True)
class ViewDraws:
    """All random numbers of one view; ``None`` where an operation is off. n is 1 (shared) or the batch size."""

    section_cut_bz: Tensor | None = None
    sectional: ToneDraws | None = None
    global_tone: ToneDraws | None = None
    noise: NoiseDraws | None = None
    rotation_bij: Tensor | None = None
    displacement_bi: Tensor | None = None
    blur_sigma_b: Tensor | None = None
    hole_fraction_b: Tensor | None = None
    hole_seed: int = 0
    corner_index_b: tuple[Tensor, ...] = ()
    random_boxes: tuple[BoxDraws, ...] = ()
    periphery: BoxDraws | None = None
    flip_bi: Tensor | None = None
    swap_b: Tensor | None = None
    radius_b: Tensor | None = None


class _Source:
    """Shorthands over one generator."""

    def __init__(self, generator: torch.Generator | None) -> None:
        self.generator = generator

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=self.generator)

    def chance(self, probability: float, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator) < probability

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Integers from low to high - 1."""
        return torch.randint(low, high, shape, generator=self.generator)

    def seed(self) -> int:
        return int(self.integers(0, 2**62, 1))

    def tone(self, config: AugmentationConfig, family: str, n: int, sections: int) -> ToneDraws:
        def drawn(name: str) -> Tensor:
            low, high = (getattr(config, f"{family}_intensity_{name}_{end}") for end in ("min", "max"))
            return self.uniform(low, high, n, sections)

        return ToneDraws(drawn("intercept"), drawn("slope"), drawn("gamma"))


def draw_rotations(n: int, generator: torch.Generator | None = None) -> Tensor:
    """Rotation matrices, uniform on SO(3), from normalised Gaussian quaternions.

    Args:
        n: How many.
        generator: A CPU generator; ``None`` takes torch's default one.

    Returns:
        float64 matrices, shape (n, 3, 3), determinant +1.

    Source: Shoemake 1992, Uniform random rotations, Graphics Gems III.
    """
    quaternion = torch.randn(n, 4, generator=generator, dtype=torch.float64)
    w, x, y, z = (quaternion / quaternion.norm(dim=1, keepdim=True)).unbind(1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], dim=1),
        torch.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], dim=1),
        torch.stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], dim=1),
    ]
    return torch.stack(rows, dim=1)


def _draw_random_box(source: _Source, config: AugmentationConfig, n: int) -> BoxDraws:
    size = config.final_img_size
    low_bi = source.integers(0, size - config.cutout_size_min, n, 3)
    side_bi = source.integers(config.cutout_size_min, config.cutout_size_max + 1, n, 3)
    return BoxDraws(low_bi, (low_bi + side_bi).clamp(max=size), source.chance(config.random_cutout_prob, n))


def _draw_periphery_box(source: _Source, config: AugmentationConfig, n: int) -> BoxDraws:
    size = config.final_img_size
    reach = 0.5 * config.periphery_cutout_center_max_displacement_fraction * size
    centre_bi = source.integers(max(int(0.5 * size - reach), 0), min(int(0.5 * size + reach), size), n, 3)
    half_b1 = source.integers(
        int(0.5 * size * config.periphery_cutout_center_fraction_min),
        int(0.5 * size * config.periphery_cutout_center_fraction_max),
        n,
        1,
    )
    apply_b = source.chance(config.random_periphery_cutout_prob, n)
    return BoxDraws((centre_bi - half_b1).clamp(min=0), (centre_bi + half_b1).clamp(max=size), apply_b)


def _draw_corner(source: _Source, config: AugmentationConfig, n: int) -> Tensor:
    index_b = source.integers(1, N_CORNER_BOXES + 1, n)
    return torch.where(source.chance(config.corner_cutout_prob, n), index_b, 0)


def _pick(source: _Source, choices: tuple[float, ...], n: int) -> Tensor:
    return torch.tensor(choices)[source.integers(0, len(choices), n)]


def draw_view(
    config: AugmentationConfig, batch_size: int, n_sections: int, generator: torch.Generator | None = None
) -> ViewDraws:
    """Draw the parameters of one view.

    Under ``coupled`` every draw is shared over the batch (n = 1). The published code shares only the geometric and
    cut-out draws (and the inflation radius in either mode): ``fidelity="published"`` follows it.

    Args:
        config: What to draw.
        batch_size: Number of chunks.
        n_sections: Sections (z) of the chunks.
        generator: A CPU generator; ``None`` takes torch's default one.

    Raises:
        ValueError: If the generator is not on the CPU (its numbers would have to be read back from the device).
    """
    if generator is not None and generator.device.type != "cpu":
        raise ValueError(
            f"the generator is on {generator.device}; pass a CPU torch.Generator: draws steer the host without a "
            "device synchronisation, and noise fields are generated on the batch's device from a drawn seed"
        )
    source, published = _Source(generator), config.fidelity == "published"
    n = 1 if config.batch_mode == "coupled" else batch_size
    n_tone = batch_size if published else n
    probability = min(1.0, config.cutout_poisson_rate / n_sections)
    draws: dict[str, object] = {}
    if config.enable_section_cutout:
        do_b1 = source.chance(config.section_cutout_prob, n_tone, 1)
        draws["section_cut_bz"] = source.chance(probability, n_tone, n_sections) & do_b1
    if config.enable_sectional_intensity:
        draws["sectional"] = source.tone(config, "sectional", n_tone, n_sections)
    if config.enable_global_intensity:
        draws["global_tone"] = source.tone(config, "global", n_tone, 1)
    if config.enable_pixel_noise:
        additive, multiplicative = (
            source.uniform(
                getattr(config, f"{name}_noise_scale_min"), getattr(config, f"{name}_noise_scale_max"), n_tone
            )
            for name in ("global_additive_gaussian", "global_multiplicative_lognormal")
        )
        draws["noise"] = NoiseDraws(additive, multiplicative, source.seed())
    if config.enable_rotation:
        draws["rotation_bij"] = draw_rotations(n, generator)
    if config.enable_displacement:
        reach = config.global_max_relative_displacement
        draws["displacement_bi"] = source.uniform(-reach, reach, n, 3)
    if config.enable_gaussian_blur:
        sigma_b = _pick(source, config.gaussian_blur_sigmas, n)
        draws["blur_sigma_b"] = torch.where(source.chance(config.gaussian_blur_prob, n), sigma_b, 0.0)
    if config.enable_swiss_cheese:
        draws["hole_fraction_b"] = source.uniform(0.0, config.swiss_cheese_max_vol_fraction, n)
        draws["hole_seed"] = source.seed()
    if config.enable_corner_cutout:
        draws["corner_index_b"] = tuple(
            _draw_corner(source, config, n) for _ in range(config.n_corner_cutout_applications)
        )
    if config.enable_random_cutout:
        draws["random_boxes"] = tuple(
            _draw_random_box(source, config, n) for _ in range(config.n_random_cutout_applications)
        )
    if config.enable_random_periphery_cutout:
        draws["periphery"] = _draw_periphery_box(source, config, n)
    enabled_i = torch.tensor([config.enable_x_flip, config.enable_y_flip, config.enable_z_flip])
    if bool(enabled_i.any()):
        draws["flip_bi"] = source.chance(0.5, n, 3) & enabled_i
    if config.enable_xy_swap:
        draws["swap_b"] = source.chance(0.5, n)
    if config.enable_active_zone:
        draws["radius_b"] = _pick(source, config.active_zone_inflation_radii, 1 if published else n).long()
    return ViewDraws(**draws)  # type: ignore[arg-type]
