"""The objective that a pretraining run minimises, as validated parameters."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

if TYPE_CHECKING:
    from torch import Tensor

_PARAMETERS = {
    "nt_xent": ("temperature",),
    "decoupled": ("temperature",),
    "vicreg": ("invariance", "variance", "covariance"),
}


class ObjectiveConfig(BaseModel):
    """The objective that compares two views.

    A parameter that the chosen objective does not have must be left at its default, and is not dumped: a digest of the
    dump depends on what acts on the run, and on nothing else.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Literal["nt_xent", "decoupled", "vicreg"] = Field(
        "nt_xent", description="nt_xent: SimCLR; decoupled: the same without the positive below the fraction; vicreg."
    )
    temperature: float = Field(0.5, gt=0, description="Temperature of nt_xent and decoupled.")
    invariance: float = Field(25.0, ge=0, description="VICReg: weight of the distance of the two views.")
    variance: float = Field(25.0, ge=0, description="VICReg: weight of the spread of each dimension.")
    covariance: float = Field(1.0, ge=0, description="VICReg: weight of the covariances between dimensions.")

    @model_validator(mode="after")
    def _no_foreign_parameter(self) -> ObjectiveConfig:
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if name != "name" and name not in _PARAMETERS[self.name] and value != field.default:
                raise ValueError(
                    f"{name} is {value:g}, but the objective '{self.name}' has no such parameter (it has: "
                    f"{', '.join(_PARAMETERS[self.name])}). Leave {name} out, or choose another objective."
                )
        return self

    @model_serializer(mode="wrap")
    def _without_foreign_parameters(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in dump(self).items() if key in ("name", *_PARAMETERS[self.name])}

    def build(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The objective as a function of the views' projections z_i and z_j, each (batch, dimension), to a scalar."""
        from synapseclr.objectives.losses import dcl, nt_xent, vicreg_loss

        functions: dict[str, Callable[..., Tensor]] = {"nt_xent": nt_xent, "decoupled": dcl, "vicreg": vicreg_loss}
        return partial(functions[self.name], **{name: getattr(self, name) for name in _PARAMETERS[self.name]})
