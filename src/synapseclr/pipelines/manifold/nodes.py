"""Nodes of the manifold pipeline that project synapses, and find clusters and axes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from synapseclr.analysis.layers import layer_features
from synapseclr.analysis.manifold import (
    UNCLUSTERED,
    Clusters,
    ManifoldAxis,
    ManifoldConfig,
    axis_position_table,
    axis_profiles,
    cluster_axes,
    cluster_profiles,
    find_clusters,
    fit_manifold,
)

if TYPE_CHECKING:
    from anndata import AnnData
else:
    # Kedro resolves the hints of node functions when the project starts; these types are too heavy to import then.
    AnnData = Any

logger = logging.getLogger(__name__)
_NO_CLUSTER = "none"


def project_synapses(synapse_embeddings: AnnData, config: ManifoldConfig) -> AnnData:
    """Add the plane, and the cluster that each synapse belongs to, to the embeddings.

    Args:
        synapse_embeddings: Synapses by features.
        config: The parameters ``manifold``.

    Returns:
        AnnData with the chosen layer as ``X``; ``obs`` with a column ``cluster`` (categories ``0``, ``1``, ... by size,
        and ``none``); coordinates in ``obsm["X_pca"]``, ``obsm["X_umap"]`` and, if asked for, ``obsm["X_umap_3d"]``;
        what was really used in ``uns["manifold"]``.
    """
    from anndata import AnnData

    features_nf = layer_features(synapse_embeddings, config.layer)
    manifold = fit_manifold(features_nf, config)
    if manifold.settings["method"] != "umap":
        logger.warning("The manifold shows principal components instead of UMAP (%s).", manifold.settings["method"])
    clusters = find_clusters(manifold.umap_n2, config.clusters, config.random_state or 0)
    if clusters.method != "hdbscan":
        logger.warning("The manifold has %s.", clusters.method)
    uns = dict(synapse_embeddings.uns)
    uns["manifold"] = manifold.settings | {
        "explained_variance_ratio": manifold.explained_variance_p,
        "clusters": clusters.method,
        "n_clusters": clusters.n_clusters,
    }
    obs = synapse_embeddings.obs.copy()
    names = [_NO_CLUSTER if label == UNCLUSTERED else str(label) for label in clusters.label_n]
    categories = [*map(str, range(clusters.n_clusters)), _NO_CLUSTER]
    obs["cluster"] = pd.Categorical(names, categories=categories)
    obsm = {"X_pca": manifold.pca_np, "X_umap": manifold.umap_n2}
    if manifold.umap_n3 is not None:
        obsm["X_umap_3d"] = manifold.umap_n3
    return AnnData(X=features_nf, obs=obs, obsm=obsm, uns=uns)


def describe_clusters(
    synapse_manifold: AnnData, config: ManifoldConfig
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """What the synapses of each cluster are like, and what changes along the axes of the largest ones.

    Returns:
        Traits per cluster; the place of every synapse along the axes; traits along the axes.
    """
    obs = synapse_manifold.obs
    axes = axes_of(synapse_manifold, config)
    return (
        cluster_profiles(obs, clusters_of(synapse_manifold), config.axes),
        axis_position_table(axes, obs["synapse_id"].to_numpy(), config.axes.n_samples),
        axis_profiles(axes, obs, config.axes),
    )


def clusters_of(synapse_manifold: AnnData) -> Clusters:
    """The clusters that were found."""
    names = synapse_manifold.obs["cluster"].astype(str)
    labels_n = np.array([UNCLUSTERED if name == _NO_CLUSTER else int(name) for name in names], dtype=np.int64)
    return Clusters(labels_n, str(synapse_manifold.uns["manifold"]["clusters"]))


def axes_of(synapse_manifold: AnnData, config: ManifoldConfig) -> list[ManifoldAxis]:
    """The axes of the largest clusters."""
    return cluster_axes(synapse_manifold.obsm["X_umap"], clusters_of(synapse_manifold), config.axes.n_clusters)


def axis_name(synapse_manifold: AnnData) -> str:
    """Name of the plane's axes: UMAP, or PC where principal components stand in for it."""
    return "UMAP" if synapse_manifold.uns["manifold"]["method"] == "umap" else "PC"
