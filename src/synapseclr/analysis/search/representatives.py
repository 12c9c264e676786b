"""Synapses to ask about when nobody asked: one for every region of feature space."""

from __future__ import annotations

import numpy as np


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
