"""Trilinear resampling, at positions that a batch shares or at each sample's own.

Shared: eight corner indices and weights per output voxel are computed once and reused for every channel and sample; the
volumes are kept with (channel, sample) innermost, so that a corner is one contiguous row of a weighted gather. For a
batch of 8 this is several times as fast as ``grid_sample`` (benchmarks/results/augmentation.json). Each sample's own:
torch's ``grid_sample``, as there is nothing to reuse but the few channels.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from synapseclr.augmentation.geometry import Grid

CORNERS = 8
SLAB = 2**16  # output voxels whose corners, weights and values stay in a processor's cache
_WORD_BYTES = 8


def resample(
    volumes_bcxyz: Sequence[Tensor], grid: Grid, thresholds: Sequence[float | None] | None = None
) -> list[Tensor]:
    """Resample float volumes at the positions of a grid, zeros outside.

    Args:
        volumes_bcxyz: Volumes of one batch and shape, float32, each (batch, channels, x, y, z); read without a copy in
            the layout of ``empty_table``.
        grid: Positions in voxels; one grid for all samples, or one for each.
        thresholds: For each volume, None, or a value: the result is then whether the resampled value is above it.

    Returns:
        The resampled volumes, float32 or boolean, each (batch, channels, size, size, size).

    Raises:
        ValueError: If the grid is for another batch size, or the volumes differ in batch size or shape.
    """
    batch, _, *shape = volumes_bcxyz[0].shape
    if any((volume.shape[0], *volume.shape[2:]) != (batch, *shape) for volume in volumes_bcxyz):
        raise ValueError(f"the volumes differ: {[tuple(volume.shape) for volume in volumes_bcxyz]}")
    if len(grid.position_npi) not in (1, batch):
        raise ValueError(f"the grid is for {len(grid.position_npi)} samples, the batch has {batch}")
    thresholds = thresholds or [None] * len(volumes_bcxyz)
    if len(grid.position_npi) == 1 or 1 in shape:  # grid_sample cannot place anything between single voxels
        return _gather(volumes_bcxyz, grid, thresholds)
    position = _normalised(grid, shape)
    sampled = [F.grid_sample(volume, position, align_corners=True) for volume in volumes_bcxyz]
    return [
        (volume if threshold is None else volume > threshold).contiguous()
        for volume, threshold in zip(sampled, thresholds, strict=True)
    ]


def _normalised(grid: Grid, shape_xyz: Sequence[int]) -> Tensor:
    """Positions as ``grid_sample`` takes them: over the volume's half extent, axes z, y, x, (n, s, s, s, 3)."""
    cube = (grid.size,) * 3
    if grid.normalised_npi is not None:
        return grid.normalised_npi.unflatten(1, cube)
    half = (torch.tensor(shape_xyz, dtype=torch.float32) - 1) / 2
    half = half.to(grid.position_npi.device, non_blocking=True)
    return (grid.position_npi / half - 1).flip(-1).unflatten(1, cube)


def _gather(volumes_bcxyz: Sequence[Tensor], grid: Grid, thresholds: Sequence[float | None]) -> list[Tensor]:
    """Weighted gather of corner rows, slab by slab of the output; on a GPU in one go."""
    batch, _, *shape = volumes_bcxyz[0].shape
    n, n_points, _ = grid.position_npi.shape
    device, shared = grid.position_npi.device, n == 1
    tables_vc, results = [], []
    for volume, threshold in zip(volumes_bcxyz, thresholds, strict=True):
        innermost = volume.shape[1] * (batch if shared else 1)
        tables_vc.append(volume.permute(memory_order(shared)[0]).reshape(-1, innermost))
        dtype = volume.dtype if threshold is None else torch.bool
        results.append(torch.empty(n, innermost, n_points, dtype=dtype, device=device))
    slab = SLAB if device.type == "cpu" else n_points
    for start in range(0, n_points, slab):
        points = slice(start, start + slab)
        index_npk, weight_npk = _corners(grid.position_npi[:, points], shape)
        index_pk, weight_pk = index_npk.flatten(0, 1), weight_npk.flatten(0, 1)
        for table_vc, result_ncp, threshold in zip(tables_vc, results, thresholds, strict=True):
            value_pc = F.embedding_bag(index_pk, table_vc, per_sample_weights=weight_pk, mode="sum")
            value_pc = value_pc if threshold is None else value_pc > threshold
            result_ncp[:, :, points] = value_pc.unflatten(0, (n, -1)).transpose(1, 2)
    cube = (grid.size,) * 3
    if not shared:
        return [result.unflatten(2, cube) for result in results]
    return [result.view(-1, batch, *cube).transpose(0, 1) for result in results]


