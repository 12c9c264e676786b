"""Rows of features that may be larger than memory: blocks one after the other, single rows, and samples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from synapseclr.storage.sharded_anndata import stored_array

_BLOCK_VALUES = 40_960 * 512  # feature values read at a time: 84 MB
_CHUNK_VALUES = 16_000_000  # feature values of chunks that are decoded for single rows at a time: 64 MB
_ALIGNED_ROWS = 4096  # blocks begin at multiples of it, as the chunks of stored features do
_MAX_SAMPLE_READS = 256


def is_lazy(features: Any) -> bool:
    """Tell features that stay in their files, a dask or Zarr array, from those in memory."""
    return hasattr(features, "dask") or hasattr(features, "oindex")


def row_blocks(n_rows: int, n_features: int) -> list[range]:
    """Cut rows into blocks of some 84 MB of float32, which begin where the chunks of stored features begin."""
    rows = max(_BLOCK_VALUES // max(n_features, 1) // _ALIGNED_ROWS, 1) * _ALIGNED_ROWS
    return [range(start, min(start + rows, n_rows)) for start in range(0, n_rows, rows)]


def read_rows(features: Any, rows: range) -> np.ndarray:
    """Read consecutive rows of features in memory or lazy: float32 (rows, f)."""
    return np.ascontiguousarray(features[rows.start : rows.stop], dtype=np.float32)


class FeatureRows:
    """Single rows of features, read as few stored chunks as there are around them.

    Args:
        features: (n, f): in memory, a Zarr array, a dask array over one, or anything with row slices.
    """

    def __init__(self, features: Any) -> None:
        self._features = features
        self._stored = stored_array(features)
        self.shape: tuple[int, int] = tuple(int(size) for size in features.shape)  # type: ignore[assignment]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows_r: np.ndarray) -> np.ndarray:
        """Read rows in any order, repeated ones too: float32 (r, f)."""
        distinct_d, position_r = np.unique(np.asarray(rows_r, dtype=np.int64), return_inverse=True)
        if isinstance(self._features, np.ndarray):
            found_df = self._features[distinct_d]
        elif self._stored is not None:
            found_df = self._by_chunks(self._stored, distinct_d)
        else:
            found_df = self._by_slices(distinct_d)
        return np.asarray(found_df, dtype=np.float32)[position_r]

    def _by_chunks(self, stored: Any, distinct_d: np.ndarray) -> np.ndarray:
        """Read rows of a Zarr array, some chunks at a time: Zarr holds all chunks of a request decoded."""
        found_df = np.empty((len(distinct_d), self.shape[1]), np.float32)
        chunk_d = distinct_d // stored.chunks[0]
        n_at_once = max(1, _CHUNK_VALUES // (stored.chunks[0] * self.shape[1]))
        is_first_d = np.diff(chunk_d, prepend=-1) > 0
        group_d = (np.cumsum(is_first_d) - 1) // n_at_once
        for part in np.split(np.arange(len(distinct_d)), np.flatnonzero(np.diff(group_d)) + 1):
            if len(part):
                found_df[part] = stored.oindex[distinct_d[part]]
        return found_df

    def _by_slices(self, distinct_d: np.ndarray) -> np.ndarray:
        """Read the rows between the first and the last one wanted in every 4,096."""
        found_df = np.empty((len(distinct_d), self._features.shape[1]), np.float32)
        ends = np.flatnonzero(np.diff(distinct_d // _ALIGNED_ROWS)) + 1
        for part in np.split(np.arange(len(distinct_d)), ends):
            if len(part):
                first, last = int(distinct_d[part[0]]), int(distinct_d[part[-1]])
                found_df[part] = read_rows(self._features, range(first, last + 1))[distinct_d[part] - first]
        return found_df

    def blocks(self, rows_m: np.ndarray | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Read all rows, or some, block by block.

        Args:
            rows_m: int64 (m,), ascending; None: all.

        Yields:
            Rows int64 (r,) and their features float32 (r, f).
        """
        for rows in row_blocks(*self.shape):
            if rows_m is None:
                yield np.arange(rows.start, rows.stop), read_rows(self._features, rows)
                continue
            chosen_r = rows_m[slice(*np.searchsorted(rows_m, [rows.start, rows.stop]))]
            if len(chosen_r):
                yield chosen_r, read_rows(self._features, rows)[chosen_r - rows.start]

    def sample(self, n_sampled: int) -> Iterator[tuple[range, np.ndarray]]:
        """Read about n rows in up to 256 runs of neighbouring ones, which are spread evenly over all rows.

        Yields:
            Rows of a run, and their features float32 (r, f).
        """
        n_runs = max(1, min(_MAX_SAMPLE_READS, n_sampled, len(self)))
        edges = np.linspace(0, len(self), n_runs + 1).astype(int).tolist()
        for start, stop in itertools.pairwise(edges):
            rows = range(start, min(start + math.ceil(n_sampled / n_runs), stop))
            yield rows, read_rows(self._features, rows)
