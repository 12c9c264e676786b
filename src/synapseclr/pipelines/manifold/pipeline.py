"""The manifold pipeline."""

from kedro.pipeline import Node, Pipeline

from synapseclr.pipelines.manifold.nodes import draw_interactive, draw_overlays, project_synapses


def create_pipeline() -> Pipeline:
    """From embeddings to the plane and its figures."""
    return Pipeline(
        [
            Node(
                project_synapses, ["synapse_embeddings", "params:manifold"], "synapse_manifold", name="project_synapses"
            ),
            Node(draw_overlays, "synapse_manifold", "manifold_overlays", name="draw_manifold_overlays"),
            Node(draw_interactive, "synapse_manifold", "manifold_scatter", name="draw_manifold_scatter"),
        ],
        tags="manifold",
    )
