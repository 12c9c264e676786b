"""The similarity pipeline."""

from kedro.pipeline import Node, Pipeline

from synapseclr.pipelines.similarity.nodes import draw_neighbours, find_neighbours


def create_pipeline() -> Pipeline:
    """From embeddings to nearest neighbours and a picture of some of them."""
    return Pipeline(
        [
            Node(
                find_neighbours,
                ["synapse_embeddings", "params:similarity"],
                "nearest_neighbours",
                name="find_neighbours",
            ),
            Node(draw_neighbours, ["nearest_neighbours", "synapse_chunks"], "similarity_strip", name="draw_neighbours"),
        ],
        tags="similarity",
    )
