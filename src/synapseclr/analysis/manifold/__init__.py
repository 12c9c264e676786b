"""The plane on which all synapses can be looked at: its clusters, the axes through them, and what must not shape it."""

from synapseclr.analysis.config import AxesConfig, ClusterConfig, LeakageConfig, ManifoldConfig
from synapseclr.analysis.handcrafted import cleft_orientations
from synapseclr.analysis.manifold.clusters import (
    UNCLUSTERED,
    Clusters,
    ManifoldAxis,
    axis_position_table,
    axis_profiles,
    cluster_axes,
    cluster_profiles,
    find_clusters,
    sample_along,
)
from synapseclr.analysis.manifold.leakage_scores import measure_leakage
from synapseclr.analysis.manifold.projection import Manifold, fit_manifold, principal_components, usable_neighbours

__all__ = [
    "UNCLUSTERED",
    "AxesConfig",
    "ClusterConfig",
    "Clusters",
    "LeakageConfig",
    "Manifold",
    "ManifoldAxis",
    "ManifoldConfig",
    "axis_position_table",
    "axis_profiles",
    "cleft_orientations",
    "cluster_axes",
    "cluster_profiles",
    "find_clusters",
    "fit_manifold",
    "measure_leakage",
    "principal_components",
    "sample_along",
    "usable_neighbours",
]
