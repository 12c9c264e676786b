"""Features that were computed elsewhere, in the form of our embeddings."""

from synapseclr.pipelines.published_features.pipeline import create_pipeline

__all__ = ["create_pipeline"]
