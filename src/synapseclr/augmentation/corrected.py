"""The corrected augmentation: what the published operations meant.

Voxels of value 0 in the chunk (missing sections, padding at a volume's border), cut-out sections, everything beyond the
chunk, cut-outs, holes and what is outside the active zone carry no signal: they stay masked through every operation
and end as one constant.

Anti-aliasing: the chunk is first averaged over boxes as large as fit the output pitch (2 x 2 x 1 voxels for the
published 8 x 8 x 40 nm at a pitch of 16 nm), ignoring voxels without signal. Mask codes are pooled by priority: cleft
if any voxel is cleft (a thin cleft survives), else presynaptic, else postsynaptic where they fill half the box. Tone
maps and noise then act at that pitch, which leaves the noise in a view as strong as the published one.
"""

from dataclasses import dataclass
from functools import cached_property

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
from synapseclr.augmentation.resampling import channels_innermost, empty_table, layout_for, resample

PRE_CODE, CLEFT_CODE, POST_CODE = 1, 2, 3


@dataclass(frozen=True)
class Prepared:
    """A decoded batch, pooled to the output's pitch; shared by the views.

    Attributes:
        intensity_bcxyz: Mean intensity of the voxels that carry signal, in [0, 1], shape (batch, 1, x, y, z).
        weight_bcxyz: Share of voxels that carry signal, same shape.
        mask_bcxyz: Masks (pre, cleft, post) as 0 or 1, float32, shape (batch, 3, x, y, z).
        shape_xyz: Shape of the chunk before pooling.
        factors: Pooling factors along x, y, z.
        shared_grid: Whether the memory layout is for one grid over the batch.
    """

    intensity_bcxyz: Tensor
    weight_bcxyz: Tensor
    mask_bcxyz: Tensor
    shape_xyz: tuple[int, int, int]
    factors: tuple[int, int, int]
    shared_grid: bool


def pooling_factors(config: AugmentationConfig) -> tuple[int, int, int]:
    """The largest whole boxes of input voxels that fit into the output pitch, at least one voxel."""
    pitch = config.final_crop_size / config.final_img_size + 1e-6
    sagittal = max(1, int(pitch))
    return sagittal, sagittal, max(1, int(pitch / config.axial_to_sagittal_spacing))


def _boxes(volume_bcxyz: Tensor, factors: tuple[int, int, int]) -> list[Tensor]:
    """The strided views whose union is every box, after padding odd sizes with zeros (no signal, no mask)."""
    fx, fy, fz = factors
    pad = [-length % factor for length, factor in zip(volume_bcxyz.shape[2:], factors, strict=True)]
    if any(pad):
        volume_bcxyz = torch.nn.functional.pad(volume_bcxyz, (0, pad[2], 0, pad[1], 0, pad[0]))
    return [volume_bcxyz[:, :, i::fx, j::fy, k::fz] for i in range(fx) for j in range(fy) for k in range(fz)]


def _total(parts: list[Tensor], dtype: torch.dtype) -> Tensor:
    """Sum over the voxels of every box."""
    total = parts[0].to(dtype, copy=True)
    for part in parts[1:]:
        total = total.add_(part)
    return total


def prepare(chunk_bcxyz: Tensor, config: AugmentationConfig) -> Prepared:
    """Decode and pool a batch of uint8 chunks (batch, 2, x, y, z)."""
    factors = pooling_factors(config)
    n_box = factors[0] * factors[1] * factors[2]
    shared = config.batch_mode == "coupled"
    # Channel by channel, so that the strided box views run over long contiguous rows.
    intensity, code = (layout_for(chunk_bcxyz[:, channel, None], shared) for channel in (0, 1))

    def count(held: Tensor) -> Tensor:
        return _total(_boxes(held, factors), torch.uint8 if n_box < 256 else torch.int32)

    def equals(value: int) -> Tensor:
        """1 where the code is this one, else 0; several times as fast as a comparison of bytes."""
        return (code ^ value).clamp_(max=1).bitwise_xor_(1)

    total = _total(_boxes(intensity, factors), torch.int16 if n_box <= 128 else torch.int32)
    carried = count(intensity.clamp(max=1))
    cleft = count(equals(CLEFT_CODE)) > 0
    pre = (count(equals(PRE_CODE)) >= (n_box + 1) // 2) & ~cleft
    post = (count(equals(POST_CODE)) >= (n_box + 1) // 2) & ~cleft & ~pre
    signal = total.div(carried.clamp(min=1).float().mul_(config.norm_scale)).clamp_(max=1.0)
    x, y, z = chunk_bcxyz.shape[2:]
    mask = channels_innermost((pre, cleft, post), shared).float()
    return Prepared(signal, carried.float().div_(n_box), mask, (x, y, z), factors, shared)


class Chunks:
    """A batch of uint8 chunks (batch, 2, x, y, z); what views share is made when the first of them needs it."""

    def __init__(self, chunk_bcxyz: Tensor, config: AugmentationConfig) -> None:
        self.chunk_bcxyz, self._config = chunk_bcxyz, config

    @cached_property
    def prepared(self) -> Prepared:
        """The batch, decoded and pooled."""
        return prepare(self.chunk_bcxyz, self._config)


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
    intensity, valid = carried_intensity(carried[:, :1], carried[:, 1:], draws.blur_sigma_b)
    if draws.hole_fraction_b is not None:
        radii = config.swiss_cheese_radii
        probability_bl = hole_probability(draws.hole_fraction_b, radii)
        holes = holes_keep(draw_hole_centres(probability_bl, size, draws.hole_seed, device), radii)
        valid = valid & _reflected(holes, draws)
    keep = _keep(draws, config, device)
    if keep is not None:
        keep = spare_whole_cleft(_reflected(keep, draws)[:, 0], mask[:, CLEFT])[:, None]
        valid, mask = valid & keep, mask & keep
    return _masked(intensity, valid, mask, config, draws)


def _reflected(keep_bxyz: Tensor, draws: ViewDraws) -> Tensor:
    """Flip and swap keep masks, which were drawn before the flips, to (batch or 1, 1, x, y, z)."""
    keep_bcxyz = keep_bxyz[:, None]
    if draws.flip_bi is not None:
        keep_bcxyz = flip_axes(keep_bcxyz, draws.flip_bi)
    return keep_bcxyz if draws.swap_b is None else swap_xy(keep_bcxyz, draws.swap_b)


def _masked(
    intensity: Tensor, valid: Tensor, mask: Tensor, config: AugmentationConfig, draws: ViewDraws
) -> tuple[Tensor, Tensor]:
    """Steps 12 and 13: active zone, background, z-score."""
    sides: list[Tensor] = []
    if config.enable_active_zone or config.channel_organization == "separate":
        pre, post = neurite_sides(mask, config.connectivity if config.enable_active_zone else 0)
        sides = [with_fallback(pre, mask, (PRE, CLEFT)), with_fallback(post, mask, (POST, CLEFT))]
    if config.channel_organization == "merged" and sides:
        sides = [sides[0] | sides[1]]
    if draws.radius_b is not None and sides:
        sides = [dilate_ball(side, draws.radius_b) for side in sides]
    if sides:
        zone = torch.stack(sides, dim=1)
        valid = valid & zone
        if config.enable_active_zone:
            mask = mask & zone.any(1, keepdim=True)
    scaled = (intensity - config.intensity_mean).div_(config.intensity_std)
    outside = 0.0 if config.background == "mean" else (0.0 - config.intensity_mean) / config.intensity_std
    return torch.where(valid, scaled, outside), mask
