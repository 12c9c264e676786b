"""The embedding pipeline, and its instance for a random encoder."""

from kedro.pipeline import Node, Pipeline

from synapseclr.pipelines.embedding.nodes import embed_synapses, initialise_encoder

_SHARED_INPUTS = {"synapse_chunks", "synapse_metadata", "annotations"}
_SHARED_PARAMETERS = {"params:pretraining", "params:embedding"}


def create_pipeline() -> Pipeline:
    """Weights and chunks -> embeddings; once as trained, once (namespace ``random``) as initialised."""
    embed = Node(
        embed_synapses,
        inputs=[
            "encoder_weights",
            "synapse_chunks",
            "synapse_metadata",
            "annotations",
            "params:pretraining",
            "params:embedding",
        ],
        outputs="synapse_embeddings",
        name="embed_synapses",
    )
    initialise = Node(
        initialise_encoder, inputs="params:pretraining", outputs="encoder_weights", name="initialise_encoder"
    )
    baseline = Pipeline([initialise, embed], namespace="random", inputs=_SHARED_INPUTS, parameters=_SHARED_PARAMETERS)
    return Pipeline([embed, baseline], tags="embedding")
