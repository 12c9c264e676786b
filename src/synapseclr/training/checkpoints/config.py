"""When checkpoints are written, as validated parameters."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class CheckpointConfig(BaseModel):
    """When checkpoints are written; it does not change what is trained.

    ``last.ckpt`` is written at the end of every epoch and, as configured, within; ``last-previous.ckpt`` is the one
    before it. ``best.ckpt`` is that of the epoch with the best monitored metric.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    every_n_minutes: float | None = Field(10.0, gt=0, description="Write `last` within an epoch, this often.")
    every_n_steps: int | None = Field(None, ge=1, description="Write `last` within an epoch, after so many batches.")
    every_n_epochs: int | None = Field(None, ge=1, description="Keep every n-th epoch's checkpoint: epoch-0010.ckpt.")
    monitor: str | None = Field(
        None,
        description="Metric of the history that decides on `best`. By default the mean of the k-NN probes where the "
        "run is probed, else validation_loss, and train_loss where nothing is held out.",
    )
    monitor_mode: Literal["min", "max"] = Field("min", description="Which end of `monitor` is the better one.")
