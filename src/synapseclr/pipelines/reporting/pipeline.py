"""The reporting pipeline."""

from kedro.pipeline import Node, Pipeline

from synapseclr.pipelines.reporting.nodes import compose_report, evaluate_run


def create_pipeline() -> Pipeline:
    """From stored results to the evaluation and the report."""
    return Pipeline(
        [
            Node(
                evaluate_run,
                ["trait_scores", "synapse_embeddings", "training_history", "pipeline_seconds", "params:reporting"],
                ["evaluation", "evaluation_metrics"],
                name="evaluate_run",
            ),
            Node(
                compose_report,
                [
                    "evaluation",
                    "trait_scores",
                    "unscored_traits",
                    "synapse_manifold",
                    "nearest_neighbours",
                    "synapse_chunks",
                    "preprocessing_report",
                    "training_history",
                    "parameters",
                    "params:pretraining",
                    "params:reporting",
                ],
                "report",
                name="compose_report",
            ),
        ],
        tags="reporting",
    )
