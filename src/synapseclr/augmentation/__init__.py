"""Random views of chunk batches, made by a list of operations on the batch's own device.

``Augmenter(AugmentationConfig(...))(chunk_bcxyz)`` gives one ``View``. The configuration is importable without torch;
the rest is loaded on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from synapseclr.augmentation.config import AugmentationConfig

if TYPE_CHECKING:
    from synapseclr.augmentation.augmenter import Augmenter, View
    from synapseclr.augmentation.operation import Operation
    from synapseclr.augmentation.preparation import PreparedChunks

__all__ = ["AugmentationConfig", "Augmenter", "Operation", "PreparedChunks", "View"]

_LAZY = {"Augmenter": "augmenter", "Operation": "operation", "PreparedChunks": "preparation", "View": "augmenter"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
