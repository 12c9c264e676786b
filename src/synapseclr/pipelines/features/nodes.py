"""Nodes of the features pipeline that compute."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pandas as pd

from synapseclr.analysis.features import (
    FeaturesConfig,
    cluster_features,
    component_examples,
    component_traits,
    layer_spectra,
    spectrum_metrics,
    trait_summaries,
)
from synapseclr.analysis.layers import BACKBONE, layer_features, recorded_layers
from synapseclr.analysis.manifold import principal_components

if TYPE_CHECKING:
    from anndata import AnnData
else:
    # Kedro resolves the hints of node functions when the project starts; these types are too heavy to import then.
    AnnData = Any

logger = logging.getLogger(__name__)
TREE_COLUMNS = ("left", "right", "height", "n_features")


def arrange_features(synapse_embeddings: AnnData, config: FeaturesConfig) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cluster the features by their correlation.

    Returns:
        One row per feature; and the tree as scipy writes it, one row per junction.
    """
    found = cluster_features(
        layer_features(synapse_embeddings, config.clustered_layer), config.clustered_layer, config.n_feature_clusters
    )
    n_constant = int(found.table["is_constant"].sum())
    if n_constant:
        logger.warning("%d of %d features of %s are constant.", n_constant, len(found.table), config.clustered_layer)
    return found.table, pd.DataFrame(found.linkage, columns=list(TREE_COLUMNS))


def measure_spectra(synapse_embeddings: AnnData, random_embeddings: AnnData) -> tuple[pd.DataFrame, dict[str, float]]:
    """Principal component spectra of every layer, and of the untrained backbone; numbers of dimensions as metrics."""
    spectra = layer_spectra(
        {"synapseclr": recorded_layers(synapse_embeddings), "random": {BACKBONE: layer_features(random_embeddings)}}
    )
    return spectra, spectrum_metrics(spectra)


def compare_components(
    synapse_embeddings: AnnData, config: FeaturesConfig
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, float]]:
    """Compare principal components with traits.

    Returns:
        Correlations with intervals and corrected p-values; the synapses at the ends of the components; and, as metrics,
        the number of correlations that remain significant.
    """
    features_nf = layer_features(synapse_embeddings, config.component_layer)
    components_np, _ = principal_components(features_nf, config.n_components, config.seed)
    obs, layer = synapse_embeddings.obs, config.component_layer
    table = component_traits(components_np, obs, layer, config)
    for row in table.loc[table["reason"].notna(), ["trait", "reason"]].drop_duplicates().itertuples(index=False):
        logger.warning("Trait '%s' is not compared with components: %s.", row.trait, row.reason)
    examples = component_examples(
        components_np, obs["synapse_id"].to_numpy(), layer, config.n_drawn_components, config.n_examples
    )
    metrics = {
        f"features/{layer}/significant/{correction}": float((table[f"p_{correction}"] < config.significance).sum())
        for correction in ("bonferroni", "benjamini_hochberg")
    }
    return table, examples, metrics


def summarise_traits(synapse_embeddings: AnnData, imputed_traits: pd.DataFrame, config: FeaturesConfig) -> pd.DataFrame:
    """Traits, measured and imputed, by the cell types on both sides."""
    return trait_summaries(synapse_embeddings.obs, imputed_traits, config)
