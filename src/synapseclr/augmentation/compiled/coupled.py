"""A whole view's way from the chunk to the output grid, for a batch on a CPU that shares its draws.

Only the voxels that the view reads are pooled, mapped and given noise: less than half of a published chunk. A box of
few voxels has few possible intensities, so tone maps act on a table of them.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from synapseclr.augmentation.compiled.kernels import TILE, gather_tiles, in_threads, pool_rows, touched_sections
from synapseclr.augmentation.compiled.lanes import LANES, N_CODES
from synapseclr.augmentation.draws import NoiseDraws, ViewDraws
from synapseclr.augmentation.geometry import Grid
from synapseclr.augmentation.intensity import cut_sections, lognormal_factor, map_tones, normal_fields

MAX_BOX_VOXELS = 8  # 9,189 levels a section
_GREYS = 255


@dataclass(frozen=True)
class ReadVoxels:
    """The voxels of the pooled volume that a view reads, numbered row by row.

    Attributes:
        shape_xyz: Shape of the pooled volume.
        ends_xy2: First and last section of every row.
        first_xy: Number of section 0 of every row, had it been read.
        count: How many there are.
    """

    shape_xyz: tuple[int, ...]
    ends_xy2: np.ndarray
    first_xy: np.ndarray
    count: int


def suits(chunk_bcxyz: Tensor, grid: Grid, draws: ViewDraws, factors: tuple[int, int, int]) -> bool:
    """Whether ``resample_chunk`` can make this view: on a CPU, draws shared by the batch, boxes of few voxels."""
    tones = [parameter for tone in (draws.sectional, draws.global_tone) if tone for parameter in vars(tone).values()]
    scales = [draws.noise.additive_scale_b, draws.noise.multiplicative_scale_b] if draws.noise else []
    drawn = [*tones, *scales, *([] if draws.section_cut_bz is None else [draws.section_cut_bz])]
    shared = len(grid.position_npi) == 1 and all(len(each) == 1 for each in drawn)
    return chunk_bcxyz.device.type == "cpu" and shared and factors[0] * factors[1] * factors[2] <= MAX_BOX_VOXELS


def resample_chunk(
    chunk_bcxyz: Tensor, grid: Grid, factors: tuple[int, int, int], norm_scale: float, draws: ViewDraws
) -> tuple[Tensor, Tensor]:
    """Steps 1 to 5 of the corrected augmentation.

    Args:
        chunk_bcxyz: uint8 chunks, shape (batch, 2, x, y, z).
        grid: Positions in voxels of the pooled volume, shared by the batch.
        factors: Pooling factors along x, y, z.
        norm_scale: The level that becomes 1.
        draws: Of the view; its tone maps, cut sections and noise are applied here.

    Returns:
        Weighted intensities and their weights, float32, (batch, 2, size, size, size), and boolean masks
        (batch, 3, size, size, size).
    """
    pooled = tuple(-(-length // factor) for length, factor in zip(chunk_bcxyz.shape[2:], factors, strict=True))
    read = _read_voxels(grid, pooled)
    tables = _tables(factors, norm_scale, pooled[2], draws)
    noise = torch.from_numpy(read.first_xy), *_noise(read.count, len(chunk_bcxyz), draws.noise)
    signal_nvkl, code_nvl = _pool_voxels(chunk_bcxyz, read, factors, (*tables, *noise), 2)
    return _gather_voxels(signal_nvkl, code_nvl, read, grid, len(chunk_bcxyz))


def resample_chunk_published(
    chunk_bcxyz: Tensor, grid: Grid, tone_nzl: Tensor, noise: NoiseDraws | None
) -> tuple[Tensor, Tensor]:
    """Steps 1 to 5 of the published augmentation, for a batch on a CPU that shares its positions.

    Noise is drawn for the whole chunk: its lognormal part is divided by the mean over that.

    Args:
        chunk_bcxyz: uint8 chunks, shape (batch, 2, x, y, z).
        grid: Positions in voxels, shared by the batch.
        tone_nzl: Intensity of every grey level, float32, shape (batch or 1, sections, levels).
        noise: Of the view, None for none.

    Returns:
        Intensities, float32, (batch, 1, size, size, size), and boolean masks (batch, 3, size, size, size).
    """
    batch, _, *shape = chunk_bcxyz.shape
    read = _read_voxels(grid, tuple(shape))
    first_xy = torch.arange(shape[0] * shape[1]).view(shape[0], shape[1]) * shape[2]
    tables = torch.zeros(2, dtype=torch.int64), tone_nzl.contiguous(), torch.ones(shape[2], 2)
    fields = _noise_published(chunk_bcxyz[0, 0].numel(), batch, noise)
    signal_nvkl, code_nvl = _pool_voxels(chunk_bcxyz, read, (1, 1, 1), (*tables, first_xy, *fields), 1)
    return _gather_voxels(signal_nvkl, code_nvl, read, grid, batch)


def _read_voxels(grid: Grid, pooled_xyz: tuple[int, ...]) -> ReadVoxels:
    position_pi = grid.position_npi[0].numpy()
    pieces = np.stack(in_threads(touched_sections, grid.size**2, position_pi, grid.size, pooled_xyz))
    ends_xy2 = np.stack([pieces[..., 0].min(0), pieces[..., 1].max(0)], axis=-1)
    length_xy = np.maximum(ends_xy2[..., 1].astype(np.int64) - ends_xy2[..., 0] + 1, 0)
    stop_xy = length_xy.cumsum().reshape(length_xy.shape)
    return ReadVoxels(pooled_xyz, ends_xy2, stop_xy - length_xy - ends_xy2[..., 0], int(stop_xy[-1, -1]))


def _pool_voxels(
    chunk_bcxyz: Tensor, read: ReadVoxels, factors: tuple[int, int, int], tables: tuple[Tensor, ...], channels: int
) -> tuple[Tensor, Tensor]:
    """Steps 1 to 4 on the voxels read: weighted intensities and weights, and mask codes, blocks of samples together."""
    batch = len(chunk_bcxyz)
    rows = -(-batch // LANES), max(read.count, 1)
    empty = torch.empty if batch % LANES == 0 and read.count else torch.zeros
    signal_nvkl, code_nvl = empty((*rows, channels, LANES)), empty((*rows, LANES), dtype=torch.uint8)
    arrays = [tensor.numpy() for tensor in (*tables, signal_nvkl, code_nvl)]
    chunk = chunk_bcxyz.contiguous().numpy()
    in_threads(pool_rows, read.shape_xyz[0], chunk, factors, read.ends_xy2, read.first_xy, *arrays)
    return signal_nvkl, code_nvl


def _gather_voxels(
    signal_nvkl: Tensor, code_nvl: Tensor, read: ReadVoxels, grid: Grid, batch: int
) -> tuple[Tensor, Tensor]:
    """Step 5."""
    signal_bkp = torch.empty(batch, signal_nvkl.shape[2], grid.size**3)
    mask_bkp = torch.empty(batch, N_CODES, grid.size**3, dtype=torch.uint8)
    arrays = [tensor.numpy() for tensor in (signal_nvkl, code_nvl, signal_bkp, mask_bkp)]
    n_tiles, position_pi = len(signal_nvkl) * -(-(grid.size**3) // TILE), grid.position_npi[0].numpy()
    in_threads(gather_tiles, n_tiles, position_pi, read.shape_xyz, read.first_xy, *arrays)
    cube = (grid.size,) * 3
    return signal_bkp.unflatten(2, cube), mask_bkp.view(torch.bool).unflatten(2, cube)


def _tables(
    factors: tuple[int, int, int], norm_scale: float, n_sections: int, draws: ViewDraws
) -> tuple[Tensor, Tensor, Tensor]:
    """Where levels begin, intensity of every (section, level), weight of every (section, voxels of signal).

    A level stands for a number of voxels that carry signal and their total.
    """
    n_box = factors[0] * factors[1] * factors[2]
    count = torch.arange(n_box + 1)
    n_levels = _GREYS * count + 1
    level_of_count = n_levels.cumsum(0) - n_levels
    carried = count.repeat_interleave(n_levels)
    total = torch.arange(len(carried)) - level_of_count[carried]
    level = total.div(carried.clamp(min=1).float().mul_(norm_scale)).clamp_(max=1.0)
    tone = map_tones(level.reshape(1, 1, 1, -1, 1).expand(-1, -1, -1, -1, n_sections), draws, factors[2])
    weight = count.float().div_(n_box).reshape(1, 1, 1, -1, 1).expand(-1, -1, -1, -1, n_sections)
    if draws.section_cut_bz is not None:
        weight = cut_sections(weight, draws.section_cut_bz[:, :: factors[2]])
    return level_of_count, tone[:, 0, 0].mT.contiguous(), weight[0, 0, 0].T.contiguous()


def _noise(n_voxels: int, batch: int, noise: NoiseDraws | None) -> tuple[Tensor, Tensor]:
    """What is added to, and what multiplies, every voxel read of every sample; empty for no noise."""
    if noise is None:
        return torch.empty(0, 0), torch.empty(0, 0)
    additive, multiplicative = normal_fields(n_voxels * batch, noise.seed)
    factor = lognormal_factor(multiplicative, noise.multiplicative_scale_b)
    return additive.mul_(noise.additive_scale_b).view(-1, batch), factor.view(-1, batch)


def _noise_published(n_voxels: int, batch: int, noise: NoiseDraws | None) -> tuple[Tensor, Tensor]:
    """``_noise`` with the published normalisation: by the mean of a sample's factors."""
    if noise is None:
        return torch.empty(0, 0), torch.empty(0, 0)
    additive, normal = (field.view(n_voxels, batch) for field in normal_fields(n_voxels * batch, noise.seed))
    factor = normal.mul_(noise.multiplicative_scale_b).exp_()
    return additive.mul_(noise.additive_scale_b), factor.div_(factor.mean(0))
