"""The pretraining pipeline."""

from kedro.pipeline import Node, Pipeline

from synapseclr.pipelines.pretraining.nodes import plot_training_curve, train_encoder


def create_pipeline() -> Pipeline:
    """Chunks -> weights of an encoder, the history of its training, and a curve."""
    return Pipeline(
        [
            Node(
                train_encoder,
                inputs=[
                    "synapse_chunks",
                    "synapse_metadata",
                    "annotations",
                    "params:pretraining",
                    "training_checkpoints",
                ],
                outputs=["encoder_weights", "training_history"],
                name="train_encoder",
            ),
            Node(plot_training_curve, inputs="training_history", outputs="training_curve", name="plot_training_curve"),
        ],
        tags="pretraining",
    )
