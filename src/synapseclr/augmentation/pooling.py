"""Decoding and anti-aliasing of the corrected augmentation.

A chunk is averaged over boxes as large as fit the output pitch (2 x 2 x 1 voxels for the published 8 x 8 x 40 nm at a
pitch of 16 nm), ignoring voxels without signal. Mask codes are pooled by priority: cleft if any voxel is cleft (a thin
cleft survives), else presynaptic, else postsynaptic where they fill half the box.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from synapseclr.augmentation.config import AugmentationConfig
from synapseclr.augmentation.resampling import channels_innermost, layout_for

PRE_CODE, CLEFT_CODE, POST_CODE = 1, 2, 3


@dataclass(frozen=True)
class Prepared:
    """A decoded batch, pooled to the output's pitch; shared by the views.

    Attributes:
        intensity_bcxyz: Mean intensity of the voxels that carry signal, in [0, 1], shape (batch, 1, x, y, z).
        weight_bcxyz: Share of voxels that carry signal, same shape.
        mask_bcxyz: Masks (pre, cleft, post) as 0 or 1, float32, shape (batch, 3, x, y, z).
        shape_xyz: Shape of the chunk before pooling.
        factors: Pooling factors along x, y, z.
        shared_grid: Whether the memory layout is for one grid over the batch.
    """

    intensity_bcxyz: Tensor
    weight_bcxyz: Tensor
    mask_bcxyz: Tensor
    shape_xyz: tuple[int, int, int]
    factors: tuple[int, int, int]
    shared_grid: bool


def pooling_factors(config: AugmentationConfig) -> tuple[int, int, int]:
    """The largest whole boxes of input voxels that fit into the output pitch, at least one voxel."""
    pitch = config.final_crop_size / config.final_img_size + 1e-6
    sagittal = max(1, int(pitch))
    return sagittal, sagittal, max(1, int(pitch / config.axial_to_sagittal_spacing))


def _boxes(volume_bcxyz: Tensor, factors: tuple[int, int, int]) -> list[Tensor]:
    """The strided views whose union is every box, after padding odd sizes with zeros (no signal, no mask)."""
    fx, fy, fz = factors
    pad = [-length % factor for length, factor in zip(volume_bcxyz.shape[2:], factors, strict=True)]
    if any(pad):
        volume_bcxyz = torch.nn.functional.pad(volume_bcxyz, (0, pad[2], 0, pad[1], 0, pad[0]))
    return [volume_bcxyz[:, :, i::fx, j::fy, k::fz] for i in range(fx) for j in range(fy) for k in range(fz)]


def _total(parts: list[Tensor], dtype: torch.dtype) -> Tensor:
    """Sum over the voxels of every box."""
    total = parts[0].to(dtype, copy=True)
    for part in parts[1:]:
        total = total.add_(part)
    return total


def prepare(chunk_bcxyz: Tensor, config: AugmentationConfig) -> Prepared:
    """Decode and pool a batch of uint8 chunks (batch, 2, x, y, z)."""
    factors = pooling_factors(config)
    n_box = factors[0] * factors[1] * factors[2]
    shared = config.batch_mode == "coupled"
    # Channel by channel, so that the strided box views run over long contiguous rows.
    intensity, code = (layout_for(chunk_bcxyz[:, channel, None], shared) for channel in (0, 1))

    def count(held: Tensor) -> Tensor:
        return _total(_boxes(held, factors), torch.uint8 if n_box < 256 else torch.int32)

    def equals(value: int) -> Tensor:
        """1 where the code is this one, else 0; several times as fast as a comparison of bytes."""
        return (code ^ value).clamp_(max=1).bitwise_xor_(1)

    total = _total(_boxes(intensity, factors), torch.int16 if n_box <= 128 else torch.int32)
    carried = count(intensity.clamp(max=1))
    cleft = count(equals(CLEFT_CODE)) > 0
    pre = (count(equals(PRE_CODE)) >= (n_box + 1) // 2) & ~cleft
    post = (count(equals(POST_CODE)) >= (n_box + 1) // 2) & ~cleft & ~pre
    signal = total.div(carried.clamp(min=1).float().mul_(config.norm_scale)).clamp_(max=1.0)
    x, y, z = chunk_bcxyz.shape[2:]
    mask = channels_innermost((pre, cleft, post), shared).float()
    return Prepared(signal, carried.float().div_(n_box), mask, (x, y, z), factors, shared)


class Chunks:
    """A batch of uint8 chunks (batch, 2, x, y, z); what views share is made when the first of them needs it."""

    def __init__(self, chunk_bcxyz: Tensor, config: AugmentationConfig) -> None:
        self.chunk_bcxyz, self._config = chunk_bcxyz, config

    @cached_property
    def prepared(self) -> Prepared:
        """The batch, decoded and pooled."""
        return prepare(self.chunk_bcxyz, self._config)
