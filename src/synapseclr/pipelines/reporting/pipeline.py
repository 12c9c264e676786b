"""The reporting pipeline."""

from kedro.pipeline import Node, Pipeline

from synapseclr.pipelines.reporting.nodes import compose_report, evaluate_run


def create_pipeline() -> Pipeline:
    """From stored results to the evaluation and the report."""
    return Pipeline(
        [
            Node(
                evaluate_run,
                [
                    "trait_scores",
                    "imputation_scores",
                    "imputation_calibration",
                    "learning_curves",
                    "consensus_evaluation",
                    "censored_consensus",
                    "outlier_detection",
                    "synapse_embeddings",
                    "training_history",
                    "pipeline_seconds",
                    "params:reporting",
                ],
                ["evaluation", "evaluation_metrics"],
                name="evaluate_run",
            ),
            Node(
                compose_report,
                [
                    "evaluation",
                    "trait_scores",
                    "unscored_traits",
                    "held_out_predictions",
                    "imputation_scores",
                    "imputation_calibration",
                    "unimputed_traits",
                    "learning_curves",
                    "neurite_cell_types",
                    "held_out_neurites",
                    "consensus_evaluation",
                    "consensus_fit",
                    "censored_consensus",
                    "censored_failures",
                    "synapse_manifold",
                    "axis_positions",
                    "axis_profiles",
                    "synapse_orientations",
                    "leakage_scores",
                    "synapse_embeddings",
                    "feature_clusters",
                    "feature_tree",
                    "layer_spectra",
                    "component_traits",
                    "component_examples",
                    "trait_summaries",
                    "similarity_results",
                    "distance_histograms",
                    "index_recall",
                    "outlier_candidates",
                    "outlier_detection",
                    "synapse_chunks",
                    "preprocessing_report",
                    "training_history",
                    "parameters",
                    "params:manifold",
                    "params:features",
                    "params:imputation",
                    "params:consensus",
                    "params:outliers",
                    "params:pretraining",
                    "params:reporting",
                ],
                "report",
                name="compose_report",
            ),
        ],
        tags="reporting",
    )
