"""Nearest neighbours in feature space: "find more synapses like this one"."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from synapseclr.errors import SynapseCLRError

IndexKind = Literal["flat", "hnsw"]
_HNSW_LINKS = 32
_HNSW_SEARCH_DEPTH = 128


class Neighbours(NamedTuple):
    """Neighbours of queries, nearest first.

    Attributes:
        indices_qk: int64 (q, k): rows of the neighbours.
        distances_qk: float32 (q, k): Euclidean distances.
    """

    indices_qk: np.ndarray
    distances_qk: np.ndarray


def build_index(features_nf: np.ndarray, kind: IndexKind = "flat") -> Any:
    """Make a faiss index over all synapses by Euclidean distance.

    Args:
        features_nf: float32 (n, f).
        kind: ``flat`` is exact; ``hnsw`` is an approximate graph, for a million synapses and more.

    Returns:
        A faiss index that holds the n vectors.

    Source: Malkov & Yashunin 2020, doi:10.1109/TPAMI.2018.2889473, for ``hnsw``.
    """
    import faiss

    n_features = features_nf.shape[1]
    index: Any
    if kind == "flat":
        index = faiss.IndexFlatL2(n_features)
    else:
        index = faiss.IndexHNSWFlat(n_features, _HNSW_LINKS)
        index.hnsw.efSearch = _HNSW_SEARCH_DEPTH
    index.add(np.ascontiguousarray(features_nf, dtype=np.float32))
    return index


def nearest_neighbours(
    features_nf: np.ndarray, query_indices: np.ndarray, k: int, kind: IndexKind = "flat"
) -> Neighbours:
    """Find the k synapses nearest to each query, the query itself excluded.

    Args:
        features_nf: float32 (n, f).
        query_indices: int (q,): rows of the queries.
        k: Neighbours per query.
        kind: Kind of index.

    Returns:
        Neighbours, nearest first. A duplicate of the query, at distance zero, counts as a neighbour.

    Raises:
        SynapseCLRError: If there are not k other synapses.
    """
    query_q = np.asarray(query_indices, dtype=np.int64)
    if not 1 <= k <= len(features_nf) - 1:
        raise SynapseCLRError(
            f"{k} neighbours asked for, but there are {len(features_nf) - 1} other synapses: lower n_neighbours."
        )
    index = build_index(features_nf, kind)
    squared_qk, indices_qk = index.search(np.ascontiguousarray(features_nf[query_q], dtype=np.float32), k + 1)
    is_other_qk = indices_qk != query_q[:, None]
    # Among duplicates the query may not be in its own list: then the farthest entry goes.
    is_other_qk[is_other_qk.all(axis=1), -1] = False
    shape = (len(query_q), k)
    distances_qk = np.sqrt(np.maximum(squared_qk[is_other_qk].reshape(shape), 0.0))
    return Neighbours(indices_qk[is_other_qk].reshape(shape).astype(np.int64), distances_qk)


def representative_queries(features_nf: np.ndarray, n_queries: int, seed: int = 0) -> np.ndarray:
    """Choose queries that stand for different regions of feature space.

    Args:
        features_nf: float32 (n, f).
        n_queries: Queries wanted; at most n are returned.
        seed: Seed of the clustering.

    Returns:
        int64 (q,), sorted: the synapse nearest to each centre of a k-means clustering.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import pairwise_distances_argmin

    if n_queries >= len(features_nf):
        return np.arange(len(features_nf))
    n_distinct = len(np.unique(features_nf, axis=0))
    clusters = KMeans(n_clusters=min(n_queries, n_distinct), n_init=1, random_state=seed).fit(features_nf)
    nearest_q = pairwise_distances_argmin(clusters.cluster_centers_, features_nf)
    return np.unique(nearest_q).astype(np.int64)


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
