"""The consensus pipeline."""

from kedro.pipeline import Node, Pipeline

from synapseclr.pipelines.consensus.nodes import draw_consensus, type_neurites


def create_pipeline() -> Pipeline:
    """From imputed cell types of synapses to those of neurites."""
    return Pipeline(
        [
            Node(
                type_neurites,
                ["imputed_traits", "synapse_embeddings", "params:consensus"],
                ["neurite_cell_types", "held_out_neurites", "consensus_evaluation", "consensus_fit"],
                name="type_neurites",
            ),
            Node(
                draw_consensus,
                ["held_out_neurites", "consensus_evaluation", "params:consensus"],
                "consensus_calibration",
                name="draw_consensus",
            ),
        ],
        tags="consensus",
    )
