"""Nodes of the features pipeline."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from rich.progress import track

from synapseclr.analysis.column_labels import mean_label, scale_unit
from synapseclr.analysis.feature_rows import FeatureRows
from synapseclr.analysis.features import (
    FeaturesConfig,
    cluster_features,
    component_examples,
    component_traits,
    effective_dimensions,
    feature_correlations,
    layer_spectra,
    spectrum_metrics,
    trait_summaries,
)
from synapseclr.analysis.manifold import principal_components
from synapseclr.analysis.occlusion import explain, followed_traits, summarise_effects
from synapseclr.analysis.principal_axes import components_in_blocks
from synapseclr.analysis.representations import BACKBONE, layer_array, layer_features, recorded_arrays
from synapseclr.analysis.row_blocks import HERE, RowBlocksConfig
from synapseclr.analysis.traits import Trait, Traits, values_by_class
from synapseclr.analysis.traits.passed_over import ANNOTATE, passed_over
from synapseclr.models import EncoderWeights
from synapseclr.pipelines import AnnData, ChunkStore, Drawing, Figure
from synapseclr.plotting.features import component_trait_map, correlation_map, spectrum_figure
from synapseclr.plotting.occlusion import occlusion_bars, occlusion_maps
from synapseclr.plotting.report import Picture, ReportingConfig, Section, Table, embedding_digests, pipeline_section
from synapseclr.plotting.sections import read_slabs, section_rows
from synapseclr.plotting.theme import representation_labels
from synapseclr.plotting.traits import HALF_WIDTH_90, posterior_panels, trait_summary_panels
from synapseclr.storage.sharded_anndata import is_lazy
from synapseclr.training import PretrainingConfig
from synapseclr.volumes import PUBLISHED_TRAITS
from synapseclr.volumes.synapse_table import positions_in_store, table_rows

logger = logging.getLogger(__name__)

TREE_COLUMNS = ("left", "right", "height", "n_features")


def _layer(embeddings: AnnData, layer: str = BACKBONE) -> Any:
    """Features of a layer: lazy, or checked and in memory."""
    features_nf = layer_array(embeddings, layer)
    return features_nf if is_lazy(features_nf) else layer_features(embeddings, layer)


def arrange_features(
    synapse_embeddings: AnnData, config: FeaturesConfig, row_blocks: RowBlocksConfig = HERE
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cluster the features by their correlation.

    Returns:
        One row per feature; and the tree as scipy writes it, one row per junction.
    """
    features_nf = _layer(synapse_embeddings, config.clustered_layer)
    found = cluster_features(features_nf, config.clustered_layer, config.n_feature_clusters, row_blocks)
    n_constant = int(found.table["is_constant"].sum())
    if n_constant:
        logger.warning("%d of %d features of %s are constant.", n_constant, len(found.table), config.clustered_layer)
    return found.table, pd.DataFrame(found.linkage, columns=list(TREE_COLUMNS))


