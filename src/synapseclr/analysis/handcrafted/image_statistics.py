"""Trivial statistics of a chunk: what a representation must beat to have learned morphology."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

HISTOGRAM_BINS = 16
_MASK_CODES = {"pre_synaptic": 1, "synaptic_cleft": 2, "post_synaptic": 3}

STATISTIC_NAMES: tuple[str, ...] = (
    "intensity_mean",
    "intensity_variance",
    *(f"intensity_histogram_{index:02d}" for index in range(HISTOGRAM_BINS)),
    *(f"{name}_fraction" for name in _MASK_CODES),
)
"""Names of the columns that :func:`chunk_statistics` and :func:`store_statistics` return."""


class ReadableChunks(Protocol):
    """What is needed of a chunk store: its length, and chunks by index."""

    def __len__(self) -> int:
        """Number of chunks."""
        ...

    def read(self, indices: list[int]) -> np.ndarray:
        """Chunks uint8 (k, 2, x, y, z): intensity, then mask codes."""
        ...


def chunk_statistics(chunk_cxyz: np.ndarray) -> np.ndarray:
    """Statistics of one chunk that ignore where anything lies.

    Args:
        chunk_cxyz: uint8 (2, x, y, z): intensity, mask codes (0 background, 1 pre, 2 cleft, 3 post).

    Returns:
        float32 (k,), named by ``STATISTIC_NAMES``: mean and variance of the intensity in [0, 1], its 16-bin histogram
        as fractions, and the fraction of the voxels under each mask code.
    """
    counts_l = np.bincount(chunk_cxyz[0].ravel(), minlength=256)
    levels_l = np.arange(256) / 255.0
    fractions_l = counts_l / counts_l.sum()
    mean = float(fractions_l @ levels_l)
    variance = float(fractions_l @ (levels_l - mean) ** 2)
    histogram_b = fractions_l.reshape(HISTOGRAM_BINS, -1).sum(axis=1)
    codes = np.bincount(chunk_cxyz[1].ravel(), minlength=4) / chunk_cxyz[1].size
    volumes = codes[list(_MASK_CODES.values())]
    return np.concatenate([[mean, variance], histogram_b, volumes]).astype(np.float32)


def store_statistics(
    store: ReadableChunks, indices: Sequence[int] | np.ndarray | None = None, batch_size: int = 32
) -> np.ndarray:
    """Statistics of many chunks, read batch by batch so that memory stays small.

    Args:
        store: Anything with ``len`` and ``read``, such as the chunk store.
        indices: Chunks to read, in the order wanted; all of them by default.
        batch_size: Chunks held in memory at a time.

    Returns:
        float32 (n, k), columns named by ``STATISTIC_NAMES``.
    """
    wanted_n = np.arange(len(store)) if indices is None else np.asarray(indices)
    statistics_nk = np.empty((len(wanted_n), len(STATISTIC_NAMES)), dtype=np.float32)
    for start in range(0, len(wanted_n), batch_size):
        chunks_bcxyz = store.read(wanted_n[start : start + batch_size].tolist())
        for offset, chunk_cxyz in enumerate(chunks_bcxyz):
            statistics_nk[start + offset] = chunk_statistics(chunk_cxyz)
    return statistics_nk
