"""The corrected augmentation: what the published operations meant.

Voxels of value 0 in the chunk (missing sections, padding at a volume's border), cut-out sections, everything beyond the
chunk, cut-outs, holes and what is outside the active zone carry no signal: they stay masked through every operation
and end as one constant.

The chunk is anti-aliased first (``pooling``). Tone maps and noise then act at the output's pitch, which leaves the
noise in a view as strong as the published one.
"""

from functools import reduce

import torch
from torch import Tensor

from synapseclr.augmentation.active_zone import CLEFT, POST, PRE, neurite_sides, with_fallback
from synapseclr.augmentation.config import AugmentationConfig
from synapseclr.augmentation.cutouts import (
    corner_keep,
    draw_hole_centres,
    hole_probability,
    holes_keep,
    periphery_keep,
    random_box_keep,
    spare_whole_cleft,
)
from synapseclr.augmentation.dilation import dilate_ball
from synapseclr.augmentation.draws import ViewDraws
from synapseclr.augmentation.geometry import corrected_grid, flip_axes, reflect, swap_xy
from synapseclr.augmentation.intensity import add_pixel_noise, carried_intensity, cut_sections, map_tones, noise_fields
from synapseclr.augmentation.pooling import Chunks, Prepared, pooling_factors
from synapseclr.augmentation.resampling import empty_table, resample


def _tones(prepared: Prepared, draws: ViewDraws, factor_z: int) -> Tensor:
    """Steps 1 to 4: weighted intensities and their weights as two channels, 0 where nothing is carried."""
    intensity, weight = prepared.intensity_bcxyz, prepared.weight_bcxyz
    if draws.section_cut_bz is not None and bool(draws.section_cut_bz.any()):
        weight = cut_sections(weight, draws.section_cut_bz[:, ::factor_z])
    intensity = map_tones(intensity, draws, factor_z)
    if draws.noise is not None:
        additive, multiplicative = noise_fields(intensity, draws.noise.seed)
        noise = draws.noise
        intensity = add_pixel_noise(
            intensity, noise.additive_scale_b, noise.multiplicative_scale_b, additive, multiplicative
        )
    table = empty_table((len(weight), 2, *weight.shape[2:]), prepared.shared_grid, weight.device)
    torch.mul(intensity, weight, out=table[:, :1])
    table[:, 1:].copy_(weight)
    return table


def _keep(draws: ViewDraws, config: AugmentationConfig, device: torch.device) -> Tensor | None:
    """Steps 8 to 10 as one keep mask, shape (n, size, size, size); None where nothing is cut."""
    size, centre = config.final_img_size, config.preserve_center_unmasked
    parts = [corner_keep(index_b, size, centre, device=device) for index_b in draws.corner_index_b if index_b.any()]
    parts += [
        random_box_keep(box.low_bi, box.high_bi, box.apply_b, size, centre, device)
        for box in draws.random_boxes
        if box.apply_b.any()
    ]
    box = draws.periphery
    if box is not None and box.apply_b.any():
        parts.append(periphery_keep(box.low_bi, box.high_bi, box.apply_b, size, device))
    if not parts:
        return None
    return torch.stack(torch.broadcast_tensors(*parts)).all(0)


def resample_corrected(
    chunks: Chunks, config: AugmentationConfig, draws: ViewDraws, compiled: bool = True
) -> tuple[Tensor, Tensor]:
    """Steps 1 to 5, and flips and the swap as part of the positions.

    Args:
        chunks: The batch.
        config: What to do.
        draws: Of one view.
        compiled: Take the compiled loops where they can make the view, see ``compiled.coupled``; False for torch
            operations everywhere.

    Returns:
        Weighted intensities and their weights, float32, (batch, 2, size, size, size), and boolean masks
        (batch, 3, size, size, size).
    """
    chunk_bcxyz, factors = chunks.chunk_bcxyz, pooling_factors(config)
    x, y, z = chunk_bcxyz.shape[2:]
    grid = corrected_grid(
        reflect(draws.rotation_bij, draws.flip_bi, draws.swap_b),
        draws.displacement_bi,
        (x, y, z),
        config.final_crop_size,
        config.final_img_size,
        config.axial_to_sagittal_spacing,
        factors,
        chunk_bcxyz.device,
    )
    if compiled and chunk_bcxyz.device.type == "cpu":
        from synapseclr.augmentation.compiled import coupled  # numba loads in a second

        if coupled.suits(chunk_bcxyz, grid, draws, factors):
            return coupled.resample_chunk(chunk_bcxyz, grid, factors, config.norm_scale, draws)
    table = _tones(chunks.prepared, draws, factors[2])
    carried, mask = resample([table, chunks.prepared.mask_bcxyz], grid, [None, 0.5])
    return carried, mask


