"""What a model is made of, as validated parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from synapseclr.models.backbones import BACKBONE_NAMES, check_width
from synapseclr.models.encoders import ENCODER_NAMES, OUR_ENCODER_NAMES

if TYPE_CHECKING:
    from synapseclr.models.simclr import SimCLR


class ModelConfig(BaseModel):
    """Architecture of a SimCLR model; stored beside its weights, so that a file tells how to load it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: str = Field("resnet18_no_max_pool", description="region_resnet, a published encoder, or one of MONAI's.")
    in_channels: int = Field(1, ge=1, le=2, description="1: merged chunks; 2: separate pre- and postsynaptic channels.")
    width_factor: float = Field(1.0, gt=0, description="Multiplies the channels of every stage.")
    projection_dims: tuple[int, int] = Field((512, 128), description="Hidden and output dimension of the projector.")

    @field_validator("encoder")
    @classmethod
    def _known_encoder(cls, name: str) -> str:
        if name not in OUR_ENCODER_NAMES + ENCODER_NAMES + BACKBONE_NAMES:
            raise ValueError(
                f"unknown encoder '{name}', choose one of: {', '.join(OUR_ENCODER_NAMES + ENCODER_NAMES)}; or one "
                f"of MONAI's networks: {', '.join(BACKBONE_NAMES)}"
            )
        return name

    @model_validator(mode="after")
    def _possible_width(self) -> ModelConfig:
        check_width(self.encoder, self.width_factor)
        return self

    def build(self, seed: int) -> SimCLR:
        """Make the model with weights drawn from ``seed``; MONAI's networks keep their own way of drawing them."""
        import torch

        from synapseclr.models.encoders import build_encoder
        from synapseclr.models.simclr import SimCLR, initialise

        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model = SimCLR(build_encoder(self.encoder, self.in_channels, self.width_factor), self.projection_dims)
        initialise(model.projector if self.encoder in BACKBONE_NAMES else model, seed)
        return model
