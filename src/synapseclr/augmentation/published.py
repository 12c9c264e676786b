"""The published augmentation, errors included: for parity with published weights and golden vectors."""

import torch
from torch import Tensor

from synapseclr.augmentation.active_zone import CLEFT, POST, PRE, active_zone
from synapseclr.augmentation.config import AugmentationConfig
from synapseclr.augmentation.cutouts import (
    corner_keep,
    draw_hole_centres,
    hole_probability,
    holes_keep,
    periphery_keep,
    random_box_keep,
)
from synapseclr.augmentation.dilation import dilate_ball
from synapseclr.augmentation.draws import ViewDraws
from synapseclr.augmentation.geometry import flip_axes, published_grid, published_scale, published_theta, swap_xy
from synapseclr.augmentation.intensity import add_pixel_noise, blur_gaussian, cut_sections, map_tone, noise_fields
from synapseclr.augmentation.resampling import empty_table, layout_for, memory_order, resample
from synapseclr.errors import SynapseCLRError

LEVELS = 256


def decode_published(
    chunk_bcxyz: Tensor, norm_scale: float, shared_grid: bool = True, draws: ViewDraws | None = None
) -> tuple[Tensor, Tensor]:
    """Steps 1 to 3: decode, cut sections, map tones.

    A section's intensities have 256 levels, so cut-outs and tone maps act on a table of levels, which the voxels then
    look up: the same values for a fraction of the work.

    Args:
        chunk_bcxyz: uint8 chunks, shape (batch, 2, x, y, z).
        norm_scale: The level that becomes 1.
        shared_grid: The memory layout, see ``empty_table``.
        draws: Cut-outs and tone maps; None for none.

    Returns:
        Intensities in [0, 1], (batch, 1, x, y, z), and masks (pre, cleft, post) as 0 or 1, (batch, 3, x, y, z).
        Both are float32.
    """
    chunk = layout_for(chunk_bcxyz, shared_grid)
    batch, _, *shape = chunk.shape
    table = None if draws is None else _level_table(draws, norm_scale, shape[-1], chunk.device)
    intensity = empty_table((batch, 1, *shape), shared_grid, chunk.device)
    if table is None:
        intensity.copy_(chunk[:, :1]).div_(norm_scale).clamp_(0.0, 1.0)
    else:
        start_bz = torch.arange(table.numel() // LEVELS, dtype=torch.int32, device=chunk.device) * LEVELS
        index = chunk[:, :1].to(torch.int32).add_(start_bz.reshape(len(table), 1, 1, 1, -1))
        order, back = memory_order(shared_grid)
        index = index.permute(order)
        intensity = table.flatten().index_select(0, index.flatten()).view(index.shape).permute(back)
    mask = empty_table((batch, 3, *shape), shared_grid, chunk.device)
    for channel in range(3):
        mask[:, channel].copy_(chunk[:, 1] == channel + 1)
    return intensity, mask


def _levels(norm_scale: float, device: torch.device) -> Tensor:
    return torch.arange(LEVELS, device=device, dtype=torch.float32).div_(norm_scale).clamp_(0.0, 1.0)


def _level_table(draws: ViewDraws, norm_scale: float, n_sections: int, device: torch.device) -> Tensor | None:
    """What every level becomes, (batch or 1, section, level); None where levels stay as they are."""
    tones = [tone for tone in (draws.sectional, draws.global_tone) if tone is not None]
    if draws.section_cut_bz is None and not tones:
        return None
    table = _levels(norm_scale, device).reshape(1, 1, 1, -1, 1).expand(-1, -1, -1, -1, n_sections)
    if draws.section_cut_bz is not None:
        table = cut_sections(table, draws.section_cut_bz)
    for tone in tones:
        table = map_tone(table, tone)
    return table[:, 0, 0].transpose(1, 2).contiguous()


def resample_published(
    intensity_bcxyz: Tensor, mask_bcxyz: Tensor, theta_bik: Tensor, final_img_size: int
) -> tuple[Tensor, Tensor]:
    """Step 5: trilinear with zeros outside; masks thresholded above 0.5.

    Args:
        intensity_bcxyz: Intensities, shape (batch, 1, x, y, z).
        mask_bcxyz: Masks as 0 or 1, float32, shape (batch, 3, x, y, z).
        theta_bik: Affine matrices, shape (1 or batch, 3, 4), on the CPU.
        final_img_size: Side of the output cube.

    Returns:
        Intensities in [0, 1] and boolean masks, (batch, 1 or 3, size, size, size), contiguous.
    """
    shape = tuple(intensity_bcxyz.shape[2:])
    grid = published_grid(theta_bik.to(intensity_bcxyz.device, non_blocking=True), shape, final_img_size)
    intensity, mask = resample([intensity_bcxyz, mask_bcxyz], grid, [None, 0.5])
    return intensity.clamp_(0.0, 1.0), mask


def decode_and_resample(
    chunk_bcxyz: Tensor, theta_bik: Tensor, config: AugmentationConfig, draws: ViewDraws, compiled: bool = True
) -> tuple[Tensor, Tensor]:
    """Steps 1 to 5; compiled loops take those of a batch on a CPU that shares its positions, unless told not to.

    Returns:
        Intensities in [0, 1] and boolean masks, (batch, 1 or 3, size, size, size), contiguous.
    """
    shape, size = chunk_bcxyz.shape[2:], config.final_img_size
    if compiled and chunk_bcxyz.device.type == "cpu" and len(theta_bik) == 1:
        from synapseclr.augmentation.compiled.coupled import resample_chunk_published  # numba loads in a second

        table = _level_table(draws, config.norm_scale, shape[-1], chunk_bcxyz.device)
        if table is None:
            table = _levels(config.norm_scale, chunk_bcxyz.device).expand(1, shape[-1], -1)
        grid = published_grid(theta_bik, shape, size)
        intensity, mask = resample_chunk_published(chunk_bcxyz, grid, table, draws.noise)
        return intensity.clamp_(0.0, 1.0), mask
    intensity, mask_float = decode_published(chunk_bcxyz, config.norm_scale, config.batch_mode == "coupled", draws)
    if draws.noise is not None:
        noise, fields = draws.noise, noise_fields(intensity, draws.noise.seed)
        intensity = add_pixel_noise(intensity, noise.additive_scale_b, noise.multiplicative_scale_b, *fields, True)
    return resample_published(intensity, mask_float, theta_bik, size)


def apply_published(chunk_bcxyz: Tensor, config: AugmentationConfig, draws: ViewDraws) -> tuple[Tensor, Tensor]:
    """Apply the draws of one view as the published code does.

    Returns:
        ``intensity_bcxyz`` z-scored, float32, and ``mask_bcxyz`` boolean (pre, cleft, post).

    Raises:
        SynapseCLRError: If the chunk is not square in x and y (the published code refuses it too).
    """
    shape = tuple(chunk_bcxyz.shape[2:])
    if shape[0] != shape[1]:
        raise SynapseCLRError(f"published fidelity needs chunks that are square in x and y, found {shape}")
    scale_i = published_scale(shape, config.final_crop_size, config.axial_to_sagittal_spacing)
    theta_bik = published_theta(draws.rotation_bij, draws.displacement_bi, scale_i)
    intensity, mask = decode_and_resample(chunk_bcxyz, theta_bik, config, draws)
    if draws.blur_sigma_b is not None:
        intensity = blur_gaussian(intensity, draws.blur_sigma_b)
    intensity, mask = _cut(intensity, mask, config, draws)
    if draws.flip_bi is not None:
        intensity, mask = flip_axes(intensity, draws.flip_bi), flip_axes(mask, draws.flip_bi)
    if draws.swap_b is not None:
        intensity, mask = swap_xy(intensity, draws.swap_b), swap_xy(mask, draws.swap_b)
    intensity, mask = mask_published(intensity, mask, config, draws.radius_b)
    return (intensity - config.intensity_mean).div_(config.intensity_std), mask


def _cut(intensity: Tensor, mask: Tensor, config: AugmentationConfig, draws: ViewDraws) -> tuple[Tensor, Tensor]:
    """Steps 7 to 10."""
    size, device, centre = config.final_img_size, intensity.device, config.preserve_center_unmasked
    if draws.hole_fraction_b is not None:
        radii = config.swiss_cheese_radii
        centre_blxyz = draw_hole_centres(hole_probability(draws.hole_fraction_b, radii), size, draws.hole_seed, device)
        intensity = intensity * holes_keep(centre_blxyz, radii)[:, None]
    keeps = [corner_keep(index_b, size, centre, True, device) for index_b in draws.corner_index_b]
    keeps += [random_box_keep(box.low_bi, box.high_bi, box.apply_b, size, centre, device) for box in draws.random_boxes]
    if draws.periphery is not None:
        box = draws.periphery
        keeps.append(periphery_keep(box.low_bi, box.high_bi, box.apply_b, size, device))
    for keep in keeps:
        intensity, mask = intensity * keep[:, None], mask & keep[:, None]
    return intensity, mask


def mask_published(
    intensity: Tensor, mask: Tensor, config: AugmentationConfig, radius_b: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Step 12: intensities outside the active zone become 0, in one channel or one per side."""
    radius = 0 if radius_b is None else radius_b
    zone = active_zone(mask, config.connectivity, radius) if config.enable_active_zone else None
    if config.channel_organization == "merged":
        return (intensity, mask) if zone is None else (intensity * zone[:, None], mask & zone[:, None])
    sides = torch.stack([dilate_ball(mask[:, side] | mask[:, CLEFT], radius) for side in (PRE, POST)], dim=1)
    return intensity * (sides if zone is None else sides & zone[:, None]), mask
