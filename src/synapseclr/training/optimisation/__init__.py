"""How the weights move: optimisers, learning-rate schedule, accumulation, compilation, batch norm over processes."""

from typing import TYPE_CHECKING, Any

from synapseclr.training.optimisation.config import OptimiserConfig

if TYPE_CHECKING:
    from synapseclr.training.optimisation.batch_norm import SynchronisedBatchNorm, synchronise_batch_norm
    from synapseclr.training.optimisation.hardware import check_hardware
    from synapseclr.training.optimisation.optimisers import build_optimiser
    from synapseclr.training.optimisation.schedule import CosineWithRestarts

__all__ = [
    "CosineWithRestarts",
    "OptimiserConfig",
    "SynchronisedBatchNorm",
    "build_optimiser",
    "check_hardware",
    "synchronise_batch_norm",
]

_LAZY = {
    "CosineWithRestarts": "schedule",
    "SynchronisedBatchNorm": "batch_norm",
    "build_optimiser": "optimisers",
    "check_hardware": "hardware",
    "synchronise_batch_norm": "batch_norm",
}


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is asked for."""
    from importlib import import_module

    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
