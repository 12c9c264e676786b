"""Exact dilation by a Euclidean ball, in three one-dimensional passes over squared distances."""

from functools import cache

import torch
from torch import Tensor

from synapseclr.augmentation.config import MAX_RADIUS

_LARGEST_UINT8_RADIUS = 11  # 2 r^2 + 1 must fit the number type


@cache
def ball_volume(radius: int) -> int:
    """Voxels whose centre lies within ``radius`` of the central one."""
    line = torch.arange(-radius, radius + 1) ** 2
    return int((line[:, None, None] + line[None, :, None] + line[None, None, :] <= radius**2).sum())


def squared_distance(mask_bxyz: Tensor, max_radius: int) -> Tensor:
    """Squared Euclidean distance to the nearest voxel of a mask, exact up to a radius.

    Args:
        mask_bxyz: Boolean masks, shape (batch, x, y, z).
        max_radius: Distances beyond this many voxels need not be told apart, 0 to 127.

    Returns:
        Integers (uint8 up to radius 11, else int16), same shape: d^2 where d <= max_radius, ``max_radius^2 + 1``
        elsewhere (also everywhere in an empty mask).

    Source: Felzenszwalb & Huttenlocher 2012, doi:10.4086/toc.2012.v008a019 (separability of the squared distance).
    """
    dtype = torch.uint8 if max_radius <= _LARGEST_UINT8_RADIUS else torch.int16
    distance_bxyz = torch.full(mask_bxyz.shape, max_radius**2 + 1, dtype=dtype, device=mask_bxyz.device)
    distance_bxyz.masked_fill_(mask_bxyz, 0)
    for axis in (3, 2, 1):
        nearest = distance_bxyz.clone()
        length = mask_bxyz.shape[axis]
        for step in range(1, min(max_radius, length - 1) + 1):
            raised = distance_bxyz + step**2
            ahead, behind = nearest.narrow(axis, step, length - step), nearest.narrow(axis, 0, length - step)
            torch.minimum(ahead, raised.narrow(axis, 0, length - step), out=ahead)
            torch.minimum(behind, raised.narrow(axis, step, length - step), out=behind)
        distance_bxyz = nearest
    return distance_bxyz


def dilate_ball(mask_bxyz: Tensor, radius: int | Tensor, max_radius: int | None = None) -> Tensor:
    """Dilate binary masks by a Euclidean ball, exactly.

    3 (2 r + 1) operations a voxel instead of the (2 r + 1)^3 of a dense convolution, on small integers.

    Args:
        mask_bxyz: Boolean masks, shape (batch, x, y, z).
        radius: Ball radius in voxels, 0 to 127 (0 returns the mask itself), or one per sample, shape (batch,) or (1,).
        max_radius: The largest radius; needed only when ``radius`` is a tensor on a device, to avoid reading it back.

    Returns:
        Boolean masks of the same shape and device.

    Raises:
        ValueError: If the mask is not boolean of four axes or a radius is out of range.
    """
    if mask_bxyz.dtype != torch.bool or mask_bxyz.ndim != 4:
        raise ValueError(f"expected boolean masks (batch, x, y, z), found {mask_bxyz.dtype} {tuple(mask_bxyz.shape)}")
    if max_radius is None:
        max_radius = radius if isinstance(radius, int) else int(radius.max())
    if not 0 <= max_radius <= MAX_RADIUS:
        raise ValueError(f"the radius must be 0 to {MAX_RADIUS} voxels, found {max_radius}")
    if max_radius == 0:
        return mask_bxyz
    distance_bxyz = squared_distance(mask_bxyz, max_radius)
    if isinstance(radius, int):
        return distance_bxyz <= radius**2
    limit_b = (radius.long() ** 2).to(distance_bxyz.dtype).to(mask_bxyz.device, non_blocking=True)
    return distance_bxyz <= limit_b[:, None, None, None]
