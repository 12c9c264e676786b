"""Projection of the embeddings to a plane, and what is known laid over it."""

from synapseclr.pipelines.manifold.pipeline import create_pipeline

__all__ = ["create_pipeline"]
