"""Clusters of synapses in the plane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synapseclr.analysis.manifold.config import ClusterConfig

UNCLUSTERED = -1
_FEWEST_IN_CLUSTER = 5


@dataclass(frozen=True)
class Clusters:
    """Which synapse is in which cluster.

    Attributes:
        label_n: int64 (n,): 0 is the largest cluster, then by size; -1 lies in none.
        method: ``hdbscan``, or why all synapses are one cluster.
    """

    label_n: np.ndarray
    method: str

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return int(self.label_n.max()) + 1


def find_clusters(coordinates_nd: np.ndarray, config: ClusterConfig | None = None, seed: int = 0) -> Clusters:
    """Find dense regions by HDBSCAN (Campello et al. 2013, doi:10.1007/978-3-642-37456-2_14).

    Args:
        coordinates_nd: float (n, d), such as the plane of UMAP.
        config: Smallest cluster and density.
        seed: Seed of the synapses searched where there are more than ``max_synapses``.

    Returns:
        The clusters. Where there are too few synapses for two clusters, where they all lie in one place, or where no
        region is dense, all synapses make up one cluster, and ``method`` says so.
    """
    config = config or ClusterConfig()
    n_synapses = len(coordinates_nd)
    everything = np.zeros(n_synapses, np.int64)
    smallest = max(_FEWEST_IN_CLUSTER, round(config.min_fraction * min(n_synapses, config.max_synapses)))
    if n_synapses < 2 * smallest:
        return Clusters(everything, f"one cluster: {n_synapses} synapses, two clusters need {2 * smallest}")
    if not np.ptp(coordinates_nd, axis=0).any():
        return Clusters(everything, "one cluster: all synapses lie in the same place")
    searched = np.arange(n_synapses)
    if n_synapses > config.max_synapses:
        searched = np.random.default_rng(seed).choice(n_synapses, config.max_synapses, replace=False)
    found = _hdbscan(coordinates_nd[searched], smallest, min(config.min_samples, len(searched) - 1))
    if found.max() < 0:
        return Clusters(everything, "one cluster: no region is denser than the rest")
    if len(searched) < n_synapses:
        found = _nearest_label(coordinates_nd, searched, found)
    sizes = np.bincount(found[found >= 0])
    rank = np.empty(len(sizes), np.int64)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    return Clusters(np.where(found >= 0, rank[found], UNCLUSTERED), "hdbscan")


def _hdbscan(coordinates_nd: np.ndarray, smallest: int, min_samples: int) -> np.ndarray:
    from sklearn.cluster import HDBSCAN

    model = HDBSCAN(min_cluster_size=smallest, min_samples=min_samples, copy=True)
    labels_n: np.ndarray = model.fit_predict(coordinates_nd).astype(np.int64)
    return labels_n


def _nearest_label(coordinates_nd: np.ndarray, searched: np.ndarray, label_s: np.ndarray) -> np.ndarray:
    """Label of the nearest synapse among those that were searched."""
    from scipy.spatial import cKDTree

    nearest_n = cKDTree(coordinates_nd[searched]).query(coordinates_nd)[1]
    labels_n: np.ndarray = label_s[nearest_n]
    return labels_n