def _corners(position_npi: Tensor, shape_xyz: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Corner indices and weights; corners in the order and weights in the arithmetic of torch's grid_sample.

    Returns:
        Flat voxel indices, int32, and trilinear weights, 0 for corners outside the volume; both (n, points, 8). The
        indices of a sample beyond the first go on where those of the one before ended.
    """
    n = len(position_npi)
    index: list[tuple[Tensor, Tensor]] = []
    weight: list[tuple[Tensor, Tensor]] = []
    for axis, length in enumerate(shape_xyz):
        position = position_npi[..., axis]
        low = position.floor()
        low_weight, high_weight = (low + 1) - position, position - low
        low_inside = (low >= 0) & (low < length)
        high_inside = (low >= -1) & (low < length - 1)
        cell = low.clamp_(-1, length).to(torch.int32)
        index.append((cell.clamp(0, length - 1), (cell + 1).clamp_(0, length - 1)))
        weight.append((low_weight.mul_(low_inside), high_weight.mul_(high_inside)))
    shape = (*index[0][0].shape, CORNERS)
    index_npk = torch.empty(shape, dtype=torch.int32, device=position_npi.device)
    weight_npk = torch.empty(shape, dtype=torch.float32, device=position_npi.device)
    rows = torch.arange(n, dtype=torch.int32, device=index_npk.device)[:, None] * shape_xyz[0]
    for x in (0, 1):
        for y in (0, 1):
            plane = (index[0][x] + rows) * shape_xyz[1] + index[1][y]
            for z in (0, 1):
                corner = 4 * x + 2 * y + z
                torch.add(index[2][z], plane, alpha=shape_xyz[2], out=index_npk[..., corner])
                torch.mul(weight[2][z] * weight[1][y], weight[0][x], out=weight_npk[..., corner])
    return index_npk, weight_npk


def empty_table(shape_bcxyz: tuple[int, ...], shared_grid: bool, device: torch.device | None = None) -> Tensor:
    """An uninitialised float32 (batch, channels, x, y, z) tensor in the memory layout that ``resample`` reads.

    (channel, batch) are innermost where one grid serves the whole batch, else channels are.
    """
    batch, channels, x, y, z = shape_bcxyz
    if shared_grid:
        return torch.empty(x, y, z, channels, batch, device=device).permute(4, 3, 0, 1, 2)
    return torch.empty(batch, x, y, z, channels, device=device).permute(0, 4, 1, 2, 3)


def memory_order(shared_grid: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes of (batch, channels, x, y, z) as ``empty_table`` lays them out, outermost first; and the way back."""
    return ((2, 3, 4, 1, 0), (4, 3, 0, 1, 2)) if shared_grid else ((0, 2, 3, 4, 1), (0, 4, 1, 2, 3))


def layout_for(volume_bcxyz: Tensor, shared_grid: bool) -> Tensor:
    """The same values in the layout of ``empty_table``; element-wise operations keep a layout."""
    order, back = memory_order(shared_grid)
    return volume_bcxyz.permute(order).contiguous().permute(back)


def channels_innermost(channels: Sequence[Tensor], shared_grid: bool) -> Tensor:
    """Join boolean (batch, 1, x, y, z) volumes in the layout of ``layout_for`` to (batch, channels, x, y, z) in it."""
    order, back = memory_order(shared_grid)
    volumes = [volume.permute(order) for volume in channels]
    if shared_grid and len(channels[0]) % _WORD_BYTES == 0:  # moved in words: several times as fast as byte by byte
        words = torch.cat([volume.view(torch.int64) for volume in volumes], dim=3)
        return words.view(torch.bool).permute(back)
    return torch.cat(volumes, dim=order.index(1)).permute(back)
