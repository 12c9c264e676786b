"""Contrastive objectives, one per file."""

from synapseclr.objectives.nt_xent import nt_xent

__all__ = ["nt_xent"]
