"""One or many processes on one or many machines. What needs torch is imported when it is first asked for."""

from typing import TYPE_CHECKING, Any

from synapseclr.training.scale.config import RendezvousConfig, ScaleConfig

if TYPE_CHECKING:
    from synapseclr.training.scale.launching import launch

__all__ = ["RendezvousConfig", "ScaleConfig", "launch"]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name != "launch":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.launching"), name)
