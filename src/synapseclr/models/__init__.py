"""Encoders, projection head and weights."""

from synapseclr.models.config import ModelConfig
from synapseclr.models.encoders import ENCODER_NAMES, build_encoder
from synapseclr.models.weights import EncoderWeights

__all__ = ["ENCODER_NAMES", "LAYERS", "EncoderWeights", "ModelConfig", "SimCLR", "build_encoder"]


def __getattr__(name: str) -> object:
    """Import torch only when a name that needs it is asked for: configuration stays light at CLI start."""
    if name in ("SimCLR", "LAYERS"):
        from synapseclr.models import simclr

        return getattr(simclr, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
