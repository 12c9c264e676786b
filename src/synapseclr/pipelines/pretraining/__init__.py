"""Train an encoder by contrasting random views of synapses."""

from synapseclr.pipelines.pretraining.pipeline import create_pipeline

__all__ = ["create_pipeline"]
