"""Pretraining and embedding. Names that need torch or Lightning are imported when they are first asked for."""

from typing import Any

from synapseclr.training.config import EmbeddingConfig, EmbeddingPoses, PretrainingConfig, ProbeTargets

__all__ = [
    "EmbeddingConfig",
    "EmbeddingPoses",
    "PretrainingConfig",
    "ProbeTargets",
    "TrainingResult",
    "adapted_weights",
    "embed_store",
    "embed_to_shards",
    "fit",
    "sample_augmented_pairs",
    "untrained_weights",
]

_LAZY = {
    "adapted_weights": "initial_weights",
    "embed_store": "extraction",
    "embed_to_shards": "embedding_shards",
    "fit": "engine",
    "TrainingResult": "engine",
    "sample_augmented_pairs": "prepared_store",
    "untrained_weights": "initial_weights",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"synapseclr.training.{_LAZY[name]}"), name)
