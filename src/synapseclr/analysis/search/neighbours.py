"""Nearest neighbours in feature space: "find more synapses like this one"."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from synapseclr.analysis.search.scalar_codes import ScalarCodes, exact_distances
from synapseclr.errors import SynapseCLRError

IndexKind = Literal["auto", "flat", "hnsw", "ivf"]
APPROXIMATE: tuple[IndexKind, ...] = ("hnsw", "ivf")
_FLAT_BELOW = 500_000
_HNSW_LINKS = 32
_HNSW_SEARCH_DEPTH = 128
_IVF_POINTS_PER_LIST = 39  # faiss asks for as many training vectors a list
_IVF_TRAINING_POINTS = 48  # per list; faiss' 256 take five times as long
_IVF_PROBES = 20
_CODES_FROM_VALUES = 5_000_000  # fewer feature values lie in a processor's cache, or nearly
_FEW_QUERIES = 32


class Neighbours(NamedTuple):
    """Neighbours of queries, nearest first.

    Attributes:
        indices_qk: int64 (q, k): rows of the neighbours.
        distances_qk: float32 (q, k): Euclidean distances.
    """

    indices_qk: np.ndarray
    distances_qk: np.ndarray


def chosen_index(n_synapses: int, kind: IndexKind) -> IndexKind:
    """What ``auto`` stands for: ``flat`` below 500,000 synapses, ``ivf`` from there on, which is fast to build."""
    if kind != "auto":
        return kind
    return "flat" if n_synapses < _FLAT_BELOW else "ivf"


def build_index(features_nf: np.ndarray, kind: IndexKind) -> Any:
    """Make a faiss index over all synapses by Euclidean distance.

    Args:
        features_nf: float32 (n, f).
        kind: ``flat`` is exact; ``hnsw`` is an approximate graph; ``ivf`` looks into the cells of a k-means partition
            that are nearest to the query, 20 of at most 2 sqrt(n); ``auto`` chooses by size.

    Returns:
        A faiss index that holds the n vectors.

    Source: Malkov & Yashunin 2020, doi:10.1109/TPAMI.2018.2889473, for ``hnsw``; Jegou et al. 2011,
    doi:10.1109/TPAMI.2010.57, for ``ivf``.
    """
    import faiss

    n_synapses, n_features = features_nf.shape
    kind = chosen_index(n_synapses, kind)
    vectors_nf = np.ascontiguousarray(features_nf, dtype=np.float32)
    index: Any
    if kind == "flat":
        index = faiss.IndexFlatL2(n_features)
    elif kind == "hnsw":
        index = faiss.IndexHNSWFlat(n_features, _HNSW_LINKS)
        index.hnsw.efSearch = _HNSW_SEARCH_DEPTH
    else:
        n_lists = max(1, min(int(2 * n_synapses**0.5), n_synapses // _IVF_POINTS_PER_LIST))
        index = faiss.IndexIVFFlat(faiss.IndexFlatL2(n_features), n_features, n_lists)
        index.cp.min_points_per_centroid = 1  # else faiss prints a warning about a handful of synapses
        index.cp.max_points_per_centroid = _IVF_TRAINING_POINTS
        index.train(vectors_nf)
        index.nprobe = min(_IVF_PROBES, n_lists)
    index.add(vectors_nf)
    return index


class FeatureIndex:
    """Synapses that can be searched. Which are found depends on the index; their distances are exact.

    An exact search reads the features themselves, so that a ``flat`` index needs no memory of its own, until it is
    asked a few queries at a time: then it makes 8-bit codes of the features, a quarter of their memory, which answer a
    single query in a seventh of the time, just as exactly (:class:`ScalarCodes`).

    Args:
        features_nf: float32 (n, f).
        kind: Kind of index, as for :func:`build_index`.
        codes_from_values: Feature values (n times f) from which on codes are made; with fewer there is nothing to gain.
    """

    def __init__(
        self, features_nf: np.ndarray, kind: IndexKind = "auto", codes_from_values: int = _CODES_FROM_VALUES
    ) -> None:
        self.features_nf = np.ascontiguousarray(features_nf, dtype=np.float32)
        self.kind = chosen_index(len(features_nf), kind)
        self._codes: ScalarCodes | None = None
        self._codes_from_values = codes_from_values
        self._index = None if self.kind == "flat" else build_index(self.features_nf, self.kind)

    def __len__(self) -> int:
        return len(self.features_nf)

    def search(self, query_qf: np.ndarray, k: int) -> Neighbours:
        """Find the k synapses nearest to each query vector.

        Args:
            query_qf: float (q, f).
            k: Neighbours per query.

        Returns:
            Neighbours, nearest first; of equally near ones the first row first. Where an approximate index finds fewer
            than k, the exact search is asked.

        Raises:
            SynapseCLRError: If there are fewer than k synapses.
        """
        if not 1 <= k <= len(self):
            raise SynapseCLRError(
                f"{k} neighbours asked for, but there are {len(self)} synapses to choose from: lower "
                "n_neighbours or widen the filter."
            )
        query_qf = np.ascontiguousarray(query_qf, dtype=np.float32)
        if self._index is None:
            return self.search_exactly(query_qf, k)
        indices_qk = self._index.search(query_qf, k)[1].astype(np.int64)
        is_short_q = (indices_qk < 0).any(axis=1)
        if is_short_q.any():
            indices_qk[is_short_q] = self.search_exactly(query_qf[is_short_q], k).indices_qk
        return self._nearest_first(query_qf, indices_qk)

    def search_exactly(self, query_qf: np.ndarray, k: int) -> Neighbours:
        """Find the true nearest synapses, whatever the kind of index; takes and returns what ``search`` does."""
        import faiss

        query_qf = np.ascontiguousarray(query_qf, dtype=np.float32)
        # A large batch, once, is not worth making codes for, but is answered from them if they are there.
        if self._codes is None and len(query_qf) <= _FEW_QUERIES and self.features_nf.size >= self._codes_from_values:
            self._codes = ScalarCodes(self.features_nf)
        if self._codes is None:
            return self._nearest_first(query_qf, faiss.knn(query_qf, self.features_nf, k)[1])
        indices_qk, is_found_q = self._codes.search(query_qf, k)
        if not is_found_q.all():
            indices_qk[~is_found_q] = faiss.knn(query_qf[~is_found_q], self.features_nf, k)[1]
        return self._nearest_first(query_qf, indices_qk)

    def neighbours_of_rows(self, rows_q: np.ndarray, k: int, exactly: bool = False) -> Neighbours:
        """Find the k synapses nearest to each of some synapses, the synapse itself excluded.

        Args:
            rows_q: int (q,): rows of the synapses.
            k: Neighbours per synapse.
            exactly: Search exactly, whatever the kind of index.

        Returns:
            Neighbours, nearest first. A duplicate of the synapse, at distance zero, counts as a neighbour.

        Raises:
            SynapseCLRError: If there are not k other synapses.
        """
        rows_q = np.asarray(rows_q, dtype=np.int64)
        if not 1 <= k <= len(self) - 1:
            raise SynapseCLRError(
                f"{k} neighbours asked for, but there are {len(self) - 1} other synapses: lower n_neighbours."
            )
        found = (self.search_exactly if exactly else self.search)(self.features_nf[rows_q], k + 1)
        is_other_qk = found.indices_qk != rows_q[:, None]
        # Among duplicates the synapse may not be in its own list: then the farthest entry goes.
        is_other_qk[is_other_qk.all(axis=1), -1] = False
        shape = (len(rows_q), k)
        return Neighbours(found.indices_qk[is_other_qk].reshape(shape), found.distances_qk[is_other_qk].reshape(shape))

    def _nearest_first(self, query_qf: np.ndarray, indices_qk: np.ndarray) -> Neighbours:
        distances_qk = exact_distances(self.features_nf, query_qf, indices_qk)
        order_qk = np.lexsort((indices_qk, distances_qk), axis=1)
        return Neighbours(
            np.take_along_axis(indices_qk, order_qk, axis=1), np.take_along_axis(distances_qk, order_qk, axis=1)
        )


def nearest_neighbours(
    features_nf: np.ndarray, query_indices: np.ndarray, k: int, kind: IndexKind = "flat"
) -> Neighbours:
    """Find the k synapses nearest to each query, with an index that is used once.

    Args:
        features_nf: float32 (n, f).
        query_indices: int (q,): rows of the queries.
        k: Neighbours per query, itself excluded.
        kind: Kind of index.

    Returns:
        As :meth:`FeatureIndex.neighbours_of_rows`, which also says what it raises.
    """
    return FeatureIndex(features_nf, kind).neighbours_of_rows(query_indices, k)


def measure_recall(index: FeatureIndex, k: int, n_queries: int = 200, seed: int = 0) -> float:
    """Share of the k true nearest neighbours that an index finds.

    Args:
        index: The index to measure.
        k: Neighbours per query, the query itself excluded; at most n - 1 are asked for.
        n_queries: Queries drawn without replacement; at most n.
        seed: Seed of the draw.

    Returns:
        Recall, 0 to 1. A neighbour that lies as near as the k-th true one counts as found, so that ties do no harm.
    """
    rng = np.random.default_rng(seed)
    query_q = rng.choice(len(index), size=min(n_queries, len(index)), replace=False)
    k = min(k, len(index) - 1)
    exact = index.neighbours_of_rows(query_q, k, exactly=True)
    found = index.neighbours_of_rows(query_q, k)
    return float((found.distances_qk <= exact.distances_qk[:, -1:] * (1 + 1e-6)).mean())


def neighbour_table(neighbours: Neighbours, query_indices: np.ndarray, synapse_id: np.ndarray) -> pd.DataFrame:
    """Lay out neighbours as a table of synapse ids.

    Args:
        neighbours: Of q queries.
        query_indices: int (q,): rows of the queries.
        synapse_id: int64 (n,): ids of all rows.

    Returns:
        q times k rows: ``synapse_id``, ``rank`` (1 is nearest), ``neighbour_synapse_id``, ``distance``.
    """
    n_queries, k = neighbours.indices_qk.shape
    return pd.DataFrame(
        {
            "synapse_id": np.repeat(synapse_id[np.asarray(query_indices)], k),
            "rank": np.tile(np.arange(1, k + 1), n_queries),
            "neighbour_synapse_id": synapse_id[neighbours.indices_qk.ravel()],
            "distance": neighbours.distances_qk.ravel().astype(np.float32),
        }
    )
