"""The imputation pipeline."""

from kedro.pipeline import Node, Pipeline

from synapseclr.pipelines.imputation.gaussian_processes import draw_predictions, draw_reliability, impute
from synapseclr.pipelines.imputation.nodes import draw_comparison, measure_statistics, score_traits


def create_pipeline() -> Pipeline:
    """From embeddings and chunks to scores per trait and representation, and to every trait at every synapse."""
    return Pipeline(
        [
            Node(
                measure_statistics,
                ["synapse_chunks", "params:imputation"],
                "chunk_statistics",
                name="measure_statistics",
            ),
            Node(
                score_traits,
                ["synapse_embeddings", "random.synapse_embeddings", "chunk_statistics", "params:imputation"],
                ["trait_scores", "unscored_traits"],
                name="score_traits",
            ),
            Node(draw_comparison, "trait_scores", "trait_score_comparison", name="draw_trait_scores"),
            Node(
                impute,
                ["synapse_embeddings", "annotation_scales", "params:imputation"],
                [
                    "imputed_traits",
                    "held_out_predictions",
                    "imputation_scores",
                    "imputation_calibration",
                    "unimputed_traits",
                ],
                name="impute_traits",
            ),
            Node(
                draw_reliability,
                ["held_out_predictions", "imputation_calibration", "params:imputation"],
                "imputation_reliability",
                name="draw_reliability",
            ),
            Node(
                draw_predictions,
                ["held_out_predictions", "imputation_scores", "imputation_calibration"],
                "imputation_predictions",
                name="draw_predictions",
            ),
        ],
        tags="imputation",
    )
