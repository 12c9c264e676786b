"""Scores of how well annotated traits can be read off each representation."""

from synapseclr.pipelines.imputation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
