"""The report's section on the plane: overlays, clusters with their axes, and the technical check."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from synapseclr.analysis.layers import BACKBONE
from synapseclr.analysis.manifold import ManifoldConfig
from synapseclr.analysis.manifold.leakage_scores import EFFECT_LABELS
from synapseclr.pipelines.manifold.figures import (
    draw_axis_profiles,
    draw_axis_strip,
    draw_clusters,
    draw_interactive,
    draw_leakage,
    draw_orientation,
    draw_overlays,
)
from synapseclr.pipelines.manifold.nodes import axis_name
from synapseclr.plotting.report import Picture, Section, Table

if TYPE_CHECKING:
    from anndata import AnnData

    from synapseclr.volumes import ChunkStore

_REPRESENTATIONS = {"synapseclr": "SynapseCLR", "random": "random encoder"}


def describe_manifold(
    synapse_manifold: AnnData,
    axis_positions: pd.DataFrame,
    axis_profiles: pd.DataFrame,
    synapse_chunks: ChunkStore,
    config: ManifoldConfig,
    interactive: bool,
) -> Section:
    """The plane, coloured by every trait that is annotated; its clusters, and what changes along their axes."""
    settings = synapse_manifold.uns["manifold"]
    caption = (
        "Every point is a synapse. Grey: not annotated, or the trait does not apply. Colours span percentiles 2 to 98."
    )
    if axis_name(synapse_manifold) == "UMAP":
        text = (
            f"UMAP of the first {settings['n_components']} principal components of {settings['layer']} "
            f"({settings['n_neighbours']} neighbours, minimal distance {settings['min_dist']}). Distances between far "
            "clusters mean little."
        )
    else:
        text = f"The first two principal components stand in for UMAP ({settings['method']})."
    if settings["clusters"] == "hdbscan":
        of_clusters = (
            f"HDBSCAN finds {settings['n_clusters']} clusters in the plane. They depend on its settings as much as on "
            "the data: take them for regions to look at, not for kinds of synapses."
        )
    else:
        of_clusters = f"There are no clusters ({settings['clusters']})."
    pictures = [
        Picture(draw_overlays(synapse_manifold), caption),
        Picture(
            draw_clusters(synapse_manifold, axis_positions, config),
            "Clusters by size, principal axes of the largest ones, and the synapses sampled along these (rings).",
        ),
        Picture(
            draw_axis_strip(axis_positions, synapse_chunks),
            "Synapses at equal steps along each axis, each the nearest to it; the place along the axis in UMAP units.",
        ),
        Picture(
            draw_axis_profiles(axis_profiles),
            "Means in equally full bins along each axis, with 90 % intervals by the bootstrap over neurites.",
        ),
    ]
    drawn = draw_interactive(synapse_manifold) if interactive else None
    return Section("Manifold", [text, of_clusters], pictures, interactive=drawn)


def describe_leakage(
    synapse_manifold: AnnData, synapse_orientations: pd.DataFrame, leakage_scores: pd.DataFrame
) -> Section:
    """What features should not know, and how well it can be read off them."""
    text = (
        "The cleft's orientation is an accident of how the tissue was cut, and so is the place in the volume, apart "
        "from the neurites there. What features know of it they have not learned to ignore: an encoder that was "
        "trained without rotations knows most of the cleft's angle to the sections "
        "(docs/analysis/manifold.md)."
    )
    pictures = [
        Picture(
            draw_leakage(leakage_scores),
            "Explained fraction of the variance on held-out neurites; for section and block the share of the features' "
            "variance between them beyond chance. Grey: what permutations of whole neurites give, mean to 95 %.",
        ),
        Picture(
            draw_orientation(synapse_manifold, synapse_orientations),
            "The cleft's angle to the sections (0: face on, 90: cut across) and its normal's direction within them. "
            "Regions of one colour would be shaped by orientation.",
        ),
    ]
    backbone = leakage_scores[leakage_scores["layer"] == BACKBONE]
    rows = [
        [
            EFFECT_LABELS[str(row["effect"])],
            f"{_REPRESENTATIONS.get(str(row['representation']), row['representation'])}, {row['probe']}",
            *(f"{row[name]:.3f}" for name in ("score", "null_upper_95", "p_value")),
        ]
        if np.isfinite(row["score"])
        else [EFFECT_LABELS[str(row["effect"])], str(row["reason"]), "", "", ""]
        for row in backbone.to_dict("records")
    ]
    columns = ("effect", "features, probe", "score", "95 % of permutations", "p")
    table = Table(columns, rows, "Scores of the backbone's features", is_folded=True, has_numbers=True)
    return Section("Technical check", [text], pictures, [table])
