"""Which features say the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from synapseclr.analysis.layers import check_finite
from synapseclr.errors import SynapseCLRError

FEATURE_CLUSTER_COLUMNS = ("layer", "feature", "place", "cluster", "standard_deviation", "is_constant")
_NO_PLACE = -1


@dataclass(frozen=True)
class FeatureClusters:
    """Correlations of features in the order of their tree.

    Attributes:
        correlation_mm: float64 (m, m): Pearson correlations of the m features that vary, in the order of the tree.
        linkage: float64 (m - 1, 4): the tree, as scipy writes it, over the varying features in their own order; without
            rows if fewer than two vary.
        table: One row per feature: ``layer``, ``feature`` (its number), ``place`` in the order of the tree, ``cluster``
            (from 1 on, along that order), ``standard_deviation``, ``is_constant`` (then place and cluster are -1).
    """

    correlation_mm: np.ndarray
    linkage: np.ndarray
    table: pd.DataFrame


def cluster_features(features_nf: np.ndarray, layer: str, n_clusters: int = 8) -> FeatureClusters:
    """Arrange features so that those which go together stand together.

    Average linkage over 1 - r, with leaves in the optimal order (Bar-Joseph et al. 2001,
    doi:10.1093/bioinformatics/17.suppl_1.S22): features with opposite signs are far apart.

    Args:
        features_nf: float (n, f), n at least 3.
        layer: Name of the layer, for the table and for messages.
        n_clusters: Clusters that the tree is cut into, at most.

    Returns:
        The arrangement. Constant features have no correlation; they are left out and marked.

    Raises:
        SynapseCLRError: If there are fewer than three synapses, or values are not finite.
    """
    from scipy.cluster.hierarchy import cut_tree, leaves_list, linkage
    from scipy.spatial.distance import squareform

    if len(features_nf) < 3:
        raise SynapseCLRError(
            f"Correlations of features need at least 3 synapses, the embeddings hold {len(features_nf)}."
        )
    check_finite(features_nf, layer)
    spread_f = features_nf.std(axis=0, dtype=np.float64)
    varying = np.flatnonzero(spread_f > 1e-7 * np.maximum(np.abs(features_nf).max(axis=0), 1e-30))
    table = pd.DataFrame(
        {
            "layer": layer,
            "feature": np.arange(features_nf.shape[1]),
            "place": _NO_PLACE,
            "cluster": _NO_PLACE,
            "standard_deviation": spread_f,
            "is_constant": True,
        }
    )
    if not len(varying):
        return FeatureClusters(np.empty((0, 0)), np.empty((0, 4)), table)
    correlation_mm = np.atleast_2d(np.corrcoef(features_nf[:, varying], rowvar=False))
    tree, order, cut = np.empty((0, 4)), np.array([0]), np.array([0])
    if len(varying) > 1:
        distance_mm = np.clip(1.0 - correlation_mm, 0.0, 2.0)
        np.fill_diagonal(distance_mm, 0.0)
        tree = linkage(squareform(distance_mm, checks=False), method="average", optimal_ordering=True)
        order = leaves_list(tree)
        cut = cut_tree(tree, n_clusters=min(n_clusters, len(varying))).ravel()
    renumbered = dict.fromkeys(cut[order].tolist())
    number_of = {old: new for new, old in enumerate(renumbered, start=1)}
    table.loc[varying[order], "place"] = np.arange(len(varying))
    table.loc[varying, "cluster"] = [number_of[int(label)] for label in cut]
    table.loc[varying, "is_constant"] = False
    return FeatureClusters(correlation_mm[np.ix_(order, order)], tree, table)
