"""The project's pipelines by name."""

from __future__ import annotations

from importlib import import_module

from kedro.pipeline import Pipeline

_ANALYSES = ("manifold", "similarity", "outliers", "imputation", "consensus", "features", "reporting")
_MAIN = ("preprocessing", "pretraining", "embedding")
STAGES = ("simulation", *_MAIN, "published_features", "simulated_embeddings", *_ANALYSES)
"""Pipelines that are no joint of others, in the order of the way from volumes to the report."""


def register_pipelines() -> dict[str, Pipeline]:
    """Map every pipeline's name to the pipeline.

    ``analysis`` joins what follows from embeddings, ``__default__`` is the way from volumes to the report, ``demo`` the
    same on a simulated volume. ``published_features`` and ``simulated_embeddings`` stand in for the way to embeddings.

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
    pipelines["__default__"] = sum((pipelines[name] for name in _MAIN), Pipeline([])) + pipelines["analysis"]
    pipelines["demo"] = pipelines["simulation"] + pipelines["__default__"]
    return pipelines
