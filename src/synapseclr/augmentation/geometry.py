"""Where output voxels lie in the input: rotations, displacements, spacing and crop, under both fidelities."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

AXES = 3


@dataclass(frozen=True)
class Grid:
    """Sampling positions in voxels of the volume they are for.

    Attributes:
        position_npi: Positions, float32, shape (n, output voxels, 3); n is 1 where they are shared over the batch.
        size: Side of the output cube.
        normalised_npi: The same positions as ``affine_grid`` gives them, where it gave them.
    """

    position_npi: Tensor
    size: int
    normalised_npi: Tensor | None = None


def published_scale(shape_xyz: Sequence[int], final_crop_size: int, spacing: float) -> tuple[float, ...]:
    """The published scale factors ``(orig_x / crop) * (1, 1, ratio * orig_z / orig_x)``."""
    crop = shape_xyz[0] / final_crop_size
    return crop, crop, crop * spacing * shape_xyz[2] / shape_xyz[0]


def published_theta(
    rotation_bij: Tensor | None, displacement_bi: Tensor | None, scale_i: tuple[float, ...], n: int = 1
) -> Tensor:
    """The published affine matrices for ``torch.nn.functional.affine_grid``.

    Its rows follow grid_sample's (z, y, x) order, which the published scale factors (x, y, z) do not: the spacing
    correction lands on x. Reproduced for parity.

    Args:
        rotation_bij: Rotation matrices, shape (n, 3, 3), or None for the identity.
        displacement_bi: Displacements in units of the input's half sides, shape (n, 3), or None.
        scale_i: From ``published_scale``.
        n: Number of matrices where both are None.

    Returns:
        float32, shape (n, 3, 4).
    """
    n = next((len(draw) for draw in (rotation_bij, displacement_bi) if draw is not None), n)
    theta_bik = torch.zeros(n, AXES, AXES + 1)
    theta_bik[:, :, :AXES] = torch.eye(AXES) if rotation_bij is None else rotation_bij.to(torch.float32)
    for axis, scale in enumerate(scale_i):
        theta_bik[:, axis, :AXES] /= scale
    if displacement_bi is not None:
        theta_bik[:, :, AXES] = displacement_bi
    return theta_bik


def published_grid(theta_bik: Tensor, shape_xyz: Sequence[int], final_img_size: int) -> Grid:
    """Positions that affine_grid and grid_sample (``align_corners=True``) give for these matrices."""
    size = final_img_size
    grid = F.affine_grid(theta_bik, [len(theta_bik), 1, size, size, size], align_corners=True)
    extent = torch.tensor(shape_xyz, dtype=grid.dtype).to(grid.device, non_blocking=True) - 1
    position = (grid.flatten(1, 3).flip(-1) + 1) / 2 * extent
    return Grid(position, size, grid.flatten(1, 3))


def corrected_grid(
    rotation_bij: Tensor | None,
    displacement_bi: Tensor | None,
    shape_xyz: Sequence[int],
    final_crop_size: int,
    final_img_size: int,
    spacing: float,
    pooled: tuple[int, int, int] = (1, 1, 1),
    device: torch.device | None = None,
) -> Grid:
    """Positions of an isotropic output cube, rotated in physical space about the (displaced) centre of the chunk.

    Output voxels have a pitch of ``final_crop_size / final_img_size`` input voxels along x and the same physical pitch
    along every axis, whatever the spacing ratio. Displacements are in units of half the output cube, along the axes
    of the input.

    Args:
        rotation_bij: Rotation matrices, shape (n, 3, 3), or None for the identity.
        displacement_bi: Displacements, shape (n, 3), or None.
        shape_xyz: Shape of the chunk before pooling.
        final_crop_size: Side of the output cube in input voxels along x.
        final_img_size: Side of the output cube in output voxels.
        spacing: Length of an input voxel along z over its length along x.
        pooled: Pooling factors of the volume that the positions are for.
        device: Where the positions are wanted.

    Returns:
        The grid; its positions are in voxels of the pooled volume.
    """
    voxel_i = torch.tensor([1.0, 1.0, spacing], dtype=torch.float64)
    factor_i = torch.tensor(pooled, dtype=torch.float64)
    rotation_bij = torch.eye(AXES, dtype=torch.float64)[None] if rotation_bij is None else rotation_bij.double()
    if displacement_bi is None:
        displacement_bi = torch.zeros(1, AXES)
    pitch = final_crop_size / final_img_size
    per_output_bij = rotation_bij * pitch / (voxel_i * factor_i)[:, None]
    centre_i = (torch.tensor(shape_xyz, dtype=torch.float64) - 1) / 2
    moved_bi = centre_i + displacement_bi.double() * (final_crop_size / 2) / voxel_i
    origin_bi = (moved_bi - (factor_i - 1) / 2) / factor_i
    line_s = torch.arange(final_img_size, dtype=torch.float32, device=device) - (final_img_size - 1) / 2
    step_bij = per_output_bij.to(device, torch.float32, non_blocking=True)
    origin_bi = origin_bi.to(device, torch.float32, non_blocking=True)
    along_x, along_y, along_z = (line_s[None, :, None] * step_bij[:, None, :, axis] for axis in range(AXES))
    along_x = along_x + origin_bi[:, None]
    position = along_x[:, :, None, None] + along_y[:, None, :, None] + along_z[:, None, None, :]
    return Grid(position.flatten(1, 3), final_img_size)


def reflect(rotation_bij: Tensor | None, flip_bi: Tensor | None, swap_b: Tensor | None) -> Tensor | None:
    """Fold flips and swaps of the output cube into the matrices that take output to input directions.

    Resampling at the positions of the result gives what ``swap_xy(flip_axes(...))`` makes of the resampled volume.

    Args:
        rotation_bij: Rotations, shape (batch or 1, 3, 3), or None for none.
        flip_bi: True where an output axis is mirrored, shape (batch or 1, 3), or None.
        swap_b: True where x and y of the output are exchanged, after the flips, shape (batch or 1,), or None.

    Returns:
        Matrices (batch or 1, 3, 3), or None where all three are None.
    """
    matrix_bij = rotation_bij
    if flip_bi is not None:
        mirror_bij = torch.diag_embed(1.0 - 2.0 * flip_bi.double())
        matrix_bij = mirror_bij if matrix_bij is None else matrix_bij.double() @ mirror_bij
    if swap_b is not None:
        straight = torch.eye(AXES, dtype=torch.float64)
        exchange_bij = torch.where(swap_b[:, None, None], straight[[1, 0, 2]], straight)
        matrix_bij = exchange_bij if matrix_bij is None else matrix_bij.double() @ exchange_bij
    return matrix_bij


def flip_axes(volume_bcxyz: Tensor, flip_bi: Tensor) -> Tensor:
    """Mirror volumes along the axes that were drawn.

    Args:
        volume_bcxyz: Any volumes, shape (batch, channels, x, y, z).
        flip_bi: True where an axis is mirrored, shape (batch or 1, 3), on the CPU.

    Returns:
        A tensor of the same shape.
    """
    if len(flip_bi) == 1:
        axes = [axis + 2 for axis in range(AXES) if bool(flip_bi[0, axis])]
        return volume_bcxyz.flip(axes) if axes else volume_bcxyz
    for axis in range(AXES):
        if bool(flip_bi[:, axis].any()):
            do = flip_bi[:, axis].to(volume_bcxyz.device, non_blocking=True)[:, None, None, None, None]
            volume_bcxyz = torch.where(do, volume_bcxyz.flip(axis + 2), volume_bcxyz)
    return volume_bcxyz


def swap_xy(volume_bcxyz: Tensor, swap_b: Tensor) -> Tensor:
    """Exchange x and y of cubic volumes where ``swap_b``, shape (batch or 1,), on the CPU."""
    if not bool(swap_b.any()):
        return volume_bcxyz
    swapped = volume_bcxyz.transpose(2, 3)
    if len(swap_b) == 1:
        return swapped.contiguous()
    do = swap_b.to(volume_bcxyz.device, non_blocking=True)[:, None, None, None, None]
    return torch.where(do, swapped, volume_bcxyz)
