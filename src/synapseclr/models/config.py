"""What a model is made of, as validated parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, field_validator

from synapseclr.models.encoders import ENCODER_NAMES

if TYPE_CHECKING:
    from synapseclr.models.simclr import SimCLR


class ModelConfig(BaseModel):
    """Architecture of a SimCLR model; stored beside its weights, so that a file tells how to load it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: str = Field("resnet18_no_max_pool", description="One of the published encoder names.")
    in_channels: int = Field(1, ge=1, le=2, description="1: merged chunks; 2: separate pre- and postsynaptic channels.")
    width_factor: float = Field(1.0, gt=0, description="Multiplies the channels of every stage.")
    projection_dims: tuple[int, int] = Field((512, 128), description="Hidden and output dimension of the projector.")

    @field_validator("encoder")
    @classmethod
    def _known_encoder(cls, name: str) -> str:
        if name not in ENCODER_NAMES:
            raise ValueError(f"unknown encoder '{name}', choose one of: {', '.join(ENCODER_NAMES)}")
        return name

    def build(self, seed: int) -> SimCLR:
        """Make the model with weights drawn from ``seed``."""
        from synapseclr.models.encoders import build_encoder
        from synapseclr.models.simclr import SimCLR, initialise

        encoder = build_encoder(self.encoder, self.in_channels, self.width_factor)
        return initialise(SimCLR(encoder, self.projection_dims), seed)
