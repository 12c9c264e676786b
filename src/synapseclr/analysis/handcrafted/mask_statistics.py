"""How each mask of a chunk looks, and what touches the cleft: what a broken segmentation or missing data change."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from synapseclr.analysis.handcrafted.image_statistics import ReadableChunks

_MASKS = ("background", "pre_synaptic", "synaptic_cleft", "post_synaptic")
_CLEFT = _MASKS.index("synaptic_cleft")
_NEIGHBOURS = {"background": 0, "pre_synaptic": 1, "post_synaptic": 3}
SHELLS_NM = (0.0, 60.0, 120.0)
"""Limits of the shells around the cleft in which neighbours are counted: a membrane with its density, and beyond."""

MASK_STATISTIC_NAMES: tuple[str, ...] = (
    *(f"{name}_{what}" for name in _MASKS for what in ("fraction", "missing", "mean", "deviation")),
    *(
        f"shell_{outer:.0f}_nm_{what}"
        for outer in SHELLS_NM[1:]
        for what in (*(f"{name}_fraction" for name in _NEIGHBOURS), "mean")
    ),
    "cleft_contrast",
)
"""Names of the columns that :func:`mask_statistics` and :func:`store_mask_statistics` return."""


def mask_statistics(chunk_cxyz: np.ndarray, voxel_size_nm: Sequence[float]) -> np.ndarray:
    """Statistics of one chunk by mask, and of what surrounds its cleft.

    A merge error enlarges a neurite's mask and puts membranes into it, a split leaves the cleft without a partner, a
    cleft that is not where the membranes are is no darker than its surroundings, and missing data are black.

    Args:
        chunk_cxyz: uint8 (2, x, y, z): intensity (0: missing data), mask codes (0 background, 1 pre, 2 cleft, 3 post).
        voxel_size_nm: Voxel size (x, y, z) in nm.

    Returns:
        float32 (25,), named by ``MASK_STATISTIC_NAMES``. Per mask: its share of the chunk, the share of its voxels that
        are missing, mean and standard deviation of the others' intensity in [0, 1]. Per shell around the cleft: shares
        of background, presynaptic and postsynaptic voxels, mean intensity. Last, the cleft's mean less that of the
        inner shell. What cannot be taken, as of a mask without voxels, is 0.
    """
    joint_ml = np.bincount(chunk_cxyz[1].ravel() * np.uint16(256) + chunk_cxyz[0].ravel(), minlength=4 * 256)
    per_mask = [_describe(counts_l, int(joint_ml.sum())) for counts_l in joint_ml[: 4 * 256].reshape(4, 256)]
    shells, inner_mean = _describe_shells(chunk_cxyz, voxel_size_nm)
    cleft_mean = per_mask[_CLEFT][2]
    contrast = cleft_mean - inner_mean if cleft_mean and inner_mean else 0.0
    return np.array([*np.ravel(per_mask), *shells, contrast], dtype=np.float32)


def _describe(counts_l: np.ndarray, n_voxels: int) -> list[float]:
    """Share, missing share, mean and standard deviation of a mask from its histogram."""
    n_mask, n_seen = int(counts_l.sum()), int(counts_l[1:].sum())
    levels_l = np.arange(1, 256) / 255.0
    mean = float(counts_l[1:] @ levels_l / n_seen) if n_seen else 0.0
    variance = float(counts_l[1:] @ (levels_l - mean) ** 2 / n_seen) if n_seen else 0.0
    return [n_mask / n_voxels, 1.0 - n_seen / n_mask if n_mask else 0.0, mean, variance**0.5]


def _describe_shells(chunk_cxyz: np.ndarray, voxel_size_nm: Sequence[float]) -> tuple[list[float], float]:
    """What lies around the cleft, shell by shell, and the mean intensity of the inner one."""
    from scipy.ndimage import distance_transform_edt

    places = np.nonzero(chunk_cxyz[1] == _CLEFT)
    n_values = len(_NEIGHBOURS) + 1
    if not len(places[0]):
        return [0.0] * n_values * (len(SHELLS_NM) - 1), 0.0
    reach = [int(np.ceil(SHELLS_NM[-1] / size)) for size in voxel_size_nm]
    window = tuple(slice(max(0, p.min() - r), p.max() + r + 1) for p, r in zip(places, reach, strict=True))
    intensity_xyz, code_xyz = chunk_cxyz[0][window], chunk_cxyz[1][window]
    distance_xyz = distance_transform_edt(code_xyz != _CLEFT, sampling=voxel_size_nm)
    values: list[float] = []
    for inner, outer in pairwise(SHELLS_NM):
        is_shell_xyz = (distance_xyz > inner) & (distance_xyz <= outer)
        codes_v, levels_v = code_xyz[is_shell_xyz], intensity_xyz[is_shell_xyz]
        seen_v = levels_v[levels_v > 0]
        values += [float((codes_v == code).mean()) if len(codes_v) else 0.0 for code in _NEIGHBOURS.values()]
        values.append(float(seen_v.mean() / 255.0) if len(seen_v) else 0.0)
    return values, values[n_values - 1]


def store_mask_statistics(store: ReadableChunks, voxel_size_nm: Sequence[float], batch_size: int = 32) -> np.ndarray:
    """Statistics of all chunks of a store, read batch by batch so that memory stays small.

    Args:
        store: Anything with ``len`` and ``read``, such as the chunk store.
        voxel_size_nm: Voxel size (x, y, z) in nm.
        batch_size: Chunks held in memory at a time.

    Returns:
        float32 (n, 25), columns named by ``MASK_STATISTIC_NAMES``.
    """
    statistics_nk = np.empty((len(store), len(MASK_STATISTIC_NAMES)), dtype=np.float32)
    for start in range(0, len(store), batch_size):
        rows = range(start, min(start + batch_size, len(store)))
        for row, chunk_cxyz in zip(rows, store.read(list(rows)), strict=True):
            statistics_nk[row] = mask_statistics(chunk_cxyz, voxel_size_nm)
    return statistics_nk
