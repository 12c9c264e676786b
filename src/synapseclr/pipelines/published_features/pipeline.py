"""The pipeline that imports published features, and its instance for those of a random encoder."""

from kedro.pipeline import Node, Pipeline

from synapseclr.pipelines.embedding.pipeline import describe_embeddings
from synapseclr.pipelines.published_features.nodes import import_features

_TABLES = {"published_metadata", "synapse_table", "annotation_table"}


def create_pipeline() -> Pipeline:
    """Feature files and tables -> embeddings; neither chunks nor weights are needed."""
    imported = Node(
        import_features,
        inputs=[
            "published_features",
            "published_metadata",
            "synapse_table",
            "annotation_table",
            "params:preprocessing",
            "params:traits",
        ],
        outputs="synapse_embeddings",
        name="import_features",
    )
    parameters = {"params:preprocessing", "params:traits"}
    baseline = Pipeline([imported], namespace="random", inputs=_TABLES, parameters=parameters)
    return Pipeline([imported, describe_embeddings(), baseline], tags="published_features")
