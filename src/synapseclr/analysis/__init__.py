"""Analyses of embeddings: imputation, neighbours, manifold. Pure functions on arrays and tables, without Kedro."""
