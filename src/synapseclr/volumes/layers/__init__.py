"""Volumes in storage: precomputed and OME-Zarr layers, and their blocks."""
