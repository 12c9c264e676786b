"""The objective that a pretraining run minimises, as validated parameters."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from synapseclr.parameters import ParametersOfKind

if TYPE_CHECKING:
    from torch import Tensor

_PARAMETERS = {
    "nt_xent": ("temperature",),
    "decoupled": ("temperature",),
    "vicreg": ("invariance", "variance", "covariance"),
}


class ObjectiveConfig(ParametersOfKind):
    """The objective that compares two views."""

    noun = "objective"
    own_parameters = _PARAMETERS

    name: Literal["nt_xent", "decoupled", "vicreg"] = Field(
        "nt_xent", description="nt_xent: SimCLR; decoupled: the same without the positive below the fraction; vicreg."
    )
    temperature: float = Field(0.5, gt=0, description="Temperature of nt_xent and decoupled.")
    invariance: float = Field(25.0, ge=0, description="VICReg: weight of the distance of the two views.")
    variance: float = Field(25.0, ge=0, description="VICReg: weight of the spread of each dimension.")
    covariance: float = Field(1.0, ge=0, description="VICReg: weight of the covariances between dimensions.")

    def build(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The objective as a function of the views' projections z_i and z_j, each (batch, dimension), to a scalar."""
        from synapseclr.objectives.losses import dcl, nt_xent, vicreg_loss

        functions: dict[str, Callable[..., Tensor]] = {"nt_xent": nt_xent, "decoupled": dcl, "vicreg": vicreg_loss}
        return partial(functions[self.name], **{name: getattr(self, name) for name in _PARAMETERS[self.name]})
