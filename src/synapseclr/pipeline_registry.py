"""The project's pipelines by name."""

from __future__ import annotations

from importlib import import_module

from kedro.pipeline import Node, Pipeline

_ANALYSES = ("manifold", "similarity", "outliers", "imputation", "consensus", "features", "reporting")
_MAIN = ("preprocessing", "pretraining", "embedding")
STAGES = ("simulation", *_MAIN, "published_features", "simulated_embeddings", *_ANALYSES)
"""Pipelines that are no joint of others, in the order of the way from volumes to the report."""


_IMAGES = "synapse_chunks"
_RARELY_READ_BY = "similarity.embed_query"  # for a query by a chunk from elsewhere


def without_images(pipeline: Pipeline) -> Pipeline:
    """Leave out the nodes that read chunks, and those that only draw what these make.

    What the remaining nodes read of theirs, such as statistics of the masks, has to be there already, or is optional in
    the catalog, such as the pictures of the report.
    """
    left_out = [node for node in pipeline.nodes if _IMAGES in node.inputs and node.name != _RARELY_READ_BY]
    made = {output for node in left_out for output in node.outputs}
    kept = [node for node in pipeline.nodes if node not in left_out]
    return Pipeline([node for node in kept if not (_data(node) and _data(node) <= made)])


def _data(node: Node) -> set[str]:
    return {name for name in node.inputs if not name.startswith("params:")}


def register_pipelines() -> dict[str, Pipeline]:
    """Map every pipeline's name to the pipeline.

    ``analysis`` joins what follows from embeddings, ``analysis_without_images`` what of it needs no chunks,
    ``__default__`` is the way from volumes to the report, ``demo`` the same on a simulated volume.
    ``published_features`` and ``simulated_embeddings`` stand in for the way to embeddings.

    Each pipeline is a namespace of its nodes, a box in the graph; datasets and parameters keep their names. The
    command line takes node names without it (`commands/run.py`).
    """
    pipelines = {
        name: Pipeline(
            import_module(f"synapseclr.pipelines.{name}").create_pipeline(),
            namespace=name,
            prefix_datasets_with_namespace=False,
        )
        for name in STAGES
    }
    pipelines["analysis"] = sum((pipelines[name] for name in _ANALYSES), Pipeline([]))
    pipelines["analysis_without_images"] = without_images(pipelines["analysis"])
    pipelines["__default__"] = sum((pipelines[name] for name in _MAIN), Pipeline([])) + pipelines["analysis"]
    pipelines["demo"] = pipelines["simulation"] + pipelines["__default__"]
    return pipelines
