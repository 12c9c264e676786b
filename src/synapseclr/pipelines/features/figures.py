"""Nodes of the features pipeline that draw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from synapseclr.analysis.features import FeaturesConfig, effective_dimensions
from synapseclr.analysis.layers import layer_features
from synapseclr.analysis.traits import TRAITS, Trait, trait_values
from synapseclr.pipelines.similarity.slabs import read_slabs
from synapseclr.plotting.features import component_trait_map, correlation_map, spectrum_figure
from synapseclr.plotting.sections.rows import section_rows
from synapseclr.plotting.traits import posterior_panels, trait_summary_panels

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure

    from synapseclr.volumes import ChunkStore
else:
    # Kedro resolves the hints of node functions when the project starts; these types are too heavy to import then.
    AnnData = Figure = ChunkStore = Any

_CLASSES = {trait.name: trait.class_names[1] for trait in TRAITS if trait.kind == "class"}
_HALF_90 = 1.6448536269514722


def draw_correlations(
    synapse_embeddings: AnnData, feature_clusters: pd.DataFrame, feature_tree: pd.DataFrame, config: FeaturesConfig
) -> Figure:
    """Draw the correlations of the features in the order of their tree."""
    placed = feature_clusters[~feature_clusters["is_constant"].astype(bool)].sort_values("place")
    features_nm = layer_features(synapse_embeddings, config.clustered_layer)[:, placed["feature"].to_numpy()]
    correlation_mm = np.atleast_2d(np.corrcoef(features_nm, rowvar=False)) if len(placed) else np.empty((0, 0))
    title = f"Correlation of the features of {config.clustered_layer}"
    return correlation_map(correlation_mm, feature_tree.to_numpy(dtype=float), placed["cluster"].to_numpy(), title)


def draw_spectra(layer_spectra: pd.DataFrame) -> Figure:
    """Draw the principal component spectra."""
    notes = {}
    for (name, layer), rows in layer_spectra.groupby(["representation", "layer"], sort=False):
        rank = effective_dimensions(rows["fraction"].to_numpy())["effective_rank"]
        notes[(str(name), str(layer))] = f"(effective rank {rank:.1f})"
    return spectrum_figure(layer_spectra, notes)


def draw_component_traits(component_traits: pd.DataFrame, config: FeaturesConfig) -> Figure:
    """Draw the correlations of components with traits."""
    return component_trait_map(component_traits, config.significance)


def draw_component_strip(component_examples: pd.DataFrame, synapse_chunks: ChunkStore) -> Figure:
    """Draw the synapses at the ends of the components: the lowest from the left, the highest from the right."""
    slabs, labels, titles = [], [], []
    n_low = 0
    for component in dict.fromkeys(component_examples["component"]):
        rows = component_examples[component_examples["component"] == component].sort_values("value")
        n_low = int((rows["end"] == "low").sum())
        slabs.append(read_slabs(synapse_chunks, rows["synapse_id"].to_numpy()))
        labels.append(f"PC {component}\nlow | high")
        pairs = zip(rows["synapse_id"], rows["value"], strict=True)
        titles.append([f"{identifier}\n{value:+.1f} sd" for identifier, value in pairs])
    return section_rows(slabs, labels, titles, synapse_chunks.voxel_size_nm, gap_after=n_low - 1)


def draw_trait_summaries(trait_summaries: pd.DataFrame) -> Figure:
    """Draw the traits by cell types."""
    return trait_summary_panels(trait_summaries, _CLASSES)


def draw_posteriors(synapse_embeddings: AnnData, imputed_traits: pd.DataFrame, config: FeaturesConfig) -> Figure:
    """Draw what is known of each synapse's traits, for synapses drawn at random."""
    obs = synapse_embeddings.obs
    rows = np.arange(len(obs))
    if len(rows) > config.n_posteriors:
        rows = np.random.default_rng(config.seed).choice(rows, config.n_posteriors, replace=False)
    drawn = obs.iloc[rows]
    aligned = imputed_traits.set_index("synapse_id").reindex(drawn["synapse_id"].to_numpy())
    posteriors, axis_labels = {}, {}
    for trait in TRAITS:
        table = _posterior(trait, aligned)
        if table is None:
            continue
        table["measured"] = trait_values(drawn, trait)
        posteriors[trait.label] = table.dropna(subset=["mean"])
        axis_labels[trait.label] = f"P({trait.class_names[1]})" if trait.kind == "class" else "z-score of the logarithm"
    return posterior_panels(posteriors, axis_labels)


def _posterior(trait: Trait, aligned: pd.DataFrame) -> pd.DataFrame | None:
    """Mean and 90 % interval; None if the trait was not imputed."""
    mean, sd = (
        (f"{trait.name}_probability", f"{trait.name}_probability_sd")
        if trait.kind == "class"
        else (f"{trait.name}_mean", f"{trait.name}_sd")
    )
    if mean not in aligned:
        return None
    half = _HALF_90 * aligned[sd]
    table = pd.DataFrame({"mean": aligned[mean], "lower_90": aligned[mean] - half, "upper_90": aligned[mean] + half})
    return table.clip(0.0, 1.0) if trait.kind == "class" else table
