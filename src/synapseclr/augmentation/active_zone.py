"""The active zone: the neurite pieces that meet the cleft, dilated by a ball.

Components that touch the cleft are found by labelling on the CPU and by geodesic propagation on a device; both give the
same voxels.
"""

import cc3d
import numpy as np
import torch
from torch import Tensor

from synapseclr.augmentation.dilation import dilate_ball

PRE, CLEFT, POST = 0, 1, 2
ROUNDS_PER_CHECK = 4
_WORD = 64


def touching_components(domain_bxyz: Tensor, seed_bxyz: Tensor, connectivity: int) -> Tensor:
    """Voxels of the domain that are connected to a seed.

    Args:
        domain_bxyz: Boolean masks, shape (batch, x, y, z).
        seed_bxyz: Boolean seeds, shape (batch, x, y, z); seeds outside the domain count for nothing.
        connectivity: 6 (faces), 18 (and edges) or 26 (and corners).

    Returns:
        Boolean masks of the same shape and device.

    Raises:
        ValueError: If the connectivity is not 6, 18 or 26.
    """
    if connectivity not in (6, 18, 26):
        raise ValueError(f"connectivity must be 6, 18 or 26, found {connectivity}")
    if domain_bxyz.device.type == "cpu":
        return label_components(domain_bxyz, seed_bxyz, connectivity)
    return propagate_components(domain_bxyz, seed_bxyz, connectivity)


def label_components(domain_bxyz: Tensor, seed_bxyz: Tensor, connectivity: int) -> Tensor:
    """``touching_components`` on the CPU: one labelling of the batch, stacked along x with empty planes between.

    The domain may also be uint8: voxels of different values, all but 0, are then never connected.
    """
    batch, x, y, z = domain_bxyz.shape
    domain = domain_bxyz.numpy()
    # cc3d underestimates the number of labels of a binary volume that is one voxel wide in y and z: two are enough.
    wide_y = max(y, 2)
    stacked = np.zeros((batch, x + 1, wide_y, z), dtype=domain.dtype)
    stacked[:, :x, :y] = domain
    # cc3d wants few large axes; the empty plane between samples keeps them apart at any connectivity.
    labels, n_labels = cc3d.connected_components(  # type: ignore[call-overload]
        stacked.reshape(batch * (x + 1), wide_y, z), connectivity=connectivity, out_dtype=np.uint32, return_N=True
    )
    labels = np.ascontiguousarray(labels.reshape(batch, x + 1, wide_y, z)[:, :, :y])
    kept = torch.zeros(int(n_labels) + 1, dtype=torch.bool)
    kept[torch.from_numpy(labels[:, :x][seed_bxyz.numpy()].astype(np.int64))] = True
    kept[0] = False
    # int32 takes the same bits: there are fewer labels than voxels. index_select uses all threads, numpy.take one.
    chosen = kept.index_select(0, torch.from_numpy(labels.view(np.int32).reshape(-1)))
    return chosen.view(batch, x + 1, y, z)[:, :x]


