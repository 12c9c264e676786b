"""How the encoder of a run is handed on, as validated parameters."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ServingConfig(BaseModel):
    """Parameters of what ``pretraining`` leaves to be served."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    registered_model: str | None = Field(
        None,
        min_length=1,
        pattern=r"^[^/:\s](?:[^/:]*[^/:\s])?$",
        description="Name in MLflow's model registry under which every run adds a version; null: only the run has it.",
    )
