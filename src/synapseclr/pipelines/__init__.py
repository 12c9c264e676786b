"""Kedro pipelines: they translate between the catalog and the libraries."""
