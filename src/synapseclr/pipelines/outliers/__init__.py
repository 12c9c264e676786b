"""Defective synapses: ranked candidates, the accepted ones, and how well known defects are found."""

from synapseclr.pipelines.outliers.pipeline import create_pipeline

__all__ = ["create_pipeline"]
