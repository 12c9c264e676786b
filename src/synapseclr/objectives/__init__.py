"""Objectives that compare two views, ``(z_i, z_j) -> loss``, and the gathering of views over processes.

``ObjectiveConfig(name=...).build()`` gives one. The configuration is importable without torch; the rest is loaded on
first use. (None of these functions has the name of its file: importing the file would hide the function.)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from synapseclr.objectives.config import ObjectiveConfig

if TYPE_CHECKING:
    from synapseclr.objectives.losses import dcl, nt_xent, vicreg_loss
    from synapseclr.objectives.views import gather_views

__all__ = ["ObjectiveConfig", "dcl", "gather_views", "nt_xent", "vicreg_loss"]

_LAZY = {
    "dcl": "losses",
    "gather_views": "views",
    "nt_xent": "losses",
    "vicreg_loss": "losses",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
