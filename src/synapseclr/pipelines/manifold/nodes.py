"""Nodes of the manifold pipeline."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from synapseclr.analysis.config import ManifoldConfig
from synapseclr.analysis.layers import layer_features
from synapseclr.analysis.manifold import fit_manifold
from synapseclr.pipelines.manifold.overlays import collect_overlays
from synapseclr.plotting.scatter import interactive_scatter, scatter_panels

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure
    from plotly.graph_objects import Figure as PlotlyFigure
else:
    # Kedro resolves the hints of node functions when the project starts; these types are too heavy to import then.
    AnnData = Figure = PlotlyFigure = Any

logger = logging.getLogger(__name__)


def project_synapses(synapse_embeddings: AnnData, config: ManifoldConfig) -> AnnData:
    """Add the plane to the embeddings.

    Args:
        synapse_embeddings: Synapses by features.
        config: The parameters ``manifold``.

    Returns:
        AnnData with the chosen layer as ``X``, the same ``obs``, coordinates in ``obsm["X_pca"]`` and
        ``obsm["X_umap"]``, and what was really used in ``uns["manifold"]``.
    """
    from anndata import AnnData

    features_nf = layer_features(synapse_embeddings, config.layer)
    manifold = fit_manifold(features_nf, config)
    if manifold.settings["method"] != "umap":
        logger.warning("The manifold shows principal components instead of UMAP (%s).", manifold.settings["method"])
    uns = dict(synapse_embeddings.uns)
    uns["manifold"] = manifold.settings | {"explained_variance_ratio": manifold.explained_variance_p}
    return AnnData(
        X=features_nf,
        obs=synapse_embeddings.obs.copy(),
        obsm={"X_pca": manifold.pca_np, "X_umap": manifold.umap_n2},
        uns=uns,
    )


def draw_overlays(synapse_manifold: AnnData) -> Figure:
    """Draw the plane once per trait."""
    overlays = collect_overlays(synapse_manifold.obs)
    return scatter_panels(synapse_manifold.obsm["X_umap"], overlays, axis_name=axis_name(synapse_manifold))


def draw_interactive(synapse_manifold: AnnData) -> PlotlyFigure:
    """Draw the plane to zoom and hover in."""
    return interactive_scatter(
        synapse_manifold.obsm["X_umap"],
        collect_overlays(synapse_manifold.obs),
        synapse_manifold.obs["synapse_id"].to_numpy(),
        axis_name=axis_name(synapse_manifold),
    )


def axis_name(synapse_manifold: AnnData) -> str:
    """Name of the plane's axes: UMAP, or PC where principal components stand in for it."""
    return "UMAP" if synapse_manifold.uns["manifold"]["method"] == "umap" else "PC"
