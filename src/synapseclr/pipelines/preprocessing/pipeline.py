"""The preprocessing pipeline."""

from kedro.pipeline import Node, Pipeline

from synapseclr.pipelines.preprocessing.nodes import (
    check_before_cutting,
    cut_synapse_chunks,
    describe_chunks,
    describe_preprocessing,
    list_rejected_synapses,
    measure_morphometry,
    plot_morphometry,
    plot_preprocessing,
)


def create_pipeline() -> Pipeline:
    """Volumes and tables -> chunks, metadata, annotations and a report."""
    return Pipeline(
        [
            Node(
                check_before_cutting,
                inputs=[
                    "em_volume",
                    "segmentation_volume",
                    "cleft_volume",
                    "synapse_table",
                    "annotation_table",
                    "params:preprocessing",
                    "chunk_source",
                    "params:traits",
                ],
                outputs=["input_check", "first_chunk"],
                name="check_before_cutting",
            ),
            Node(
                cut_synapse_chunks,
                inputs=[
                    "em_volume",
                    "segmentation_volume",
                    "cleft_volume",
                    "synapse_table",
                    "params:preprocessing",
                    "chunk_source",
                    "input_check",
                ],
                outputs="synapse_chunks",
                name="cut_synapse_chunks",
            ),
            Node(
                measure_morphometry,
                inputs="synapse_chunks",
                outputs=["synapse_morphometry", "synapse_morphometry_csv"],
                name="measure_morphometry",
            ),
            Node(
                describe_chunks,
                inputs=[
                    "synapse_chunks",
                    "synapse_table",
                    "annotation_table",
                    "synapse_morphometry",
                    "params:preprocessing",
                    "params:traits",
                ],
                outputs=["synapse_metadata", "annotations", "annotation_scales", "preprocessing_report"],
                name="describe_chunks",
            ),
            Node(
                list_rejected_synapses,
                inputs="synapse_chunks",
                outputs="rejected_synapses",
                name="list_rejected_synapses",
            ),
            Node(
                plot_preprocessing,
                inputs="preprocessing_report",
                outputs="preprocessing_histograms",
                name="plot_preprocessing",
            ),
            Node(
                plot_morphometry,
                inputs="synapse_morphometry",
                outputs="morphometry_figure",
                name="plot_morphometry",
            ),
            Node(
                describe_preprocessing,
                [
                    "preprocessing_report",
                    "preprocessing_histograms",
                    "synapse_morphometry",
                    "morphometry_figure",
                    "synapse_chunks",
                    "synapse_metadata",
                    "annotations",
                    "input_check",
                    "params:reporting",
                    "params:traits",
                ],
                "preprocessing_section",
                name="describe_preprocessing",
            ),
        ],
        tags="preprocessing",
    )
