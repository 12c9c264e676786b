"""The simulation pipeline."""

from kedro.pipeline import Node, Pipeline

from synapseclr.pipelines.simulation.nodes import simulate_volume


def create_pipeline() -> Pipeline:
    """Parameters -> simulated volumes and tables."""
    return Pipeline(
        [
            Node(
                simulate_volume,
                inputs="params:simulation",
                outputs=[
                    "em_volume",
                    "segmentation_volume",
                    "cleft_volume",
                    "synapse_table",
                    "annotation_table",
                    "neurite_table",
                    "simulation_truth",
                ],
                name="simulate_volume",
            )
        ],
        tags="simulation",
    )