def apply_corrected(chunks: Chunks, config: AugmentationConfig, draws: ViewDraws) -> tuple[Tensor, Tensor]:
    """Apply the draws of one view.

    Returns:
        ``intensity_bcxyz`` z-scored, float32, and ``mask_bcxyz`` boolean (pre, cleft, post).
    """
    size, device = config.final_img_size, chunks.chunk_bcxyz.device
    carried, mask = resample_corrected(chunks, config, draws)
    shown: list[Tensor] = []
    if draws.hole_fraction_b is not None:
        radii = config.swiss_cheese_radii
        probability_bl = hole_probability(draws.hole_fraction_b, radii)
        holes = holes_keep(draw_hole_centres(probability_bl, size, draws.hole_seed, device), radii)
        shown.append(_reflected(holes, draws))
    keep = _keep(draws, config, device)
    if keep is not None:
        shown.append(spare_whole_cleft(_reflected(keep, draws)[:, 0], mask[:, CLEFT])[:, None])
        mask &= shown[-1]
    zone = _zone(mask, config, draws)
    if zone is not None:
        shown.append(zone)
        if config.enable_active_zone:
            mask &= zone if zone.shape[1] == 1 else zone.any(1, keepdim=True)
    return finish(carried, shown, config, draws), mask


def _reflected(keep_bxyz: Tensor, draws: ViewDraws) -> Tensor:
    """Flip and swap keep masks, which were drawn before the flips, to (batch or 1, 1, x, y, z)."""
    keep_bcxyz = keep_bxyz[:, None]
    if draws.flip_bi is not None:
        keep_bcxyz = flip_axes(keep_bcxyz, draws.flip_bi)
    return keep_bcxyz if draws.swap_b is None else swap_xy(keep_bcxyz, draws.swap_b)


def _zone(mask: Tensor, config: AugmentationConfig, draws: ViewDraws) -> Tensor | None:
    """Step 12: the active zone, or one for each side, shape (batch, 1 or 2, size, size, size)."""
    if not config.enable_active_zone and config.channel_organization == "merged":
        return None
    pre, post = neurite_sides(mask, config.connectivity if config.enable_active_zone else 0)
    sides = [with_fallback(pre, mask, (PRE, CLEFT)), with_fallback(post, mask, (POST, CLEFT))]
    if config.channel_organization == "merged":
        sides = [sides[0] | sides[1]]
    if draws.radius_b is not None:
        sides = [dilate_ball(side, draws.radius_b) for side in sides]
    return sides[0][:, None] if len(sides) == 1 else torch.stack(sides, dim=1)


def finish(
    carried: Tensor, shown: list[Tensor], config: AugmentationConfig, draws: ViewDraws, compiled: bool = True
) -> Tensor:
    """Steps 6 and 13: blur over what carries signal, background, z-score.

    Args:
        carried: Weighted intensities and their weights, from ``resample_corrected``.
        shown: Boolean volumes (batch or 1, 1 or 2, size, size, size); a view shows signal where all of them hold.
        config: What to do.
        draws: Of one view.
        compiled: As in ``resample_corrected``.

    Returns:
        float32, (batch, 1 or 2, size, size, size).
    """
    outside = 0.0 if config.background == "mean" else (0.0 - config.intensity_mean) / config.intensity_std
    if compiled and carried.device.type == "cpu" and carried.is_contiguous():
        from synapseclr.augmentation.compiled.finish import finish_view

        seen = reduce(torch.bitwise_and, shown) if shown else torch.ones_like(carried[:1, :1], dtype=torch.bool)
        return finish_view(carried, seen, draws.blur_sigma_b, config.intensity_mean, config.intensity_std, outside)
    intensity, valid = carried_intensity(carried[:, :1], carried[:, 1:], draws.blur_sigma_b)
    scaled = (intensity - config.intensity_mean).div_(config.intensity_std)
    return torch.where(reduce(torch.bitwise_and, shown, valid), scaled, outside)
