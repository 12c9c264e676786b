"""Binary masks: the pieces of neurites that meet the cleft, and dilation by a Euclidean ball."""

from __future__ import annotations

from functools import cache

import cc3d
import numpy as np
import torch
from torch import Tensor

from synapseclr.augmentation.config import MAX_RADIUS

PRE, CLEFT, POST = 0, 1, 2


def touching_components(domain_bxyz: Tensor, seed_bxyz: Tensor, connectivity: int) -> Tensor:
    """Voxels of the domain that are connected to a seed.

    Args:
        domain_bxyz: Masks, shape (batch, x, y, z), boolean; or uint8, where voxels of different values, all but 0, are
            never connected.
        seed_bxyz: Boolean seeds, shape (batch, x, y, z); seeds outside the domain count for nothing.
        connectivity: 6 (faces), 18 (and edges) or 26 (and corners).

    Returns:
        Boolean masks of the same shape, on the device of the domain; labelled on the CPU.

    Raises:
        ValueError: If the connectivity is not 6, 18 or 26.
    """
    if connectivity not in (6, 18, 26):
        raise ValueError(f"connectivity must be 6, 18 or 26, found {connectivity}")
    batch, x, y, z = domain_bxyz.shape
    domain, seed = domain_bxyz.cpu().numpy(), seed_bxyz.cpu().numpy()
    # One labelling of the whole batch, stacked along x with an empty plane between samples: cc3d is fast on
    # long axes. It underestimates the number of labels of a binary volume one voxel wide in y and z: pad y to two.
    stacked = np.zeros((batch, x + 1, max(y, 2), z), dtype=domain.dtype)
    stacked[:, :x, :y] = domain
    labels, n_labels = cc3d.connected_components(  # type: ignore[call-overload]
        stacked.reshape(-1, *stacked.shape[2:]), connectivity=connectivity, out_dtype=np.uint32, return_N=True
    )
    labels = labels.reshape(stacked.shape)[:, :x, :y]
    # A table from label to True, if the component holds a seed, turns labels into the mask by one look-up.
    kept = np.zeros(int(n_labels) + 1, dtype=bool)
    kept[labels[seed]] = True
    kept[0] = False
    return torch.from_numpy(kept[labels]).to(domain_bxyz.device)


def _spread(mask_bxyz: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Union of masks with their two neighbours along each axis in turn."""
    for axis in axes:
        grown, length = mask_bxyz.clone(), mask_bxyz.shape[axis]
        grown.narrow(axis, 1, length - 1).bitwise_or_(mask_bxyz.narrow(axis, 0, length - 1))
        grown.narrow(axis, 0, length - 1).bitwise_or_(mask_bxyz.narrow(axis, 1, length - 1))
        mask_bxyz = grown
    return mask_bxyz


def _neighbourhood(mask_bxyz: Tensor, connectivity: int) -> Tensor:
    """Masks with their neighbours: passes along all axes reach corners, along pairs of axes edges, along one faces."""
    if connectivity == 26:
        return _spread(mask_bxyz, (1, 2, 3))
    pairs = ((1,), (2,), (3,)) if connectivity == 6 else ((1, 2), (1, 3), (2, 3))
    parts = [_spread(mask_bxyz, axes) for axes in pairs]
    return parts[0] | parts[1] | parts[2]


def neurite_sides(mask_bcxyz: Tensor, connectivity: int) -> tuple[Tensor, Tensor]:
    """Presynaptic and postsynaptic pieces that touch the cleft, each with the cleft.

    Args:
        mask_bcxyz: Boolean masks (pre, cleft, post), shape (batch, 3, x, y, z).
        connectivity: 6, 18 or 26; 0 takes the masks whole, without a component filter.

    Returns:
        Boolean ``pre_bxyz`` and ``post_bxyz``; empty where there is no cleft (unless the connectivity is 0).
    """
    pre_bxyz, cleft_bxyz, post_bxyz = mask_bcxyz.unbind(1)
    if not connectivity:
        return pre_bxyz | cleft_bxyz, post_bxyz | cleft_bxyz
    pre_only_bxyz, post_only_bxyz = pre_bxyz & ~cleft_bxyz, post_bxyz & ~cleft_bxyz
    if bool((pre_only_bxyz & post_only_bxyz).any()):
        sides = [touching_components(side | cleft_bxyz, cleft_bxyz, connectivity) for side in (pre_bxyz, post_bxyz)]
        return sides[0], sides[1]
    # Both sides in one labelling: a piece of one side meets the cleft where it reaches into its neighbourhood.
    code_bxyz = pre_only_bxyz.to(torch.uint8) + 2 * post_only_bxyz.to(torch.uint8)
    met_bxyz = touching_components(code_bxyz, _neighbourhood(cleft_bxyz, connectivity), connectivity)
    return (met_bxyz & pre_only_bxyz) | cleft_bxyz, (met_bxyz & post_only_bxyz) | cleft_bxyz


def with_fallback(side_bxyz: Tensor, mask_bcxyz: Tensor, channels: tuple[int, ...]) -> Tensor:
    """Replace the sides of samples without a cleft, which are empty, by the given masks as a whole."""
    has_cleft_b = mask_bcxyz[:, CLEFT].flatten(1).any(1)
    whole_bxyz = mask_bcxyz[:, list(channels)].any(1)
    return torch.where(has_cleft_b[:, None, None, None], side_bxyz, whole_bxyz)


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
        max_radius: Distances are exact up to this many voxels, 0 to 127.

    Returns:
        Integers (uint8 up to radius 11, else int16), same shape: d^2 where d <= max_radius, ``max_radius^2 + 1``
        elsewhere (also everywhere in an empty mask).

    Source: Felzenszwalb & Huttenlocher 2012, doi:10.4086/toc.2012.v008a019 (separability of the squared distance).
    """
    dtype = torch.uint8 if max_radius <= _LARGEST_UINT8_RADIUS else torch.int16
    distance_bxyz = torch.full(mask_bxyz.shape, max_radius**2 + 1, dtype=dtype, device=mask_bxyz.device)
    distance_bxyz.masked_fill_(mask_bxyz, 0)
    # Squared distances separate: a pass along an axis takes the minimum over steps of (distance so far + step^2).
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
