"""Convolutions of maps that are smaller than their kernel, in 32 bits where a CPU trains in 16."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
