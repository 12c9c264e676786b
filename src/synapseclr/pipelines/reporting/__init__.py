"""The evaluation of a run and its report."""

from synapseclr.pipelines.reporting.pipeline import create_pipeline

__all__ = ["create_pipeline"]
