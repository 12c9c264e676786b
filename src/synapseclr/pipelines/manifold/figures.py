"""Nodes of the manifold pipeline that draw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from synapseclr.analysis.layers import BACKBONE
from synapseclr.analysis.manifold import ManifoldConfig
from synapseclr.analysis.manifold.leakage_scores import EFFECT_LABELS
from synapseclr.analysis.traits import TRAITS
from synapseclr.pipelines.manifold.nodes import axes_of, axis_name, clusters_of
from synapseclr.pipelines.manifold.overlays import collect_overlays, orientation_overlays
from synapseclr.pipelines.similarity.slabs import read_slabs
from synapseclr.plotting.manifold import DrawnAxis, axis_profile_panels, cluster_map, leakage_panel
from synapseclr.plotting.scatter import interactive_scatter, scatter_panels
from synapseclr.plotting.sections.rows import section_rows
from synapseclr.plotting.theme import representation_style

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure
    from plotly.graph_objects import Figure as PlotlyFigure

    from synapseclr.volumes import ChunkStore
else:
    # Kedro resolves the hints of node functions when the project starts; these types are too heavy to import then.
    AnnData = Figure = PlotlyFigure = ChunkStore = Any

_MOST_INTERACTIVE = 10_000


def draw_overlays(synapse_manifold: AnnData) -> Figure:
    """Draw the plane once per trait."""
    overlays = collect_overlays(synapse_manifold.obs)
    return scatter_panels(synapse_manifold.obsm["X_umap"], overlays, axis_name=axis_name(synapse_manifold))


def draw_orientation(synapse_manifold: AnnData, synapse_orientations: pd.DataFrame) -> Figure:
    """Draw the plane coloured by the cleft's orientation, which should not show."""
    overlays = orientation_overlays(synapse_manifold.obs, synapse_orientations)
    return scatter_panels(synapse_manifold.obsm["X_umap"], overlays, axis_name=axis_name(synapse_manifold))


def draw_interactive(synapse_manifold: AnnData) -> PlotlyFigure:
    """Draw the plane to zoom and hover in; of many synapses, 10,000 at random."""
    return _interactive(synapse_manifold, "X_umap")


def draw_interactive_3d(synapse_manifold: AnnData) -> PlotlyFigure:
    """Draw the projection to space; the plane if there is none."""
    return _interactive(synapse_manifold, "X_umap_3d" if "X_umap_3d" in synapse_manifold.obsm else "X_umap")


def _interactive(synapse_manifold: AnnData, coordinates: str) -> PlotlyFigure:
    rows = np.arange(synapse_manifold.n_obs)
    if len(rows) > _MOST_INTERACTIVE:
        rows = np.sort(np.random.default_rng(0).choice(rows, _MOST_INTERACTIVE, replace=False))
    obs = synapse_manifold.obs.iloc[rows]
    return interactive_scatter(
        synapse_manifold.obsm[coordinates][rows],
        collect_overlays(obs),
        obs["synapse_id"].to_numpy(),
        axis_name=axis_name(synapse_manifold),
    )


def draw_clusters(synapse_manifold: AnnData, axis_positions: pd.DataFrame, config: ManifoldConfig) -> Figure:
    """Draw the clusters with their axes and the synapses sampled along these."""
    coordinates_n2 = synapse_manifold.obsm["X_umap"]
    row_of = pd.Series(np.arange(synapse_manifold.n_obs), index=synapse_manifold.obs["synapse_id"].to_numpy())
    drawn = []
    for axis in axes_of(synapse_manifold, config):
        ends_2 = np.percentile(axis.position_m, [2, 98])
        sampled = _sampled(axis_positions, axis.cluster, axis.axis)
        drawn.append(
            DrawnAxis(
                f"axis {axis.axis}",
                axis.centre_d + ends_2[:, None] * axis.direction_d,
                coordinates_n2[row_of.loc[sampled["synapse_id"]].to_numpy()],
            )
        )
    return cluster_map(coordinates_n2, clusters_of(synapse_manifold).label_n, drawn, axis_name(synapse_manifold))


def draw_axis_strip(axis_positions: pd.DataFrame, synapse_chunks: ChunkStore) -> Figure:
    """Draw the synapses sampled along every axis, from its lower end to its upper one."""
    slabs, labels, titles = [], [], []
    axes = axis_positions[["cluster", "axis"]].drop_duplicates().sort_values(["cluster", "axis"])
    for cluster, number in axes.itertuples(index=False):
        sampled = _sampled(axis_positions, cluster, number)
        slabs.append(read_slabs(synapse_chunks, sampled["synapse_id"].to_numpy()))
        labels.append(f"cluster {cluster}\naxis {number}")
        pairs = zip(sampled["synapse_id"], sampled["position"], strict=True)
        titles.append([f"{identifier}\nat {position:.2f}" for identifier, position in pairs])
    return section_rows(slabs, labels, titles, synapse_chunks.voxel_size_nm)


def _sampled(axis_positions: pd.DataFrame, cluster: int, number: int) -> pd.DataFrame:
    of_axis = axis_positions[(axis_positions["cluster"] == cluster) & (axis_positions["axis"] == number)]
    return of_axis[of_axis["sample"] >= 0].sort_values("sample")


def draw_axis_profiles(axis_profiles: pd.DataFrame) -> Figure:
    """Draw how traits change along the axes."""
    return axis_profile_panels(axis_profiles, {t.name: t.class_names[1] for t in TRAITS if t.kind == "class"})


def draw_leakage(leakage_scores: pd.DataFrame) -> Figure:
    """Draw the technical effects in the backbone's features."""
    backbone = leakage_scores[leakage_scores["layer"] == BACKBONE]
    return leakage_panel(backbone, EFFECT_LABELS, representation_style(list(dict.fromkeys(backbone["representation"]))))
