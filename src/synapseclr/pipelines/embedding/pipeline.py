"""The embedding pipeline, and its instances for untrained encoders."""

from collections.abc import Callable

from kedro.pipeline import Node, Pipeline

from synapseclr.models import EncoderWeights
from synapseclr.pipelines.embedding.nodes import describe_embedding, embed_synapses, initialise_encoder

_SHARED_INPUTS = {"synapse_chunks", "synapse_metadata", "annotations"}
_SHARED_PARAMETERS = {"params:pretraining", "params:embedding"}


def create_pipeline() -> Pipeline:
    """Weights and chunks -> embeddings; once as trained, once (namespace ``random``) untrained."""
    trained = [_embed(), describe_embeddings()]
    return Pipeline([*trained, untrained_embedding("random", initialise_encoder)], tags="embedding")


def describe_embeddings() -> Node:
    """Make the node that writes the report's section on the embeddings, whichever pipeline made them."""
    return Node(
        describe_embedding,
        ["synapse_embeddings", "params:reporting"],
        "embedding_section",
        name="describe_embedding",
    )


def untrained_embedding(namespace: str, initialise: Callable[..., EncoderWeights]) -> Pipeline:
    """The embedding by an untrained encoder, in a namespace of its own.

    Args:
        namespace: Of its weights and embeddings.
        initialise: Makes the weights from ``synapse_chunks`` and the parameters ``pretraining``.
    """
    make = Node(initialise, ["synapse_chunks", "params:pretraining"], "encoder_weights", name=initialise.__name__)
    return Pipeline([make, _embed()], namespace=namespace, inputs=_SHARED_INPUTS, parameters=_SHARED_PARAMETERS)


def _embed() -> Node:
    return Node(
        embed_synapses,
        inputs=[
            "encoder_weights",
            "synapse_chunks",
            "synapse_metadata",
            "annotations",
            "params:pretraining",
            "params:embedding",
            "embedding_shards",
        ],
        outputs="synapse_embeddings",
        name="embed_synapses",
    )
