"""Limits of this machine: checks before a training, and convolutions that a CPU cannot do in 16 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from synapseclr.errors import ConfigurationError

if TYPE_CHECKING:
    from synapseclr.training.config import PretrainingConfig


def check_hardware(config: PretrainingConfig) -> None:
    """Check precision and compilation against the device that will train.

    Raises:
        ConfigurationError: If half precision is asked for without a GPU, or nothing can be compiled here.
    """
    on_gpu = config.accelerator != "cpu" and torch.cuda.is_available()
    if config.precision == "16-mixed" and not on_gpu:
        raise ConfigurationError(
            "pretraining.precision is 16-mixed, which needs a GPU, and the training runs on the CPU (accelerator "
            f"'{config.accelerator}'). Set it to bf16-mixed or 32-true."
        )
    if config.compile:
        _check_compiler("cuda" if on_gpu else "cpu")


def _check_compiler(device: str) -> None:
    """Compile one small function: that finds out more than a look for a compiler's name."""
    try:
        torch.compile(lambda x: torch.relu(x) + 1, dynamic=False)(torch.ones(8, device=device))
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigurationError(
            f"pretraining.compile is true, but torch cannot compile for {device} here ({reason}). Install a C++ "
            "compiler (g++, or the one that the environment variable CXX names), or set pretraining.compile to false."
        ) from error


def keep_small_maps_in_32_bits(model: nn.Module) -> None:
    """Take the 3D convolutions of maps smaller than their kernel out of mixed precision on the CPU, in place.

    torch 2.13 (oneDNN, AVX-512 with bf16) computes the bfloat16 weight gradient of such a convolution from memory that
    is not its own: from run to run it is 0.9 off, infinite or NaN, or the process dies. It happens where an axis of the
    input is shorter than the kernel, as behind the last stages of a ResNet on 24^3 or 32^3 voxels. So small a map costs
    next to nothing in 32 bits. On other devices, and outside of autocast, nothing changes.
    """
    for module in model.modules():
        if type(module) is nn.Conv3d:
            module.__class__ = _SmallMapConv3d  # keeps parameters, hooks and what was set on the module


class _SmallMapConv3d(nn.Conv3d):
    def forward(self, input: Tensor) -> Tensor:
        reach = (dilation * (kernel - 1) + 1 for dilation, kernel in zip(self.dilation, self.kernel_size, strict=True))
        fits = all(size >= needed for size, needed in zip(input.shape[2:], reach, strict=True))
        if fits or input.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float())
