"""The imputation pipeline."""

from kedro.pipeline import Node, Pipeline

from synapseclr.pipelines.imputation.nodes import draw_comparison, measure_statistics, score_traits


def create_pipeline() -> Pipeline:
    """From embeddings and chunks to scores per trait and representation."""
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
        ],
        tags="imputation",
    )
