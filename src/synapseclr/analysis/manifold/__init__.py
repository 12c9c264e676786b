"""The plane on which all synapses can be looked at: its clusters, the axes through them, and what must not shape it."""

from synapseclr.analysis.manifold.axes import ManifoldAxis, axis_position_table, cluster_axes, sample_along
from synapseclr.analysis.manifold.clusters import UNCLUSTERED, Clusters, find_clusters
from synapseclr.analysis.manifold.config import AxesConfig, ClusterConfig, LeakageConfig, ManifoldConfig
from synapseclr.analysis.manifold.leakage import measure_leakage
from synapseclr.analysis.manifold.orientation import cleft_orientations
from synapseclr.analysis.manifold.profiles import axis_profiles, cluster_profiles
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
