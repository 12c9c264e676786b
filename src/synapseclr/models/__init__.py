"""Encoders, projection head, and weights: made, imported, exported and loaded."""

from importlib import import_module
from typing import TYPE_CHECKING

from synapseclr.models.encoders import BACKBONE_NAMES, ENCODER_NAMES, ModelConfig, build_encoder
from synapseclr.models.weights import EncoderWeights, load_encoder, load_weights

if TYPE_CHECKING:
    from synapseclr.models.card import export, model_card
    from synapseclr.models.foreign_checkpoints import ImportedWeights, ImportReport, import_checkpoint
    from synapseclr.models.simclr import LAYERS, SimCLR

__all__ = [
    "BACKBONE_NAMES",
    "ENCODER_NAMES",
    "LAYERS",
    "EncoderWeights",
    "ImportReport",
    "ImportedWeights",
    "ModelConfig",
    "SimCLR",
    "build_encoder",
    "export",
    "import_checkpoint",
    "load_encoder",
    "load_weights",
    "model_card",
]

_MODULE_OF = {
    "LAYERS": "simclr",
    "SimCLR": "simclr",
    "ImportReport": "foreign_checkpoints",
    "ImportedWeights": "foreign_checkpoints",
    "import_checkpoint": "foreign_checkpoints",
    "export": "card",
    "model_card": "card",
}


def __getattr__(name: str) -> object:
    """Import what needs torch, and what few runs need, when it is asked for: the command line starts without it."""
    if name in _MODULE_OF:
        return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
