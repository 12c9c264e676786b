"""Nearest neighbours in feature space: "find more synapses like this one"."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from synapseclr.analysis.schema_columns import (
    COUNT,
    KEY,
    NOT_NEGATIVE,
    POSITIVE_COUNT,
    SHARE,
)
from synapseclr.errors import SynapseCLRError
from synapseclr.volumes.table_schema import Column, TableSchema

NEAREST_NEIGHBOURS = TableSchema(
    "The table of nearest neighbours",
    {
        "synapse_id": KEY,
        "rank": POSITIVE_COUNT,
        "neighbour_synapse_id": KEY,
        "distance": NOT_NEGATIVE,
        "is_drawn": Column("flag"),
    },
    key="synapse_id",
)

INDEX_RECALL = TableSchema(
    "The table of index recall",
    {
        "index": Column("text", unique=True, rule=("isin", {"allowed_values": ["flat", "hnsw", "ivf"]})),
        "is_used": Column("flag"),
        "n_synapses": POSITIVE_COUNT,
        "n_neighbours": POSITIVE_COUNT,
        "n_queries": COUNT,
        "recall": SHARE,
    },
)

IndexKind = Literal["auto", "flat", "hnsw", "ivf"]
APPROXIMATE: tuple[IndexKind, ...] = ("hnsw", "ivf")
_FLAT_BELOW = 500_000
_HNSW_LINKS = 32
_HNSW_SEARCH_DEPTH = 128
_IVF_POINTS_PER_LIST = 39  # training vectors a list below which faiss warns
_IVF_TRAINING_POINTS = 48  # per list; faiss' default, 256, takes five times as long
_IVF_PROBES = 20
_BLOCK_VALUES = 4_000_000  # feature values held at a time


class Neighbours(NamedTuple):
    """Neighbours of queries, nearest first.

    Attributes:
        indices_qk: int64 (q, k): rows of the neighbours.
        distances_qk: float32 (q, k): Euclidean distances.
    """

    indices_qk: np.ndarray
    distances_qk: np.ndarray


def chosen_index(n_synapses: int, kind: IndexKind) -> IndexKind:
    """Resolve ``auto``: ``flat`` below 500,000 synapses, ``ivf`` from there on, which is fast to build."""
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
    """Index over the features of synapses. Which are found depends on its kind; their distances are exact.

    An exact (``flat``) search reads the features themselves, so it needs no memory of its own.

    Args:
        features_nf: float32 (n, f).
        kind: Kind of index, as for :func:`build_index`.
    """

    def __init__(self, features_nf: np.ndarray, kind: IndexKind = "auto") -> None:
        self.features_nf = np.ascontiguousarray(features_nf, dtype=np.float32)
        self.kind = chosen_index(len(features_nf), kind)
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
        return self._nearest_first(query_qf, faiss.knn(query_qf, self.features_nf, k)[1])

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
        distances_qk = _exact_distances(self.features_nf, query_qf, indices_qk)
        order_qk = np.lexsort((indices_qk, distances_qk), axis=1)
        return Neighbours(
            np.take_along_axis(indices_qk, order_qk, axis=1), np.take_along_axis(distances_qk, order_qk, axis=1)
        )


def _exact_distances(features_nf: np.ndarray, query_qf: np.ndarray, rows_qk: np.ndarray) -> np.ndarray:
    """Distances float32 (q, k) of queries to rows (q, k): differences squared and summed.

    faiss expands the square, ``|x|^2 - 2 x.y + |y|^2``, for many queries, and loses digits that way.
    """
    distances_qk = np.empty(rows_qk.shape, dtype=np.float32)
    step = max(1, _BLOCK_VALUES // max(1, rows_qk.shape[1] * features_nf.shape[1]))
    for start in range(0, len(query_qf), step):
        part = slice(start, start + step)
        difference_qkf = features_nf[rows_qk[part]] - query_qf[part, None]
        distances_qk[part] = np.sqrt(np.einsum("qkf,qkf->qk", difference_qkf, difference_qkf, dtype=np.float64))
    return distances_qk


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


def reciprocal_ranks(query_qf: np.ndarray, gallery_nf: np.ndarray, is_match_qn: np.ndarray) -> np.ndarray:
    """Reciprocal rank of the nearest match of every query.

    Features are standardised by the gallery, so that no feature counts by its scale; distances are Euclidean.

    Args:
        query_qf: Features of the queries, (q, f).
        gallery_nf: Features that are searched, (n, f).
        is_match_qn: Boolean: which of the gallery belong to a query. Entries that a query must not find, such as
            itself, are left out of the search by NaN: give float then, 1 for a match, 0 for none, NaN for left out.

    Returns:
        float64 (q,): 1 where the nearest belongs to the query, 1/2 where the second is the first to do so, ...; NaN for
        a query without a match.

    Source: Voorhees 1999, The TREC-8 question answering track report.
    """
    mean_f, std_f = gallery_nf.mean(axis=0), gallery_nf.std(axis=0)
    varies_f = std_f > 1e-7 * np.maximum(np.abs(mean_f), 1e-30)
    scaled = [((each - mean_f) / np.where(varies_f, std_f, 1.0))[:, varies_f] for each in (query_qf, gallery_nf)]
    squared_qn = np.square(scaled[0][:, None] - scaled[1][None]).sum(axis=2)
    match_qn = np.asarray(is_match_qn, dtype=float)
    squared_qn = np.where(np.isnan(match_qn), np.inf, squared_qn)
    ranks = np.full(len(query_qf), np.nan)
    for q, (distance_n, match_n) in enumerate(zip(squared_qn, match_qn, strict=True)):
        matches = np.flatnonzero(match_n == 1)
        if len(matches):
            # Ties count against the query: everything at least as near as the match stands before it.
            nearest = distance_n[matches].min()
            ranks[q] = 1 / max(1, int(((distance_n <= nearest) & (match_n != 1)).sum()) + 1)
    return ranks
