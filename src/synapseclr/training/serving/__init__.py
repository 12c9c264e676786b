"""The encoder as an MLflow model: chunks in, features out. What needs torch or MLflow is imported on request."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from synapseclr.training.config import ServingConfig

if TYPE_CHECKING:
    from synapseclr.training.serving.encoder_model import EncoderModel, LoggedEncoder, log_encoder

__all__ = ["EncoderModel", "LoggedEncoder", "ServingConfig", "log_encoder"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.encoder_model"), name)
