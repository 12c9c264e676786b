"""The report's section on what the features are made of, and on traits by cell types."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from synapseclr.analysis.features import FeaturesConfig
from synapseclr.pipelines.features.figures import (
    draw_component_strip,
    draw_component_traits,
    draw_correlations,
    draw_spectra,
    draw_trait_summaries,
)
from synapseclr.plotting.report import Picture, Section, Table

if TYPE_CHECKING:
    from anndata import AnnData

    from synapseclr.volumes import ChunkStore


def describe_features(
    synapse_embeddings: AnnData,
    feature_clusters: pd.DataFrame,
    feature_tree: pd.DataFrame,
    layer_spectra: pd.DataFrame,
    component_traits: pd.DataFrame,
    component_examples: pd.DataFrame,
    synapse_chunks: ChunkStore,
    config: FeaturesConfig,
) -> Section:
    """Correlations, spectra, and principal components against traits."""
    n_bonferroni, n_hochberg, n_tests = (
        int((component_traits["p_bonferroni"] < config.significance).sum()),
        int((component_traits["p_benjamini_hochberg"] < config.significance).sum()),
        int(np.isfinite(component_traits["rho"]).sum()),
    )
    text = (
        f"Of {n_tests} correlations of principal components with traits, {n_bonferroni} are significant at "
        f"{config.significance:g} after Bonferroni's correction and {n_hochberg} after Benjamini and Hochberg's. These "
        "take synapses as independent; intervals by neurite, which do not, are in component_traits.csv."
    )
    if not n_tests:
        text = "No trait is annotated often enough to be compared with the principal components."
    n_constant = int(feature_clusters["is_constant"].astype(bool).sum())
    if n_constant:
        text += f" {n_constant} features are constant and have no correlations."
    comparison = Picture(
        draw_component_traits(component_traits, config),
        "Two stars: significant after Bonferroni; one: after Benjamini and Hochberg only; in brackets: the 90 % "
        "interval by neurite holds 0.",
    )
    pictures = [
        *([comparison] if n_tests else []),
        Picture(
            draw_component_strip(component_examples, synapse_chunks),
            "Synapses at the low (left) and high (right) end of the first components, in standard deviations.",
        ),
        Picture(
            draw_spectra(layer_spectra),
            "Principal component spectra. Effective rank: exponential of the spectrum's entropy. Dotted: 90 %.",
        ),
        Picture(
            draw_correlations(synapse_embeddings, feature_clusters, feature_tree, config),
            "Features that go together stand together; average linkage over one minus the correlation.",
        ),
    ]
    return Section("Features", [text], pictures)


def describe_trait_summaries(trait_summaries: pd.DataFrame) -> Section:
    """Traits by the cell types on both sides."""
    title = "Traits by cell types"
    if trait_summaries.empty:
        return Section(title, ["No trait is annotated or imputed."])
    text = (
        "Means of traits in every combination of presynaptic and postsynaptic cell type. Where nothing was annotated, "
        "imputed values and types stand in. Where they are poorly imputed, means shrink towards each other: compare "
        "with the measured ones."
    )
    caption = "Means with 90 % intervals by the bootstrap over neurites; uncertainty of imputed values is added."
    rows = [
        [
            str(row["label"]),
            f"{row['combination']}, {row['source']}",
            f"{row['mean']:.2f} [{row['lower_90']:.2f}, {row['upper_90']:.2f}]",
            f"{row['n']} / {row['n_neurites']}",
            f"{row['type_probability']:.2f}",
        ]
        for row in trait_summaries.to_dict("records")
    ]
    columns = ("trait", "cell types", "mean [90 % interval]", "synapses / neurites", "probability of the types")
    table = Table(columns, rows, "Traits by cell types", is_folded=True, has_numbers=True)
    return Section(title, [text], [Picture(draw_trait_summaries(trait_summaries), caption)], [table])
