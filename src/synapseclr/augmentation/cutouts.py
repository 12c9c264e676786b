"""Cut-outs: axis-aligned boxes (corners, random places, the periphery) and ball holes, as keep masks.

Keep masks are True where a view keeps its content. They are built from three one-dimensional intervals per box, so
that no operation loops over samples.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from synapseclr.augmentation.dilation import ball_volume, dilate_ball

N_CORNER_BOXES = 26


def box_mask(low_bi: Tensor, high_bi: Tensor, size: int, device: torch.device | None = None) -> Tensor:
    """Boxes as boolean volumes.

    Args:
        low_bi: First voxel per axis, shape (batch, 3).
        high_bi: One past the last voxel per axis, shape (batch, 3).
        size: Side of the cubic volume.
        device: Where the masks are wanted.

    Returns:
        True inside the box, shape (batch, size, size, size).
    """
    place = torch.arange(size, device=device)
    low_bi1, high_bi1 = (ends.to(device, non_blocking=True)[..., None] for ends in (low_bi, high_bi))
    inside_bis = (place >= low_bi1) & (place < high_bi1)
    return inside_bis[:, 0, :, None, None] & inside_bis[:, 1, None, :, None] & inside_bis[:, 2, None, None, :]


def corner_boxes(size: int, published: bool = False) -> tuple[Tensor, Tensor]:
    """The 26 octant, edge and face boxes: every combination of (low, middle, high) halves but the centre.

    Args:
        size: Side of the cubic volume.
        published: The published middle range runs from size / 4 to the end, where it should stop at 3 size / 4.

    Returns:
        ``low_ji`` and ``high_ji``, shape (27, 3); index 0 is the empty box, "no cut-out".
    """
    half, quarter = size // 2, size // 4
    ranges = [(0, half), (quarter, size if published else size - quarter), (size - half, size)]
    combinations = [c for c in itertools.product(range(3), repeat=3) if c != (1, 1, 1)]
    low = [[0, 0, 0]] + [[ranges[i][0] for i in combination] for combination in combinations]
    high = [[0, 0, 0]] + [[ranges[i][1] for i in combination] for combination in combinations]
    return torch.tensor(low), torch.tensor(high)


def centre_mask(size: int, device: torch.device | None = None) -> Tensor:
    """The central half-cube that corner and random cut-outs leave untouched, shape (1, size, size, size)."""
    low = torch.full((1, 3), size // 4)
    return box_mask(low, torch.full((1, 3), 3 * size // 4), size, device)


def corner_keep(
    index_b: Tensor, size: int, preserve_centre: bool, published: bool = False, device: torch.device | None = None
) -> Tensor:
    """Keep mask of one corner cut-out.

    Args:
        index_b: Which of the 26 boxes to cut, 0 for none, shape (batch,), on the CPU.
        size: Side of the cubic volume.
        preserve_centre: Leave the central half-cube untouched.
        published: Use the published middle range, see ``corner_boxes``.
        device: Where the mask is wanted.

    Returns:
        Boolean masks, shape (batch, size, size, size).
    """
    low_ji, high_ji = corner_boxes(size, published)
    keep_bxyz = ~box_mask(low_ji[index_b], high_ji[index_b], size, device)
    return keep_bxyz | centre_mask(size, device) if preserve_centre else keep_bxyz


def random_box_keep(
    low_bi: Tensor,
    high_bi: Tensor,
    apply_b: Tensor,
    size: int,
    preserve_centre: bool,
    device: torch.device | None = None,
) -> Tensor:
    """Keep mask of one random box per sample where ``apply_b``, shape (batch, size, size, size)."""
    keep_bxyz = ~box_mask(low_bi, torch.where(apply_b[:, None], high_bi, low_bi), size, device)
    return keep_bxyz | centre_mask(size, device) if preserve_centre else keep_bxyz


def periphery_keep(
    low_bi: Tensor, high_bi: Tensor, apply_b: Tensor, size: int, device: torch.device | None = None
) -> Tensor:
    """Keep mask of a periphery cut-out: only the box stays, where ``apply_b``; shape (batch, size, size, size)."""
    whole = apply_b.logical_not()[:, None]
    low_bi, high_bi = torch.where(whole, 0, low_bi), torch.where(whole, size, high_bi)
    return box_mask(low_bi, high_bi, size, device)


def hole_probability(fraction_b: Tensor, radii: Sequence[int]) -> Tensor:
    """Probability that a voxel is the centre of a hole of each radius, shape (batch, radii).

    The expected volume of all holes together (overlaps counted twice) is ``fraction_b`` of the volume, shared equally
    between the radii.
    """
    volume_l = torch.tensor([ball_volume(radius) for radius in radii], dtype=fraction_b.dtype)
    return fraction_b[:, None] / (volume_l * len(radii))


def draw_hole_centres(probability_bl: Tensor, size: int, seed: int, device: torch.device | None = None) -> Tensor:
    """Hole centres per radius, boolean, shape (batch, radii, size, size, size), generated on the device."""
    generator = torch.Generator(device=device or "cpu").manual_seed(seed)
    shape = (*probability_bl.shape, size, size, size)
    field = torch.rand(shape, generator=generator, device=device)
    return field < probability_bl.to(device, non_blocking=True)[..., None, None, None]


def holes_keep(centre_blxyz: Tensor, radii: Sequence[int]) -> Tensor:
    """Keep mask of ball holes ("Swiss cheese").

    Args:
        centre_blxyz: Hole centres per radius, boolean, shape (batch, radii, x, y, z).
        radii: Ball radii in voxels, one per entry of the second axis.

    Returns:
        Boolean masks, shape (batch, x, y, z), False inside a hole.
    """
    hole_bxyz = torch.zeros_like(centre_blxyz[:, 0])
    for position, radius in enumerate(radii):
        hole_bxyz |= dilate_ball(centre_blxyz[:, position], radius)
    return ~hole_bxyz


def spare_whole_cleft(keep_bxyz: Tensor, cleft_bxyz: Tensor) -> Tensor:
    """Undo the cut-outs of samples that would lose their whole cleft to them.

    Args:
        keep_bxyz: Keep masks, shape (batch or 1, x, y, z).
        cleft_bxyz: Boolean cleft masks, shape (batch, x, y, z).

    Returns:
        Keep masks, shape (batch, x, y, z), on the same device, computed without a host synchronisation.
    """
    lost_b = cleft_bxyz.flatten(1).any(1) & ~(cleft_bxyz & keep_bxyz).flatten(1).any(1)
    return keep_bxyz | lost_b[:, None, None, None]
