"""Embed every synapse, with the trained encoder and with a random one for comparison."""

from synapseclr.pipelines.embedding.pipeline import create_pipeline

__all__ = ["create_pipeline"]
