"""Make a segmented EM volume with known truth."""

from synapseclr.pipelines.simulation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
