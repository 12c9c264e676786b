"""Trilinear resampling, at positions that a batch shares or at each sample's own.

Shared: eight corner indices and weights per output voxel are computed once and reused for every channel and sample; the
volumes are kept with (channel, sample) innermost, so that a corner is one contiguous row of a weighted gather. For a
batch of 8 this is 5 times as fast as ``grid_sample`` (benchmarks/results/augmentation.json). Each sample's own: torch's
``grid_sample``, as there is nothing to reuse but the few channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from synapseclr.augmentation.geometry import Grid

CORNERS = 8


@dataclass(frozen=True)
class Stencil:
    """Corner indices and weights for a grid on a volume shape.

    Attributes:
        index_pk: Flat voxel indices, int32, shape (n * output voxels, 8).
        weight_pk: Trilinear weights, 0 for corners outside the volume, float32, same shape.
        n: Number of different grids (1 where shared over the batch).
        size: Side of the output cube.
    """

    index_pk: Tensor
    weight_pk: Tensor
    n: int
    size: int


@dataclass(frozen=True)
class Positions:
    """Each sample's own positions, as ``grid_sample`` takes them (``align_corners=True``).

    Attributes:
        position_nxyzi: Positions over the volume's half extent, -1 to 1, axes in the order z, y, x, float32, shape
            (n, size, size, size, 3).
    """

    position_nxyzi: Tensor


def make_stencil(grid: Grid, shape_xyz: Sequence[int]) -> Stencil | Positions:
    """What ``resample`` needs to sample volumes of this shape at these positions."""
    if len(grid.position_npi) == 1 or 1 in shape_xyz:  # grid_sample cannot place anything between single voxels
        return _corners(grid, shape_xyz)
    cube = (grid.size,) * 3
    if grid.normalised_npi is not None:
        return Positions(grid.normalised_npi.unflatten(1, cube))
    half = (torch.tensor(shape_xyz, dtype=torch.float32) - 1) / 2
    half = half.to(grid.position_npi.device, non_blocking=True)
    return Positions((grid.position_npi / half - 1).flip(-1).unflatten(1, cube))


def _corners(grid: Grid, shape_xyz: Sequence[int]) -> Stencil:
    """Corner indices and weights; corners in the order and weights in the arithmetic of torch's grid_sample."""
    n = len(grid.position_npi)
    index: list[tuple[Tensor, Tensor]] = []
    weight: list[tuple[Tensor, Tensor]] = []
    for axis, length in enumerate(shape_xyz):
        position = grid.position_npi[..., axis]
        low = position.floor()
        low_weight, high_weight = (low + 1) - position, position - low
        low_inside = (low >= 0) & (low < length)
        high_inside = (low >= -1) & (low < length - 1)
        cell = low.clamp_(-1, length).to(torch.int32)
        index.append((cell.clamp(0, length - 1), (cell + 1).clamp_(0, length - 1)))
        weight.append((low_weight.mul_(low_inside), high_weight.mul_(high_inside)))
    shape = (*index[0][0].shape, CORNERS)
    index_pk = torch.empty(shape, dtype=torch.int32, device=grid.position_npi.device)
    weight_pk = torch.empty(shape, dtype=torch.float32, device=grid.position_npi.device)
    rows = torch.arange(n, dtype=torch.int32, device=index_pk.device)[:, None] * shape_xyz[0]
    for x in (0, 1):
        for y in (0, 1):
            plane = (index[0][x] + rows) * shape_xyz[1] + index[1][y]
            for z in (0, 1):
                corner = 4 * x + 2 * y + z
                torch.add(index[2][z], plane, alpha=shape_xyz[2], out=index_pk[..., corner])
                torch.mul(weight[2][z] * weight[1][y], weight[0][x], out=weight_pk[..., corner])
    return Stencil(index_pk.flatten(0, 1), weight_pk.flatten(0, 1), n, grid.size)


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


def resample(volume_bcxyz: Tensor, stencil: Stencil | Positions, threshold: float | None = None) -> Tensor:
    """Resample float volumes, zeros outside.

    Args:
        volume_bcxyz: Volumes, float32, shape (batch, channels, x, y, z); read without a copy in the layout of
            ``empty_table``.
        stencil: For the shape of the volumes; n is 1 or the batch size.
        threshold: If given, the result is whether the resampled value is above it.

    Returns:
        Resampled volumes, float32 or boolean, shape (batch, channels, size, size, size), contiguous.

    Raises:
        ValueError: If the stencil is for another batch size.
    """
    batch, channels = volume_bcxyz.shape[:2]
    if isinstance(stencil, Positions):
        if len(stencil.position_nxyzi) != batch:
            raise ValueError(f"the positions are for {len(stencil.position_nxyzi)} samples, the batch has {batch}")
        sampled = F.grid_sample(volume_bcxyz, stencil.position_nxyzi, align_corners=True)
        return (sampled if threshold is None else sampled > threshold).contiguous()
    if stencil.n not in (1, batch):
        raise ValueError(f"the stencil is for {stencil.n} samples, the batch has {batch}")
    shared = stencil.n == 1
    table_vc = volume_bcxyz.permute(memory_order(shared)[0]).reshape(-1, channels * (batch if shared else 1))
    out_pc = F.embedding_bag(stencil.index_pk, table_vc, per_sample_weights=stencil.weight_pk, mode="sum")
    if threshold is not None:
        out_pc = out_pc > threshold
    cube = (stencil.size,) * 3
    if not shared:
        return out_pc.view(batch, -1, channels).transpose(1, 2).contiguous().view(batch, channels, *cube)
    by_channel = out_pc.t().contiguous().view(channels, batch, *cube)
    return by_channel.transpose(0, 1)
