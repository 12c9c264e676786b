"""Further 3D encoders by name: MONAI's networks without their heads, as maps from images to features."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from synapseclr.errors import ConfigurationError

if TYPE_CHECKING:
    from torch import Tensor, nn

SCALABLE = ("densenet121", "densenet169", "segresnet", "mednext_s")
"""Backbones whose channels a width factor can multiply."""

BACKBONE_NAMES: tuple[str, ...] = (*SCALABLE, "seresnet50", "seresnext50", "efficientnet_b0")

_DENSE_BLOCKS = {"densenet121": (6, 12, 24, 16), "densenet169": (6, 12, 32, 32)}
_CHANNELS = 32  # of the first stage of segresnet and mednext_s, and the growth of the dense nets, at width 1


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
    if name in SCALABLE and int(_CHANNELS * width_factor) < 1:
        raise ConfigurationError(f"width_factor {width_factor} leaves {name} no channel ({_CHANNELS} at 1.0).")


def _densenet(blocks: tuple[int, ...], in_channels: int, width_factor: float) -> Any:
    from monai.networks.nets import DenseNet
    from torch import nn

    growth = int(_CHANNELS * width_factor)
    net: Any = DenseNet(3, in_channels, 1, init_features=2 * growth, growth_rate=growth, block_config=blocks)
    for module in net.features.modules():
        if isinstance(module, nn.AvgPool3d):
            module.ceil_mode = True
    net.n_features = net.class_layers.out.in_features
    net.class_layers.out = nn.Identity()
    return net


def _segresnet(in_channels: int, width_factor: float) -> Any:
    from monai.networks.nets.segresnet_ds import SegResEncoder

    channels, blocks = int(_CHANNELS * width_factor), (1, 2, 2, 4)
    net: Any = SegResEncoder(3, channels, in_channels, blocks_down=blocks, head_module=_mean_of_last)  # type: ignore[arg-type]
    net.n_features = channels * 2 ** (len(blocks) - 1)
    return net


def _mean_of_last(stages: list[Tensor]) -> Tensor:
    return stages[-1].mean(dim=(2, 3, 4))


def _mednext(in_channels: int, width_factor: float) -> Any:
    from monai.networks.nets import MedNeXt
    from torch import nn

    channels = int(_CHANNELS * width_factor)
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
