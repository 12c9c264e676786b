"""3D convolutional encoders by name, most of them built on MONAI's ResNet, and the parameters of a model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from synapseclr.errors import ConfigurationError
from synapseclr.models.backbones import BACKBONE_NAMES, build_backbone, check_width

if TYPE_CHECKING:
    from torch import nn

    from synapseclr.models.simclr import SimCLR

_STAGES: dict[int, tuple[str, list[int]]] = {
    18: ("basic", [2, 2, 2, 2]),
    34: ("basic", [3, 4, 6, 3]),
    50: ("bottleneck", [3, 4, 6, 3]),
}

_BASE_CHANNELS = [64, 128, 256, 512]
MEDICALNET = "resnet18_medicalnet"
_VARIANTS = ("", "_no_max_pool", "_no_max_pool_cifar_stem")

ENCODER_NAMES: tuple[str, ...] = (
    *(f"resnet{depth}{variant}" for variant in _VARIANTS for depth in _STAGES),
    MEDICALNET,
)
"""The published encoders."""

REGION_RESNET, SINGLE_CONVOLUTION = "region_resnet", "single_convolution"
OUR_ENCODER_NAMES: tuple[str, ...] = (REGION_RESNET, SINGLE_CONVOLUTION)
"""Encoders made here, whose weights are drawn like those of the published ones."""


@dataclass(frozen=True)
class _Stem:
    kernel_size: int
    stride: int
    max_pool: bool


def build_encoder(name: str, in_channels: int = 1, width_factor: float = 1.0) -> nn.Module:
    """Build an encoder whose forward maps ``(b, c, x, y, z)`` to backbone features ``(b, f)``.

    Args:
        name: ``region_resnet`` and ``single_convolution`` (:mod:`synapseclr.models.small_encoders`), one of
            MONAI's networks in :data:`~synapseclr.models.backbones.BACKBONE_NAMES`, or a published one of
            :data:`ENCODER_NAMES`:
            ``resnet{18,34,50}`` with a 7^3 stride-2 stem and max-pooling;
            ``_no_max_pool`` leaves the pooling out; ``_no_max_pool_cifar_stem`` also has a 3^3 stride-1 stem;
            ``resnet18_medicalnet`` is the dilated network that MedicalNet weights fit.
        in_channels: 1 for merged chunks, 2 for separate pre- and postsynaptic channels.
        width_factor: Multiplies the channels of every stage (64, 128, 256, 512 at 1.0).

    Returns:
        A module with the published state-dict keys (``conv1.weight``, ``layer1.0.conv1.weight``, ...; MONAI's own for
        its networks), whose ``fc`` is the identity and whose ``n_features`` tells the feature dimension.

    Raises:
        ConfigurationError: If the name is unknown or a size is out of range.
    """
    from monai.networks.nets.resnet import ResNet
    from torch import nn

    known = OUR_ENCODER_NAMES + ENCODER_NAMES + BACKBONE_NAMES
    if name not in known:
        raise ConfigurationError(f"Unknown encoder '{name}'. Choose one of: {', '.join(known)}.")
    if in_channels < 1:
        raise ConfigurationError(f"in_channels is {in_channels}; an encoder needs at least 1 input channel.")
    if name in BACKBONE_NAMES:
        return build_backbone(name, in_channels, width_factor)
    if int(_BASE_CHANNELS[0] * width_factor) < 1:
        raise ConfigurationError(f"width_factor {width_factor} leaves no channel in the first stage (64 at 1.0).")

    if name == REGION_RESNET:
        from synapseclr.models.small_encoders import RegionResNet

        return RegionResNet(in_channels, width_factor)
    if name == SINGLE_CONVOLUTION:
        from synapseclr.models.small_encoders import SingleConvolution

        return SingleConvolution(in_channels, width_factor)
    depth = int(re.match(r"resnet(\d+)", name).group(1))  # type: ignore[union-attr]
    block, layers = _STAGES[depth]
    stem = _stem_of(name)
    encoder: Any = ResNet(
        block=block,
        layers=layers,
        block_inplanes=_BASE_CHANNELS,
        n_input_channels=in_channels,
        conv1_t_size=stem.kernel_size,
        conv1_t_stride=stem.stride,
        no_max_pool=not stem.max_pool,
        shortcut_type="A" if name == MEDICALNET else "B",
        widen_factor=width_factor,
        feed_forward=False,
        bias_downsample=False,
    )
    encoder.n_features = encoder.in_planes
    encoder.fc = nn.Identity()
    if name == MEDICALNET:
        _dilate(encoder)
    return encoder


def _stem_of(name: str) -> _Stem:
    if name.endswith("_cifar_stem"):
        return _Stem(kernel_size=3, stride=1, max_pool=False)
    return _Stem(kernel_size=7, stride=2, max_pool=not name.endswith("_no_max_pool"))


def _dilate(encoder: Any) -> None:
    """Give stages 1 to 4 MedicalNet's strides 1, 2, 1, 1 and dilations 1, 1, 2, 4, and a shortcut with gradients."""
    for stage, (stride, dilation) in {
        encoder.layer2: (2, 1),
        encoder.layer3: (1, 2),
        encoder.layer4: (1, 4),
    }.items():
        for index, block in enumerate(stage):
            for convolution in (block.conv1, block.conv2):
                convolution.dilation = convolution.padding = (dilation,) * 3
            if index == 0:
                block.conv1.stride = (stride,) * 3
                block.downsample = _pad_channels_shortcut(block.conv2.out_channels, stride)


def _pad_channels_shortcut(planes: int, stride: int) -> nn.Module:
    """The type-A shortcut: subsample in space, pad channels with zeros, and let gradients pass."""
    import torch
    from torch import nn

    class PadChannels(nn.Module):
        def forward(self, x_bcxyz: torch.Tensor) -> torch.Tensor:
            x_bcxyz = x_bcxyz[:, :, ::stride, ::stride, ::stride]
            missing = planes - x_bcxyz.shape[1]
            return nn.functional.pad(x_bcxyz, (0, 0, 0, 0, 0, 0, 0, missing))

    return PadChannels()


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

        from synapseclr.models.simclr import SimCLR, initialise

        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model = SimCLR(build_encoder(self.encoder, self.in_channels, self.width_factor), self.projection_dims)
        initialise(model.projector if self.encoder in BACKBONE_NAMES else model, seed)
        return model
