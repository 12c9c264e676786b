"""The features pipeline."""

from kedro.pipeline import Node, Pipeline

from synapseclr.pipelines.features.nodes import (
    arrange_features,
    compare_components,
    describe_features,
    draw_component_strip,
    draw_component_traits,
    draw_correlations,
    draw_occlusion,
    draw_occlusion_maps,
    draw_posteriors,
    draw_spectra,
    draw_trait_summaries,
    explain_by_occlusion,
    measure_spectra,
    summarise_traits,
)


def create_pipeline() -> Pipeline:
    """From embeddings and imputed traits to what features are made of, and to traits by cell types."""
    parameters, embeddings, blocks = "params:features", "synapse_embeddings", "params:row_blocks"
    return Pipeline(
        [
            Node(
                arrange_features,
                [embeddings, parameters, blocks],
                ["feature_clusters", "feature_tree"],
                name="arrange_features",
            ),
            Node(
                measure_spectra,
                [embeddings, "random.synapse_embeddings", blocks],
                ["layer_spectra", "spectrum_metrics"],
                name="measure_spectra",
            ),
            Node(
                compare_components,
                [embeddings, parameters, "params:traits", blocks],
                ["component_traits", "component_examples", "component_metrics"],
                name="compare_components",
            ),
            Node(
                summarise_traits,
                [embeddings, "imputed_traits", parameters, "params:traits"],
                "trait_summaries",
                name="summarise_traits",
            ),
            Node(
                draw_correlations,
                [embeddings, "feature_clusters", "feature_tree", parameters, blocks],
                "feature_correlations",
                name="draw_feature_correlations",
            ),
            Node(
                draw_spectra,
                ["layer_spectra", "embedding_provenance"],
                "layer_spectra_figure",
                name="draw_layer_spectra",
            ),
            Node(
                draw_component_traits,
                ["component_traits", parameters],
                "component_traits_figure",
                name="draw_component_traits",
            ),
            Node(
                draw_component_strip,
                ["component_examples", "synapse_chunks"],
                "component_strip",
                name="draw_component_strip",
            ),
            Node(
                draw_trait_summaries,
                ["trait_summaries", "params:traits"],
                "trait_summaries_figure",
                name="draw_trait_summaries",
            ),
            Node(
                draw_posteriors,
                [embeddings, "imputed_traits", parameters, "params:traits"],
                "trait_posteriors",
                name="draw_trait_posteriors",
            ),
            Node(
                explain_by_occlusion,
                [embeddings, "synapse_chunks", "query_encoder", "params:pretraining", parameters, "params:traits"],
                ["occlusion_effects", "occlusion_patches"],
                name="explain_by_occlusion",
            ),
            Node(draw_occlusion, "occlusion_effects", "occlusion_figure", name="draw_occlusion"),
            Node(
                draw_occlusion_maps,
                ["occlusion_patches", "synapse_chunks"],
                "occlusion_maps",
                name="draw_occlusion_maps",
            ),
            Node(
                describe_features,
                [
                    "synapse_embeddings",
                    "component_traits",
                    "feature_clusters",
                    "component_traits_figure",
                    "component_strip",
                    "layer_spectra_figure",
                    "feature_correlations",
                    "trait_summaries",
                    "trait_summaries_figure",
                    "occlusion_effects",
                    "occlusion_figure",
                    "occlusion_maps",
                    "params:features",
                    "params:reporting",
                    "params:traits",
                ],
                "features_section",
                name="describe_features",
            ),
        ],
        tags="features",
    )
