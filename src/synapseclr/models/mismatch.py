"""How a state dict differs from a model, and which model it would fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from synapseclr.models.config import ModelConfig
from synapseclr.models.encoders import ENCODER_NAMES, build_encoder

if TYPE_CHECKING:
    from torch import Tensor

MEDICALNET = "resnet18_medicalnet"


def difference(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """Describe every tensor that is missing, unexpected, of another shape, or not of floating point where it must be.

    Args:
        expected: Tensors of the model, in its order.
        found: Tensors of the file, under the same names.

    Returns:
        ``name: expected (64, 1, 7, 7, 7), found none``, the model's tensors first.
    """
    return [
        f"{name}: expected {_describe(expected.get(name))}, found {_describe(found.get(name), expected.get(name))}"
        for name in (*expected, *(name for name in found if name not in expected))
        if _differs(expected.get(name), found.get(name))
    ]


def _differs(expected: Tensor | None, found: Tensor | None) -> bool:
    if expected is None or found is None:
        return True
    return expected.shape != found.shape or expected.is_floating_point() != found.is_floating_point()


def _describe(tensor: Tensor | None, other: Tensor | None = None) -> str:
    if tensor is None:
        return "none"
    same_kind = other is None or other.is_floating_point() == tensor.is_floating_point()
    return f"{tuple(tensor.shape)}" + ("" if same_kind else f" of {tensor.dtype}")


def fitting_configuration(tensors: Mapping[str, Tensor], model: ModelConfig) -> str:
    """Say what to do: the configurations that a file would fit, found by comparing shapes.

    Args:
        tensors: Tensors of the file, with ``encoder.`` before the encoder's names or without.
        model: The configuration that does not fit.
    """
    prefixed = any(name.startswith("encoder.") for name in tensors)
    shapes = {
        name.removeprefix("encoder."): tuple(tensor.shape)
        for name, tensor in tensors.items()
        if name.startswith("encoder.") == prefixed and not name.startswith(("projector.", "fc.", "conv_seg."))
    }
    first = shapes.get("conv1.weight", ())
    names = _fitting_encoders(shapes) if len(first) == 5 and first[1] in (1, 2) else []
    if not prefixed:
        names = [name for name in names if name == MEDICALNET]
    if not names:
        return "It fits none of our encoders at any width: check that it is the file that you meant."
    settings = [f"encoder {' or '.join(names)}", f"in_channels {first[1]}", f"width_factor {first[0] / 64:g}"]
    hidden, out = tensors.get("projector.mlp.0.weight"), tensors.get("projector.mlp.3.weight")
    if hidden is not None and out is not None:
        settings.append(f"projection_dims ({hidden.shape[0]}, {out.shape[0]})")
    advice = f"The file is one of {', '.join(settings)}: set these"
    if first[1] == 1 and model.in_channels == 2:
        advice += ", or ask for two channels by repeat_first_convolution=True"
    return advice + "."


def _fitting_encoders(shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    import torch

    out_channels, in_channels = shapes["conv1.weight"][:2]
    counted = {name: shape for name, shape in shapes.items() if not name.endswith("num_batches_tracked")}
    names = []
    for name in ENCODER_NAMES:
        with torch.device("meta"):
            state = build_encoder(name, in_channels, out_channels / 64).state_dict()
        if counted == {k: tuple(v.shape) for k, v in state.items() if not k.endswith("num_batches_tracked")}:
            names.append(name)
    return names
