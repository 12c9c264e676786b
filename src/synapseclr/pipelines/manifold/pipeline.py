"""The manifold pipeline."""

from kedro.pipeline import Node, Pipeline

from synapseclr.pipelines.manifold.nodes import (
    check_leakage,
    describe_clusters,
    describe_manifold,
    draw_axis_profiles,
    draw_axis_strip,
    draw_clusters,
    draw_interactive,
    draw_interactive_3d,
    draw_leakage,
    draw_orientation,
    draw_overlays,
    orient_clefts,
    project_synapses,
)


def create_pipeline() -> Pipeline:
    """From embeddings to the plane with its clusters and axes, and to the technical check."""
    parameters, plane, blocks = "params:manifold", "synapse_manifold", "params:row_blocks"
    return Pipeline(
        [
            Node(project_synapses, ["synapse_embeddings", parameters, blocks], plane, name="project_synapses"),
            Node(
                describe_clusters,
                [plane, parameters, "params:traits"],
                ["cluster_profiles", "axis_positions", "axis_profiles"],
                name="describe_clusters",
            ),
            Node(
                orient_clefts,
                ["synapse_embeddings", "synapse_chunks", parameters],
                "synapse_orientations",
                name="orient_clefts",
            ),
            Node(
                check_leakage,
                ["synapse_embeddings", "random.synapse_embeddings", "synapse_orientations", parameters],
                ["leakage_scores", "leakage_metrics"],
                name="check_leakage",
            ),
            Node(draw_overlays, [plane, "params:traits"], "manifold_overlays", name="draw_manifold_overlays"),
            Node(draw_interactive, [plane, "params:traits"], "manifold_scatter", name="draw_manifold_scatter"),
            Node(
                draw_interactive_3d,
                [plane, "params:traits"],
                "manifold_scatter_3d",
                name="draw_manifold_scatter_3d",
            ),
            Node(
                draw_clusters, [plane, "axis_positions", parameters], "manifold_clusters", name="draw_manifold_clusters"
            ),
            Node(draw_axis_strip, ["axis_positions", "synapse_chunks"], "manifold_axis_strip", name="draw_axis_strip"),
            Node(
                draw_axis_profiles,
                ["axis_profiles", "params:traits"],
                "manifold_axis_profiles",
                name="draw_axis_profiles",
            ),
            Node(
                draw_orientation,
                [plane, "synapse_orientations"],
                "manifold_orientation",
                name="draw_manifold_orientation",
            ),
            Node(draw_leakage, ["leakage_scores", "embedding_provenance"], "leakage_figure", name="draw_leakage"),
            Node(
                describe_manifold,
                [
                    "synapse_manifold",
                    "manifold_overlays",
                    "manifold_clusters",
                    "manifold_axis_strip",
                    "manifold_axis_profiles",
                    "manifold_scatter",
                    "leakage_scores",
                    "leakage_figure",
                    "manifold_orientation",
                    "params:reporting",
                ],
                "manifold_section",
                name="describe_manifold",
            ),
        ],
        tags="manifold",
    )
