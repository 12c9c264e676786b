"""Exact nearest neighbours by way of 8-bit codes: a quarter of the bytes to read for the same answer."""

from __future__ import annotations

from typing import Any

import numpy as np

_CANDIDATES = 64  # at first, and at least four for every neighbour wanted
_MORE_CANDIDATES = 16  # times as many, once, where those did not suffice
_BLOCK_VALUES = 4_000_000  # feature values held at a time


class ScalarCodes:
    """Features rounded to 256 steps between each feature's least and largest value, to be scanned instead of them.

    A search for single queries waits for memory, and codes are a quarter of it. The answer is exact all the same: with
    ``e`` the largest distance between a synapse and its code, whatever is farther than ``c`` by its code is farther
    than ``c - e`` in truth (triangle inequality). So the nearest candidates by code are ranked by their true distances,
    and hold the k nearest synapses if the k-th of these is nearer than the last candidate's ``c - e``. Bounds on the
    rounding of 32-bit arithmetic are part of ``e``.

    Needs a quarter of the features' memory.

    Args:
        features_nf: float32 (n, f), contiguous. Not copied.
        n_shards: Parts that are scanned side by side; None: as many as faiss has threads.
    """

    def __init__(self, features_nf: np.ndarray, n_shards: int | None = None) -> None:
        import faiss

        self._features_nf = features_nf
        n_synapses, n_features = features_nf.shape
        trained = faiss.IndexScalarQuantizer(n_features, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_L2)
        trained.train(features_nf)
        self._rounding = (n_features + 16) * 2.0**-23
        self._error = self._largest_error(trained)
        shards: Any = faiss.IndexShards  # whose stub lacks the arguments: threaded, rows in the order of the parts
        self._index = shards(n_features, True, True)
        self._shards = []
        for part_nf in np.array_split(features_nf, max(1, min(n_shards or faiss.omp_get_max_threads(), n_synapses))):
            shard = faiss.clone_index(trained)
            shard.add(part_nf)
            self._shards.append(shard)
            self._index.add_shard(shard)

    def _largest_error(self, trained: Any) -> float:
        """``e``; not finite if features are not, or so large that their squares are not."""
        import faiss

        largest = 0.0
        step = max(1, _BLOCK_VALUES // self._features_nf.shape[1])
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, len(self._features_nf), step):
                part_nf = self._features_nf[start : start + step]
                difference_nf = part_nf - trained.sa_decode(trained.sa_encode(part_nf))
                squared = float(np.einsum("nf,nf->n", difference_nf, difference_nf, dtype=np.float64).max())
                largest = max(largest, squared) if np.isfinite(squared) else np.inf
            # Decoding is minimum + code * step; the scan may round it otherwise than sa_decode does.
            decoding = np.linalg.norm(np.abs(faiss.vector_to_array(trained.sq.trained).astype(np.float64)))
            return float(largest**0.5 * (1 + self._rounding) + 8 * 2.0**-23 * decoding)

    def search(self, query_qf: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Find k synapses for each query, and tell for which queries they are certainly the nearest.

        Args:
            query_qf: float32 (q, f).
            k: Neighbours wanted, 1 to n.

        Returns:
            int64 (q, k) rows, in no order, and bool (q,): True where they are the k nearest; of equally near ones those
            that come first. Where it is False, the row says nothing.
        """
        rows_qk = np.zeros((len(query_qf), k), dtype=np.int64)
        is_found_q = np.zeros(len(query_qf), dtype=bool)
        if not np.isfinite(self._error):
            return rows_qk, is_found_q
        n_candidates = max(_CANDIDATES, 4 * k)
        for wanted in (n_candidates, _MORE_CANDIDATES * n_candidates):
            n_candidates = min(wanted, len(self._features_nf))
            open_q = np.flatnonzero(~is_found_q)
            step = max(1, _BLOCK_VALUES // (n_candidates * query_qf.shape[1]))
            for start in range(0, len(open_q), step):
                part_q = open_q[start : start + step]
                rows_qk[part_q], is_found_q[part_q] = self._from_candidates(query_qf[part_q], k, n_candidates)
        return rows_qk, is_found_q

    def _from_candidates(self, query_qf: np.ndarray, k: int, n_candidates: int) -> tuple[np.ndarray, np.ndarray]:
        squared_qc, rows_qc = self._index.search(query_qf, n_candidates)
        distances_qc = exact_distances(self._features_nf, query_qf, rows_qc)
        order_qk = np.lexsort((rows_qc, distances_qc), axis=1)[:, :k]
        rows_qk = np.take_along_axis(rows_qc, order_qk, axis=1)
        if n_candidates == len(self._features_nf):
            return rows_qk, np.ones(len(query_qf), dtype=bool)
        farthest_q = np.take_along_axis(distances_qc, order_qk[:, -1:], axis=1)[:, 0].astype(np.float64)
        last_q = np.sqrt(np.maximum(squared_qc[:, -1].astype(np.float64), 0.0))
        is_found_q: np.ndarray = last_q * (1 - self._rounding) - self._error > farthest_q * (1 + self._rounding)
        return rows_qk, is_found_q


def exact_distances(features_nf: np.ndarray, query_qf: np.ndarray, rows_qk: np.ndarray) -> np.ndarray:
    """Distances of queries to chosen synapses: differences squared and summed.

    faiss expands the square for many queries and loses digits that way.

    Args:
        features_nf: float32 (n, f).
        query_qf: float32 (q, f).
        rows_qk: int64 (q, k).

    Returns:
        float32 (q, k).
    """
    distances_qk = np.empty(rows_qk.shape, dtype=np.float32)
    step = max(1, _BLOCK_VALUES // max(1, rows_qk.shape[1] * features_nf.shape[1]))
    for start in range(0, len(query_qf), step):
        part = slice(start, start + step)
        difference_qkf = features_nf[rows_qk[part]] - query_qf[part, None]
        distances_qk[part] = np.sqrt(np.einsum("qkf,qkf->qk", difference_qkf, difference_qkf, dtype=np.float64))
    return distances_qk
