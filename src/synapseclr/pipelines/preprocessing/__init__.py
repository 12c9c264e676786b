"""Cut chunks around synapses and clean the tables that describe them."""

from synapseclr.pipelines.preprocessing.pipeline import create_pipeline

__all__ = ["create_pipeline"]