def measure_spectra(
    synapse_embeddings: AnnData, random_embeddings: AnnData, row_blocks: RowBlocksConfig = HERE
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Principal component spectra of every layer, and of the untrained backbone; numbers of dimensions as metrics."""
    layers = {layer: _layer(synapse_embeddings, layer) for layer in recorded_arrays(synapse_embeddings)}
    spectra = layer_spectra({"synapseclr": layers, "random": {BACKBONE: _layer(random_embeddings)}}, row_blocks)
    return spectra, spectrum_metrics(spectra)


def compare_components(
    synapse_embeddings: AnnData, config: FeaturesConfig, traits: Traits, row_blocks: RowBlocksConfig = HERE
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, float]]:
    """Compare principal components with traits.

    Returns:
        Correlations with intervals and corrected p-values; the synapses at the ends of the components; and, as metrics,
        the number of correlations that remain significant.
    """
    features_nf = _layer(synapse_embeddings, config.component_layer)
    if is_lazy(features_nf):
        components_np, _ = components_in_blocks(features_nf, config.n_components, row_blocks)
    else:
        components_np, _ = principal_components(features_nf, config.n_components, config.seed)
    obs, layer = synapse_embeddings.obs, config.component_layer
    table = component_traits(components_np, obs, layer, config, traits)
    reasons = table.loc[table["reason"].notna(), ["trait", "reason"]].itertuples(index=False, name=None)
    for sentence in passed_over(reasons, "not compared with all components", ANNOTATE):
        logger.warning(sentence)
    examples = component_examples(
        components_np, obs["synapse_id"].to_numpy(), layer, config.n_drawn_components, config.n_examples
    )
    metrics = {
        f"features/{layer}/significant/{correction}": float((table[f"p_{correction}"] < config.significance).sum())
        for correction in ("bonferroni", "benjamini_hochberg")
    }
    return table, examples, metrics


def summarise_traits(
    synapse_embeddings: AnnData, imputed_traits: pd.DataFrame, config: FeaturesConfig, traits: Traits
) -> pd.DataFrame:
    """Traits, measured and imputed, by the cell types on both sides."""
    return trait_summaries(synapse_embeddings.obs, imputed_traits, config, traits)


def draw_correlations(
    synapse_embeddings: AnnData,
    feature_clusters: pd.DataFrame,
    feature_tree: pd.DataFrame,
    config: FeaturesConfig,
    row_blocks: RowBlocksConfig = HERE,
) -> Figure:
    """Draw the correlations of the features in the order of their tree."""
    placed = feature_clusters[~feature_clusters["is_constant"].astype(bool)].sort_values("place")
    features_nf = _layer(synapse_embeddings, config.clustered_layer)
    correlation_mm = feature_correlations(features_nf, placed["feature"].to_numpy(), config.clustered_layer, row_blocks)
    title = f"Correlation of the features of {config.clustered_layer}"
    return correlation_map(correlation_mm, feature_tree.to_numpy(dtype=float), placed["cluster"].to_numpy(), title)


def draw_spectra(layer_spectra: pd.DataFrame, provenance: Mapping[str, Any] | None = None) -> Figure:
    """Draw the principal component spectra; the provenance of the features says what these are called."""
    notes = {}
    for (name, layer), rows in layer_spectra.groupby(["representation", "layer"], sort=False):
        ratio = effective_dimensions(rows["fraction"].to_numpy())["participation_ratio"]
        notes[(str(name), str(layer))] = f"(participation ratio {ratio:.1f})"
    return spectrum_figure(layer_spectra, notes, representation_labels(provenance))


def draw_component_traits(component_traits: pd.DataFrame, config: FeaturesConfig) -> Figure:
    """Draw the correlations of components with traits."""
    return component_trait_map(component_traits, config.significance)


def draw_component_strip(component_examples: pd.DataFrame, synapse_chunks: ChunkStore) -> Figure:
    """Draw the synapses at the ends of the components: the lowest from the left, the highest from the right."""
    slabs, labels, titles, synapse_ids = [], [], [], []
    n_low = 0
    for component in dict.fromkeys(component_examples["component"]):
        rows = component_examples[component_examples["component"] == component].sort_values("value")
        n_low = int((rows["end"] == "low").sum())
        slabs.append(read_slabs(synapse_chunks, rows["synapse_id"].to_numpy()))
        synapse_ids.append(rows["synapse_id"].tolist())
        labels.append(f"PC {component}\nlow | high")
        pairs = zip(rows["synapse_id"], rows["value"], strict=True)
        titles.append([f"{identifier}\n{value:+.1f} sd" for identifier, value in pairs])
    return section_rows(
        slabs, labels, titles, synapse_chunks.voxel_size_nm, gap_after=n_low - 1, synapse_id_rk=synapse_ids
    )


def explain_by_occlusion(
    synapse_embeddings: AnnData,
    synapse_chunks: ChunkStore,
    query_encoder: Callable[[], EncoderWeights],
    pretraining: PretrainingConfig,
    config: FeaturesConfig,
    traits: Traits,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Make regions and patches of some synapses grey, and follow what the encoder then says of them.

    Embeddings that do not tell which weights made them, such as imported ones, are not explained.

    Returns:
        Effects of the three regions, and of the patches; both empty if nothing is explained.
    """
    from synapseclr.training.extraction import embed_alike

    occlusion = config.occlusion
    provenance = synapse_embeddings.uns.get("provenance", {})
    if "weights_sha256" not in provenance and occlusion.n_synapses:
        logger.warning("Nothing is explained by occlusion: the embeddings do not tell which weights made them.")
        occlusion = occlusion.model_copy(update={"n_synapses": 0, "synapses": ()})
    obs = synapse_embeddings.obs
    place_n = positions_in_store(obs["synapse_id"].to_numpy(), synapse_chunks.synapse_id)

    features_nf = _layer(synapse_embeddings)

    def embed(batches: Iterator[np.ndarray]) -> np.ndarray:
        tracked = track(batches, description="Occluding synapses", total=None)
        layers = embed_alike(
            query_encoder, provenance, tracked, synapse_chunks, pretraining, n_rotations=occlusion.n_rotations
        )
        return layers[BACKBONE]

    found = explain(
        lambda row: synapse_chunks.read([int(place_n[row])])[0],
        embed,
        FeatureRows(features_nf) if is_lazy(features_nf) else features_nf,
        obs,
        followed_traits(traits, occlusion),
        occlusion,
    )
    return found.effects, found.patches


def draw_occlusion(occlusion_effects: pd.DataFrame) -> Figure:
    """Draw how much each region matters to the traits, and to the features."""
    return occlusion_bars(summarise_effects(occlusion_effects))


def draw_occlusion_maps(occlusion_patches: pd.DataFrame, synapse_chunks: ChunkStore) -> Figure:
    """Draw where in its image a synapse's first trait is read off."""
    identifiers = list(dict.fromkeys(occlusion_patches["synapse_id"]))
    place_k = positions_in_store(np.array(identifiers, dtype=np.int64), synapse_chunks.synapse_id)
    chunks = {identifier: synapse_chunks.read([int(p)])[0] for identifier, p in zip(identifiers, place_k, strict=True)}
    return occlusion_maps(occlusion_patches, chunks, synapse_chunks.voxel_size_nm)


def draw_trait_summaries(trait_summaries: pd.DataFrame, traits: Traits) -> Figure:
    """Draw the traits by cell types."""
    return trait_summary_panels(trait_summaries, traits)


def draw_posteriors(
    synapse_embeddings: AnnData, imputed_traits: pd.DataFrame, config: FeaturesConfig, traits: Traits
) -> Figure:
    """Draw what is known of each synapse's traits, for synapses drawn at random."""
    obs = synapse_embeddings.obs
    rows = np.arange(len(obs))
    if len(rows) > config.n_posteriors:
        rows = np.random.default_rng(config.seed).choice(rows, config.n_posteriors, replace=False)
    drawn = obs.iloc[rows]
    aligned = table_rows(imputed_traits, drawn["synapse_id"])
    posteriors, axis_labels = {}, {}
    for trait, measured_n in values_by_class(drawn, traits):
        table = _posterior(trait, aligned)
        if table is None:
            continue
        table["measured"] = measured_n
        posteriors[trait.label] = table.dropna(subset=["mean"])
        axis_labels[trait.label] = f"P({trait.class_names[1]})" if trait.is_class else scale_unit(trait)
    return posterior_panels(posteriors, axis_labels)


def _posterior(trait: Trait, aligned: pd.DataFrame) -> pd.DataFrame | None:
    """Mean and 90 % interval; None if the trait was not imputed."""
    mean, sd = (
        (f"{trait.name}_probability", f"{trait.name}_probability_sd")
        if trait.is_class
        else (f"{trait.name}_mean", f"{trait.name}_sd")
    )
    if mean not in aligned:
        return None
    half = HALF_WIDTH_90 * aligned[sd]
    table = pd.DataFrame({"mean": aligned[mean], "lower_90": aligned[mean] - half, "upper_90": aligned[mean] + half})
    return table.clip(0.0, 1.0) if trait.is_class else table


def describe_features(
    synapse_embeddings: AnnData,
    component_traits: pd.DataFrame,
    feature_clusters: pd.DataFrame,
    component_traits_figure: Drawing,
    component_strip: Drawing,
    layer_spectra_figure: Drawing,
    feature_correlations: Drawing,
    trait_summaries: pd.DataFrame,
    trait_summaries_figure: Drawing,
    occlusion_effects: pd.DataFrame,
    occlusion_figure: Drawing,
    occlusion_maps: Drawing,
    features: FeaturesConfig,
    config: ReportingConfig,
    traits: Traits = PUBLISHED_TRAITS,
) -> dict[str, Any]:
    """Write the report's sections on what the features are made of, and on traits by cell types."""
    return pipeline_section(
        [
            describe_trait_summaries(trait_summaries, trait_summaries_figure, traits),
            describe_components(component_traits, component_traits_figure, component_strip, features),
            describe_occlusion(occlusion_effects, occlusion_figure, occlusion_maps),
            describe_spectra(feature_clusters, layer_spectra_figure, feature_correlations),
        ],
        config,
        made_from=embedding_digests(synapse_embeddings.uns.get("provenance", {})),
    )


def describe_components(
    component_traits: pd.DataFrame, traits_figure: Drawing, strip: Drawing, config: FeaturesConfig
) -> Section:
    """Compare principal components with traits, and show the synapses at their ends."""
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
    comparison = Picture(
        traits_figure,
        "Two stars: significant after Bonferroni; one: after Benjamini and Hochberg only; in brackets: the 90 % "
        "interval by neurite holds 0.",
    )
    pictures = [
        *([comparison] if n_tests else []),
        Picture(
            strip,
            "Synapses at the low (left) and high (right) end of the first components, in standard deviations.",
        ),
    ]
    return Section("Features", [text], pictures)


def describe_spectra(feature_clusters: pd.DataFrame, spectra: Drawing, correlations: Drawing) -> Section:
    """Show spectra of the layers and correlations of the features."""
    n_constant = int(feature_clusters["is_constant"].astype(bool).sum())
    text = [f"{n_constant} features are constant and have no correlations."] if n_constant else []
    pictures = [
        Picture(
            spectra,
            "Principal component spectra. Participation ratio: as many equally large components would spread the "
            "variance as much. Dotted: 90 %.",
        ),
        Picture(
            correlations,
            "Features that go together stand together; average linkage over one minus the correlation.",
        ),
    ]
    return Section("Spectra and correlations of the features", text, pictures, part="appendix")


def describe_occlusion(effects: pd.DataFrame, bars: Drawing, maps: Drawing) -> Section:
    """Tell off which side of the synapse its traits are read."""
    title = "What traits are read off"
    if effects.empty:
        return Section(title, ["No synapse was explained by occlusion (features.occlusion)."])
    text = (
        f"The presynaptic side, the cleft or the postsynaptic side of {effects['synapse_id'].nunique()} synapses was "
        "replaced by its own mean grey, and the synapse embedded again in the same poses. Masks, outlines and the mean "
        "grey stay, so that only what is inside is lost: vesicles, densities, texture. A change is that of the trait's "
        "score by a linear probe that has seen no synapse of the same neurite; towards 0 means that the part supported "
        "the score. What the shape of a mask or its mean grey tells is not taken away, so small changes do not show "
        "that a side is not used."
    )
    rows = [
        [
            f"{row['label']}: {row['group']}",
            str(row["region"]),
            f"{row['change']:+.2f} [{row['change_lower_90']:+.2f}, {row['change_upper_90']:+.2f}]",
            f"{row['distance']:.3f}",
            f"{row['n']}",
        ]
        for row in summarise_effects(effects).to_dict("records")
    ]
    columns = ("trait: synapses", "made grey", "change of the score [90 % interval]", "cosine distance", "synapses")
    pictures = [
        Picture(
            bars,
            "Mean change of the score (log-odds of the last class named, or the predicted number) by what was made "
            "grey, with 90 % intervals by neurite.",
        ),
        Picture(maps, "Change of the first trait's score where a patch was made grey: red raises it, blue lowers it."),
    ]
    table = Table(columns, rows, "Effects of occlusion", is_folded=True, has_numbers=True)
    return Section(title, [text], pictures, [table])


def describe_trait_summaries(trait_summaries: pd.DataFrame, figure: Drawing, traits: Traits) -> Section:
    """Tabulate traits by the cell types on both sides."""
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
            f"{row['label']}, {mean_label(row['trait'], traits)}",
            f"{row['combination']}, {row['source']}",
            f"{row['mean']:.2f} [{row['lower_90']:.2f}, {row['upper_90']:.2f}]",
            f"{row['n']} / {row['n_neurites']}",
            f"{row['type_probability']:.2f}",
        ]
        for row in trait_summaries.to_dict("records")
    ]
    columns = ("trait", "cell types", "value [90 % interval]", "synapses / neurites", "probability of the types")
    table = Table(columns, rows, "Traits by cell types", is_folded=True, has_numbers=True)
    return Section(title, [text], [Picture(figure, caption)], [table])
