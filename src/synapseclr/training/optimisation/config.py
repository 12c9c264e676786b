"""Optimiser and learning-rate schedule, as validated parameters."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

_DEFAULTS: dict[str, dict[str, Any]] = {
    "lars": {
        "learning_rate": 0.3,
        "learning_rate_scaling": "linear",
        "final_learning_rate": 0.0,
        "weight_decay": 1e-6,
    },
    "adamw": {"weight_decay": 1e-2},
}
_OF_LARS = ("momentum", "trust_coefficient")


class OptimiserConfig(BaseModel):
    """An optimiser, and the learning rate of every epoch.

    The learning rate is a cosine from ``learning_rate`` to ``final_learning_rate``, and starts again at every restart
    (Loshchilov & Hutter 2017, arXiv:1608.03983). The published pretraining, two stages of 100 epochs of which the
    second starts from the weights of the first, is ``epochs: 200`` with ``restarts: 1``.

    Defaults depend on the optimiser: for ``adam`` and for ``lars`` they are the published ones, for ``adamw`` the
    published ones of ``adam`` with torch's weight decay. A parameter that the chosen optimiser does not have must be
    left out, and is not dumped.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Literal["adam", "adamw", "lars"] = Field(
        "adam", description="adam; adamw: decoupled weight decay; lars: momentum with layer-wise rates, large batches."
    )
    learning_rate: float = Field(2e-4, gt=0, description="At the first epoch of a stage. lars: 0.3.")
    learning_rate_scaling: Literal["none", "linear"] = Field(
        "none", description="linear: both rates are times synapses per step / 256, over all processes. lars: linear."
    )
    final_learning_rate: float = Field(2e-5, ge=0, description="At the end of the cosine. lars: 0.")
    weight_decay: float = Field(
        0.0,
        ge=0,
        description="adam: L2 penalty, on all weights. adamw (0.01), lars (1e-6): not on biases and norms.",
    )
    warmup_epochs: int = Field(0, ge=0, description="Epochs of linear rise at the start of every stage.")
    restarts: int = Field(0, ge=0, description="How often the schedule starts again, in equal stages; published: 1.")
    reset_at_restart: bool = Field(
        True, description="A restart forgets the optimiser's moments, as published: only weights are taken over."
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="LARS: momentum.")
    trust_coefficient: float = Field(1e-3, gt=0, description="LARS: share of a layer's norm that a step may move.")

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_optimiser(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return _DEFAULTS.get(str(given.get("name")), {}) | given

    @model_validator(mode="after")
    def _no_foreign_parameter(self) -> OptimiserConfig:
        for name in _OF_LARS if self.name != "lars" else ():
            value = getattr(self, name)
            if value != type(self).model_fields[name].default:
                raise ValueError(
                    f"{name} is {value:g}, but the optimiser '{self.name}' has no such parameter. Leave {name} out, or "
                    "choose the optimiser 'lars'."
                )
        return self

    @model_serializer(mode="wrap")
    def _without_foreign_parameters(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in dump(self).items() if self.name == "lars" or key not in _OF_LARS}

    def stage_epochs(self, epochs: int) -> int:
        """Epochs of one stage of the schedule.

        Raises:
            ValueError: If ``epochs`` cannot be divided into ``restarts + 1`` equal stages that outlast the warm-up.
        """
        stages = self.restarts + 1
        if epochs % stages:
            raise ValueError(
                f"epochs is {epochs}, which optimiser.restarts {self.restarts} cannot divide into {stages} equal "
                f"stages. Set epochs to a multiple of {stages}, {epochs - epochs % stages + stages} for instance."
            )
        if self.warmup_epochs and self.warmup_epochs >= epochs // stages:
            raise ValueError(
                f"optimiser.warmup_epochs is {self.warmup_epochs}, but a stage has {epochs // stages} epochs. Warm up "
                "in fewer, or train longer."
            )
        return epochs // stages

    def learning_rate_at(self, epoch: int, epochs: int, synapses_per_step: int = 256) -> float:
        """Learning rate of an epoch: a function of the configuration and the epoch, of nothing else.

        Args:
            epoch: Counts from 0. From ``epochs`` on, the rate stays at the end of the cosine.
            epochs: Length of the run.
            synapses_per_step: Synapses that one step of the optimiser sees, over all processes and accumulated
                batches. It matters for linear scaling only (Goyal et al. 2017, arXiv:1706.02677).
        """
        scale = synapses_per_step / 256 if self.learning_rate_scaling == "linear" else 1.0
        high, low = self.learning_rate * scale, self.final_learning_rate * scale
        if epoch >= epochs:
            return low
        length = self.stage_epochs(epochs)
        position = epoch % length
        if position < self.warmup_epochs:
            return high * (position + 1) / (self.warmup_epochs + 1)
        progress = (position - self.warmup_epochs) / (length - self.warmup_epochs)
        return low + (high - low) * (1 + math.cos(math.pi * progress)) / 2

    def restarts_at(self, epoch: int, epochs: int) -> bool:
        """Whether the epoch, counted from 0, is the first one after a restart."""
        return 0 < epoch < epochs and epoch % self.stage_epochs(epochs) == 0
