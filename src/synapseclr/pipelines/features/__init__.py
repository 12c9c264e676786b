"""Correlations, spectra and components of the features, and traits by cell types."""

from synapseclr.pipelines.features.pipeline import create_pipeline

__all__ = ["create_pipeline"]
