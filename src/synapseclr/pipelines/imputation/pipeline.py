"""The imputation pipeline."""

from kedro.pipeline import Node, Pipeline

from synapseclr.pipelines.embedding.nodes import initialise_convolution
from synapseclr.pipelines.embedding.pipeline import untrained_embedding
from synapseclr.pipelines.imputation.nodes import (
    count_confusions,
    describe_imputation,
    draw_comparison,
    draw_confusions,
    draw_learning_curves,
    draw_predictions,
    draw_reliability,
    impute,
    measure_image_statistics,
    measure_learning_curves,
    measure_mask_statistics,
    score_traits,
    tabulate_comparison,
)


def create_pipeline() -> Pipeline:
    """From embeddings and chunks to scores per trait and representation, and to every trait at every synapse."""
    return Pipeline(
        [
            untrained_embedding("random_convolution", initialise_convolution),
            Node(
                measure_image_statistics,
                ["synapse_chunks", "params:imputation"],
                "chunk_statistics",
                name="measure_image_statistics",
            ),
            Node(
                measure_mask_statistics,
                ["synapse_chunks", "params:imputation"],
                "mask_statistics",
                name="measure_mask_statistics",
            ),
            Node(
                score_traits,
                [
                    "synapse_embeddings",
                    "random.synapse_embeddings",
                    "random_convolution.synapse_embeddings",
                    "other_representations",
                    "chunk_statistics",
                    "mask_statistics",
                    "params:imputation",
                    "params:traits",
                ],
                ["trait_scores", "unscored_traits"],
                name="score_traits",
            ),
            Node(
                draw_comparison,
                ["trait_scores", "params:traits", "embedding_provenance"],
                "trait_score_comparison",
                name="draw_trait_scores",
            ),
            Node(
                tabulate_comparison,
                ["trait_scores", "params:traits"],
                "representation_comparison",
                name="tabulate_comparison",
            ),
            Node(
                measure_learning_curves,
                ["synapse_embeddings", "mask_statistics", "params:imputation", "params:traits", "params:row_blocks"],
                "learning_curves",
                name="measure_learning_curves",
            ),
            Node(
                draw_learning_curves,
                ["learning_curves", "params:traits"],
                "learning_curve_figure",
                name="draw_learning_curves",
            ),
            Node(
                impute,
                [
                    "synapse_embeddings",
                    "mask_statistics",
                    "annotation_scales",
                    "params:imputation",
                    "params:traits",
                    "params:row_blocks",
                ],
                [
                    "imputed_traits",
                    "held_out_predictions",
                    "imputation_scores",
                    "imputation_calibration",
                    "unimputed_traits",
                    "condensation_errors",
                ],
                name="impute_traits",
            ),
            Node(
                draw_reliability,
                ["held_out_predictions", "imputation_calibration", "params:imputation", "params:traits"],
                "imputation_reliability",
                name="draw_reliability",
            ),
            Node(
                draw_predictions,
                ["held_out_predictions", "imputation_scores", "imputation_calibration", "params:traits"],
                "imputation_predictions",
                name="draw_predictions",
            ),
            Node(count_confusions, "held_out_predictions", "class_confusions", name="count_confusions"),
            Node(
                draw_confusions,
                ["class_confusions", "params:traits"],
                "class_confusion_figure",
                name="draw_confusions",
            ),
            Node(
                describe_imputation,
                [
                    "synapse_embeddings",
                    "trait_scores",
                    "unscored_traits",
                    "trait_score_comparison",
                    "imputation_scores",
                    "imputation_calibration",
                    "unimputed_traits",
                    "condensation_errors",
                    "learning_curves",
                    "imputation_predictions",
                    "imputation_reliability",
                    "learning_curve_figure",
                    "class_confusions",
                    "class_confusion_figure",
                    "params:imputation",
                    "params:reporting",
                    "params:traits",
                ],
                "imputation_section",
                name="describe_imputation",
            ),
        ],
        tags="imputation",
    )
