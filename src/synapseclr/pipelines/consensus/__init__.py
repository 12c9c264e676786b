"""Cell types of neurites from all of their synapses."""

from synapseclr.pipelines.consensus.pipeline import create_pipeline

__all__ = ["create_pipeline"]
