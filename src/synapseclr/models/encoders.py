"""3D convolutional encoders by name, most of them built on MONAI's networks, and the parameters of a model."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator, model_validator

from synapseclr.errors import ConfigurationError
from synapseclr.parameters import Parameters

if TYPE_CHECKING:
    from torch import Tensor, nn

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
SCALABLE = ("densenet121", "densenet169", "segresnet", "mednext_s")
"""Backbones whose channels a width factor can multiply."""

BACKBONE_NAMES: tuple[str, ...] = (*SCALABLE, "seresnet50", "seresnext50", "efficientnet_b0")

_DENSE_BLOCKS = {"densenet121": (6, 12, 24, 16), "densenet169": (6, 12, 32, 32)}
_BACKBONE_CHANNELS = 32  # of the first stage of segresnet and mednext_s, and the growth of the dense nets, at width 1


@dataclass(frozen=True)
class _Stem:
    kernel_size: int
    stride: int
    max_pool: bool


def build_encoder(name: str, in_channels: int = 1, width_factor: float = 1.0) -> nn.Module:
    """Build an encoder whose forward maps ``(b, c, x, y, z)`` to backbone features ``(b, f)``.

    Args:
        name: ``region_resnet`` and ``single_convolution`` (:mod:`synapseclr.models.small_encoders`), one of
            MONAI's networks in :data:`~synapseclr.models.encoders.BACKBONE_NAMES`, or a published one of
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


class ModelConfig(Parameters):
    """Architecture of a SimCLR model; stored beside its weights, so that a file tells how to load it."""

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


def build_backbone(name: str, in_channels: int = 1, width_factor: float = 1.0) -> nn.Module:
    """Build an encoder whose forward maps ``(b, c, x, y, z)`` to backbone features ``(b, f)``.

    Nothing in them is random once they are built: MONAI's drop-out and drop-connect are left out, as all randomness of
    a training step belongs to the views. The dense nets' pooling rounds up, and EfficientNet pads alike on both sides,
    so that images of 24 voxels pass. MONAI's transformers are not among them: they need ``einops``, and ViT fixes the
    size of images.

    Args:
        name: One of :data:`BACKBONE_NAMES`. Features f and parameters at width 1:

            - ``densenet121``, ``densenet169`` (1024, 11.2 M; 1664, 18.5 M; Huang et al. 2017, arXiv:1608.06993);
            - ``segresnet``, the encoder of SegResNet (256, 17.6 M; Myronenko 2018, arXiv:1810.11654);
            - ``mednext_s``, the encoder of MedNeXt-S (512, 3.6 M; Roy et al. 2023, arXiv:2303.09975);
            - ``seresnet50``, ``seresnext50`` (2048, 48.7 M; 2048, 28.4 M; Hu et al. 2018, arXiv:1709.01507);
            - ``efficientnet_b0`` (1280, 4.7 M; Tan & Le 2019, arXiv:1905.11946).
        in_channels: 1 for merged chunks, 2 for separate pre- and postsynaptic channels.
        width_factor: Multiplies all channels of those in :data:`SCALABLE`; the others have one width.

    Returns:
        A module with MONAI's state-dict keys, whose ``fc`` is the identity and whose ``n_features`` tells f.

    Raises:
        ConfigurationError: If the name is unknown, or has no such width.
    """
    from torch import nn

    if name not in BACKBONE_NAMES:
        raise ConfigurationError(f"Unknown backbone '{name}'. Choose one of: {', '.join(BACKBONE_NAMES)}.")
    check_width(name, width_factor)
    if name in _DENSE_BLOCKS:
        net = _densenet(_DENSE_BLOCKS[name], in_channels, width_factor)
    elif name == "segresnet":
        net = _segresnet(in_channels, width_factor)
    elif name == "mednext_s":
        net = _mednext(in_channels, width_factor)
    elif name == "efficientnet_b0":
        net = _efficientnet(in_channels)
    else:
        net = _seresnet(name, in_channels)
    net.fc = nn.Identity()
    return net


