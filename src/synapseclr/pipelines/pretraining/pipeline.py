"""The pretraining pipeline."""

from kedro.pipeline import Node, Pipeline

from synapseclr.pipelines.pretraining.nodes import draw_augmented_pairs, plot_training_curve, train_encoder


def create_pipeline() -> Pipeline:
    """Chunks -> weights of an encoder, the history of its training, a curve, and pairs of views."""
    return Pipeline(
        [
            Node(
                draw_augmented_pairs,
                inputs=["synapse_chunks", "params:pretraining"],
                outputs="augmented_pairs",
                name="draw_augmented_pairs",
            ),
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
