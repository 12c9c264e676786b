"""The similarity pipeline."""

from kedro.pipeline import Node, Pipeline

from synapseclr.pipelines.similarity.nodes import (
    answer_queries,
    compare_indices,
    describe_similarity,
    draw_distances,
    draw_neighbours,
    embed_query,
    find_neighbours,
    index_features,
)


def create_pipeline() -> Pipeline:
    """From embeddings to nearest neighbours, the answers to queries, and pictures of them."""
    return Pipeline(
        [
            Node(
                index_features,
                ["synapse_embeddings", "feature_index_folder", "params:similarity"],
                "feature_index",
                name="index_features",
            ),
            Node(
                embed_query,
                [
                    "query_chunks",
                    "query_encoder",
                    "synapse_embeddings",
                    "synapse_chunks",
                    "params:pretraining",
                    "params:similarity",
                ],
                "query_features",
                name="embed_query",
            ),
            Node(
                answer_queries,
                [
                    "synapse_embeddings",
                    "feature_index",
                    "query_features",
                    "params:similarity",
                    "params:neuroglancer",
                    "params:traits",
                ],
                ["similarity_results", "distance_histograms"],
                name="answer_queries",
            ),
            Node(
                find_neighbours,
                ["synapse_embeddings", "feature_index", "query_features", "params:similarity"],
                "nearest_neighbours",
                name="find_neighbours",
            ),
            Node(
                compare_indices,
                ["feature_index", "params:similarity"],
                ["index_recall", "similarity_metrics"],
                name="compare_indices",
            ),
            Node(
                draw_neighbours,
                ["similarity_results", "synapse_chunks", "query_chunks"],
                "similarity_strip",
                name="draw_neighbours",
            ),
            Node(
                draw_distances,
                ["distance_histograms", "similarity_results"],
                "similarity_distances",
                name="draw_distances",
            ),
            Node(
                describe_similarity,
                [
                    "synapse_embeddings",
                    "similarity_strip",
                    "similarity_distances",
                    "index_recall",
                    "params:reporting",
                ],
                "similarity_section",
                name="describe_similarity",
            ),
        ],
        tags="similarity",
    )