def check_width(name: str, width_factor: float) -> None:
    """Refuse a width that a backbone cannot have; the published encoders are none of its business.

    Raises:
        ConfigurationError: If the backbone has one width only, or no channel is left.
    """
    if name in BACKBONE_NAMES and name not in SCALABLE and width_factor != 1:
        raise ConfigurationError(
            f"width_factor is {width_factor:g}, but {name} has one width only: set width_factor to 1, or choose one "
            f"of: {', '.join(SCALABLE)}."
        )
    if name in SCALABLE and int(_BACKBONE_CHANNELS * width_factor) < 1:
        raise ConfigurationError(f"width_factor {width_factor} leaves {name} no channel ({_BACKBONE_CHANNELS} at 1.0).")


def _densenet(blocks: tuple[int, ...], in_channels: int, width_factor: float) -> Any:
    from monai.networks.nets import DenseNet
    from torch import nn

    growth = int(_BACKBONE_CHANNELS * width_factor)
    net: Any = DenseNet(3, in_channels, 1, init_features=2 * growth, growth_rate=growth, block_config=blocks)
    for module in net.features.modules():
        if isinstance(module, nn.AvgPool3d):
            module.ceil_mode = True
    net.n_features = net.class_layers.out.in_features
    net.class_layers.out = nn.Identity()
    return net


def _segresnet(in_channels: int, width_factor: float) -> Any:
    from monai.networks.nets.segresnet_ds import SegResEncoder

    channels, blocks = int(_BACKBONE_CHANNELS * width_factor), (1, 2, 2, 4)
    net: Any = SegResEncoder(3, channels, in_channels, blocks_down=blocks, head_module=_mean_of_last)  # type: ignore[arg-type]
    net.n_features = channels * 2 ** (len(blocks) - 1)
    return net


def _mean_of_last(stages: list[Tensor]) -> Tensor:
    return stages[-1].mean(dim=(2, 3, 4))


def _mednext(in_channels: int, width_factor: float) -> Any:
    from monai.networks.nets import MedNeXt
    from torch import nn

    channels = int(_BACKBONE_CHANNELS * width_factor)
    whole: Any = MedNeXt(3, channels, in_channels, kernel_size=3, use_residual_connection=True)
    parts: list[tuple[str, Any]] = [("stem", whole.stem)]
    for index, (stage, down) in enumerate(zip(whole.enc_stages, whole.down_blocks, strict=True)):
        parts += [(f"stage{index}", stage), (f"down{index}", down)]
    parts += [("bottleneck", whole.bottleneck), ("pool", nn.AdaptiveAvgPool3d(1)), ("flatten", nn.Flatten(1))]
    net: Any = nn.Sequential(OrderedDict(parts))
    net.n_features = channels * 2 ** len(whole.down_blocks)
    return net


def _seresnet(name: str, in_channels: int) -> Any:
    from monai.networks.nets import SEResNet50, SEResNext50
    from torch import nn

    net: Any = (SEResNet50 if name == "seresnet50" else SEResNext50)(spatial_dims=3, in_channels=in_channels)
    net.n_features = net.last_linear.in_features
    net.last_linear = nn.Identity()
    return net


def _efficientnet(in_channels: int) -> Any:
    from monai.networks.nets import EfficientNetBN
    from torch import nn

    net: Any = EfficientNetBN("efficientnet-b0", pretrained=False, spatial_dims=3, in_channels=in_channels)
    for module in net.modules():
        if hasattr(module, "drop_connect_rate"):
            module.drop_connect_rate = 0.0
        if isinstance(module, nn.ConstantPad3d):  # made for 224 voxels, where strided layers pad one side more
            module.padding = ((module.padding[0] + module.padding[1] + 1) // 2,) * 6
    net.n_features = net._fc.in_features
    net._dropout = net._fc = nn.Identity()
    return net
