"""Checkpoints of a training: written atomically, found again, and entered in the middle of an epoch."""

from synapseclr.training.checkpoints.config import CheckpointConfig

__all__ = ["CheckpointConfig"]
