"""The pretraining pipeline."""

from kedro.pipeline import Node, Pipeline

from synapseclr.pipelines.pretraining.nodes import (
    describe_pretraining,
    draw_augmented_pairs,
    log_encoder_model,
    plot_training_curve,
    train_encoder,
)


def create_pipeline() -> Pipeline:
    """Chunks -> weights of an encoder, the history of its training, a curve, pairs of views, and a model in MLflow."""
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
            Node(
                plot_training_curve,
                inputs=["training_history", "params:traits"],
                outputs="training_curve",
                name="plot_training_curve",
            ),
            Node(
                log_encoder_model,
                inputs=[
                    "encoder_weights",
                    "synapse_chunks",
                    "params:pretraining",
                    "params:embedding",
                    "params:serving",
                ],
                outputs=None,
                name="log_encoder_model",
            ),
            Node(
                describe_pretraining,
                [
                    "training_history",
                    "augmented_pairs",
                    "encoder_weights",
                    "params:pretraining",
                    "params:reporting",
                    "params:traits",
                ],
                "pretraining_section",
                name="describe_pretraining",
            ),
        ],
        tags="pretraining",
    )