def _pack(mask_bxyz: Tensor) -> Tensor:
    """Samples to bits: (batch, x, y, z) boolean to (words, x, y, z) int64."""
    batch, *shape = mask_bxyz.shape
    words = -(-batch // _WORD)
    padded = torch.zeros(words * _WORD, *shape, dtype=torch.uint8, device=mask_bxyz.device)
    padded[:batch] = mask_bxyz
    place = 2 ** torch.arange(8, dtype=torch.uint8, device=mask_bxyz.device)
    byte = (padded.view(words, 8, 8, -1) * place[:, None]).sum(2, dtype=torch.uint8)
    return byte.transpose(1, 2).flatten().view(torch.int64).view(words, *shape)


def _unpack(word_wxyz: Tensor, batch: int) -> Tensor:
    words, *shape = word_wxyz.shape
    byte = word_wxyz.flatten().view(torch.uint8).view(words, -1, 8).transpose(1, 2)
    place = torch.arange(8, dtype=torch.uint8, device=word_wxyz.device)
    bit = (byte[:, :, None] >> place[:, None]) & 1
    return bit.bool().reshape(words * _WORD, *shape)[:batch]


def _spread(word: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Union of a volume of words, or of Booleans, with its two neighbours along each axis in turn."""
    for axis in axes:
        grown, length = word.clone(), word.shape[axis]
        grown.narrow(axis, 1, length - 1).bitwise_or_(word.narrow(axis, 0, length - 1))
        grown.narrow(axis, 0, length - 1).bitwise_or_(word.narrow(axis, 1, length - 1))
        word = grown
    return word


def _neighbourhood(word: Tensor, connectivity: int) -> Tensor:
    if connectivity == 26:
        return _spread(word, (1, 2, 3))
    pairs = ((1,), (2,), (3,)) if connectivity == 6 else ((1, 2), (1, 3), (2, 3))
    parts = [_spread(word, axes) for axes in pairs]
    return parts[0] | parts[1] | parts[2]


def _fill_runs(reached: Tensor, domain: Tensor, axis: int) -> Tensor:
    """Spread along whole runs of the domain on one axis, both ways, in logarithmically many steps (Kogge-Stone)."""
    length = domain.shape[axis]
    for forward in (True, False):
        open_run, step = domain.clone(), 1
        while step < length:
            rest = length - step
            source, target = (0, step) if forward else (step, 0)
            moved = reached.narrow(axis, source, rest) & open_run.narrow(axis, target, rest)
            reached.narrow(axis, target, rest).bitwise_or_(moved)
            longer = torch.zeros_like(open_run)
            longer.narrow(axis, target, rest).copy_(open_run.narrow(axis, source, rest))
            open_run, step = open_run & longer, 2 * step
    return reached


def propagate_components(domain_bxyz: Tensor, seed_bxyz: Tensor, connectivity: int) -> Tensor:
    """``touching_components`` on a device: geodesic propagation from the seeds until nothing changes.

    The samples of a batch are the bits of 64-bit words, so that one spatial shift moves all of them. A round fills
    whole runs along each axis and then steps once into the neighbourhood; the number of rounds is the number of turns
    of the most tortuous path, and the host looks at the result once every ``ROUNDS_PER_CHECK`` rounds (the only host
    synchronisation of a view).
    """
    domain = _pack(domain_bxyz)
    reached = _pack(seed_bxyz & domain_bxyz)
    while True:
        before = reached.clone()
        for _ in range(ROUNDS_PER_CHECK):
            for axis in (3, 2, 1):
                reached = _fill_runs(reached, domain, axis)
            reached = _neighbourhood(reached, connectivity) & domain
        if torch.equal(before, reached):
            return _unpack(reached, len(domain_bxyz))


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
    if mask_bcxyz.device.type == "cpu":
        pre_only_bxyz, post_only_bxyz = pre_bxyz & ~cleft_bxyz, post_bxyz & ~cleft_bxyz
        if not bool((pre_only_bxyz & post_only_bxyz).any()):
            # Both sides in one labelling: a piece of one side meets the cleft where it reaches into its neighbourhood.
            code_bxyz = pre_only_bxyz.to(torch.uint8) + 2 * post_only_bxyz.to(torch.uint8)
            met_bxyz = label_components(code_bxyz, _neighbourhood(cleft_bxyz, connectivity), connectivity)
            return (met_bxyz & pre_only_bxyz) | cleft_bxyz, (met_bxyz & post_only_bxyz) | cleft_bxyz
    side_bxyz = torch.cat([pre_bxyz | cleft_bxyz, post_bxyz | cleft_bxyz])
    side_bxyz = touching_components(side_bxyz, torch.cat([cleft_bxyz, cleft_bxyz]), connectivity)
    return side_bxyz[: len(mask_bcxyz)], side_bxyz[len(mask_bcxyz) :]


def active_zone(mask_bcxyz: Tensor, connectivity: int, radius: int | Tensor, max_radius: int | None = None) -> Tensor:
    """The active zone of each sample.

    Args:
        mask_bcxyz: Boolean masks (pre, cleft, post), shape (batch, 3, x, y, z).
        connectivity: 6, 18, 26, or 0 for no component filter.
        radius: Inflation in voxels, one or one per sample.
        max_radius: See ``dilate_ball``.

    Returns:
        Boolean masks, shape (batch, x, y, z); empty for a sample without a cleft (unless the connectivity is 0).
    """
    pre_bxyz, post_bxyz = neurite_sides(mask_bcxyz, connectivity)
    return dilate_ball(pre_bxyz | post_bxyz, radius, max_radius)


def with_fallback(side_bxyz: Tensor, mask_bcxyz: Tensor, channels: tuple[int, ...]) -> Tensor:
    """Where a sample has no cleft, take the given masks whole instead of nothing."""
    has_cleft_b = mask_bcxyz[:, CLEFT].flatten(1).any(1)
    if has_cleft_b.device.type == "cpu" and bool(has_cleft_b.all()):  # on a GPU, looking would make the host wait
        return side_bxyz
    whole_bxyz = torch.stack([mask_bcxyz[:, channel] for channel in channels]).any(0)
    return torch.where(has_cleft_b[:, None, None, None], side_bxyz, whole_bxyz)
