"""The consensus pipeline."""

from kedro.pipeline import Node, Pipeline

from synapseclr.pipelines.consensus.nodes import (
    classify,
    describe_consensus,
    draw_censored,
    draw_classes,
    draw_consensus,
    type_neurites,
    type_with_few_labels,
)


def create_pipeline() -> Pipeline:
    """From imputed cell types of synapses to those of neurites."""
    return Pipeline(
        [
            Node(
                type_neurites,
                ["imputed_traits", "synapse_embeddings", "params:consensus", "params:traits"],
                ["neurite_cell_types", "held_out_neurites", "consensus_evaluation", "consensus_fit"],
                name="type_neurites",
            ),
            Node(
                draw_consensus,
                ["held_out_neurites", "consensus_evaluation", "params:consensus"],
                "consensus_calibration",
                name="draw_consensus",
            ),
            Node(
                type_with_few_labels,
                [
                    "synapse_embeddings",
                    "mask_statistics",
                    "params:consensus",
                    "params:imputation",
                    "params:traits",
                    "params:row_blocks",
                ],
                ["censored_consensus", "censored_failures"],
                name="type_with_few_labels",
            ),
            Node(draw_censored, "censored_consensus", "censored_consensus_figure", name="draw_censored"),
            Node(
                classify,
                ["imputed_traits", "synapse_embeddings", "params:consensus", "params:traits"],
                ["neurite_classes", "held_out_neurite_classes", "neurite_class_evaluation"],
                name="classify_neurites",
            ),
            Node(draw_classes, "held_out_neurite_classes", "neurite_class_figure", name="draw_neurite_classes"),
            Node(
                describe_consensus,
                [
                    "synapse_embeddings",
                    "neurite_cell_types",
                    "consensus_evaluation",
                    "consensus_fit",
                    "consensus_calibration",
                    "censored_consensus",
                    "censored_failures",
                    "censored_consensus_figure",
                    "neurite_classes",
                    "neurite_class_evaluation",
                    "neurite_class_figure",
                    "params:consensus",
                    "params:reporting",
                    "params:traits",
                ],
                "consensus_section",
                name="describe_consensus",
            ),
        ],
        tags="consensus",
    )
