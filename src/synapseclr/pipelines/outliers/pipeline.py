"""The outliers pipeline."""

from kedro.pipeline import Node, Pipeline

from synapseclr.pipelines.outliers.nodes import (
    describe_outliers,
    draw_candidates,
    draw_detection,
    measure_detection,
    rank_outliers,
)


def create_pipeline() -> Pipeline:
    """From embeddings to candidates for defects, those accepted, and how well known ones are found."""
    return Pipeline(
        [
            Node(
                rank_outliers,
                [
                    "synapse_embeddings",
                    "mask_statistics",
                    "chunk_statistics",
                    "accepted_defects",
                    "params:outliers",
                    "params:neuroglancer",
                    "params:row_blocks",
                ],
                ["outlier_scores", "outlier_candidates", "excluded_synapses"],
                name="rank_outliers",
            ),
            Node(
                measure_detection,
                [
                    "synapse_embeddings",
                    "random.synapse_embeddings",
                    "mask_statistics",
                    "chunk_statistics",
                    "simulation_truth",
                    "params:outliers",
                ],
                ["outlier_detection", "outlier_metrics"],
                name="measure_detection",
            ),
            Node(
                draw_candidates,
                ["outlier_candidates", "synapse_chunks", "params:outliers"],
                "outlier_sheet",
                name="draw_candidates",
            ),
            Node(
                draw_detection,
                ["outlier_detection", "embedding_provenance"],
                "outlier_detection_figure",
                name="draw_detection",
            ),
            Node(
                describe_outliers,
                [
                    "synapse_embeddings",
                    "outlier_candidates",
                    "outlier_sheet",
                    "outlier_detection",
                    "outlier_metrics",
                    "outlier_detection_figure",
                    "params:outliers",
                    "params:reporting",
                ],
                "outliers_section",
                name="describe_outliers",
            ),
        ],
        tags="outliers",
    )
