"""Nearest neighbours of every synapse, and a picture of some."""

from synapseclr.pipelines.similarity.pipeline import create_pipeline

__all__ = ["create_pipeline"]
