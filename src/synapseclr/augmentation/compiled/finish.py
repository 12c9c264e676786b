"""From resampled signals to the view: blur, normalised convolution, mask and z-score, compiled into one pass."""

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from synapseclr.augmentation.compiled.kernels import in_threads
from synapseclr.augmentation.intensity import LEAST_WEIGHT, VALID_WEIGHT, blur_weights

_NONE, _ONE = np.float32(0.0), np.float32(1.0)
_VALID, _LEAST = np.float32(VALID_WEIGHT), np.float32(LEAST_WEIGHT)


def finish_view(
    carried_bcxyz: Tensor, shown_bcxyz: Tensor, sigma_b: Tensor | None, mean: float, std: float, outside: float
) -> Tensor:
    """``intensity.carried_intensity``, z-scored, with a constant where it is not valid or not shown.

    Args:
        carried_bcxyz: Weighted intensities and their weights, float32, contiguous, on the CPU, shape
            (batch, 2, size, size, size).
        shown_bcxyz: Boolean, shape (batch or 1, channels, size, size, size).
        sigma_b: As in ``intensity.blur_gaussian``, shape (batch or 1,); None for no blur.
        mean: What is taken off.
        std: What is divided by then.
        outside: The constant.

    Returns:
        float32, shape (batch, channels, size, size, size).
    """
    batch, _, size = carried_bcxyz.shape[:3]
    blur_b2 = blur_weights(torch.zeros(1) if sigma_b is None else sigma_b).float().expand(batch, 2).contiguous()
    shown_bcxyz = shown_bcxyz.expand(batch, -1, -1, -1, -1).contiguous()
    view_bcxyz = torch.empty(shown_bcxyz.shape)
    arrays = [tensor.numpy() for tensor in (carried_bcxyz, shown_bcxyz.view(torch.uint8), blur_b2, view_bcxyz)]
    in_threads(finish_planes, batch * size, *arrays, *(np.float32(number) for number in (mean, std, outside)))
    return view_bcxyz


@njit(nogil=True, cache=True, error_model="numpy")
def finish_planes(
    start: int,
    stop: int,
    carried_bcxyz: Any,
    shown_bcxyz: Any,
    blur_b2: Any,
    view_bcxyz: Any,
    mean: Any,
    std: Any,
    outside: Any,
) -> None:
    """``finish_view`` for planes across x, counted over the batch; ``blur_b2`` holds the weights (edge, centre)."""
    size, n_sides = carried_bcxyz.shape[2], shown_bcxyz.shape[1]
    plane_cyz = np.empty((2, size, size), dtype=np.float32)
    line_cz, padded_z = np.empty((2, size), dtype=np.float32), np.zeros(size + 2, dtype=np.float32)
    nothing_z = np.zeros(size, dtype=np.float32)
    for plane in range(start, stop):
        sample, x = plane // size, plane % size
        edge, centre = blur_b2[sample, 0], blur_b2[sample, 1]
        if edge > _NONE:
            for channel in range(2):
                volume_xyz = carried_bcxyz[sample, channel]
                for y in range(size):
                    before = volume_xyz[x - 1, y] if x > 0 else nothing_z
                    after = volume_xyz[x + 1, y] if x < size - 1 else nothing_z
                    _blur(before, volume_xyz[x, y], after, edge, centre, plane_cyz[channel, y])
        for y in range(size):
            weight_z = carried_bcxyz[sample, 1, x, y]
            if edge > _NONE:
                for channel in range(2):
                    before = plane_cyz[channel, y - 1] if y > 0 else nothing_z
                    after = plane_cyz[channel, y + 1] if y < size - 1 else nothing_z
                    _blur(before, plane_cyz[channel, y], after, edge, centre, padded_z[1:-1])
                    _blur(padded_z[:-2], padded_z[1:-1], padded_z[2:], edge, centre, line_cz[channel])
                _z_score(line_cz[0], line_cz[1], mean, std, line_cz[0])
            else:
                _z_score(carried_bcxyz[sample, 0, x, y], weight_z, mean, std, line_cz[0])
            for side in range(n_sides):
                _show(line_cz[0], weight_z, shown_bcxyz[sample, side, x, y], outside, view_bcxyz[sample, side, x, y])


@njit(inline="always")
def _blur(before_z: Any, here_z: Any, after_z: Any, edge: Any, centre: Any, blurred_z: Any) -> None:
    for z in range(len(blurred_z)):
        blurred_z[z] = here_z[z] * centre + before_z[z] * edge + after_z[z] * edge


@njit(inline="always")
def _z_score(signal_z: Any, weight_z: Any, mean: Any, std: Any, scaled_z: Any) -> None:
    for z in range(len(scaled_z)):
        value = signal_z[z] / max(weight_z[z], _LEAST)
        scaled_z[z] = (min(max(value, _NONE), _ONE) - mean) / std


@njit(inline="always")
def _show(scaled_z: Any, weight_z: Any, shown_z: Any, outside: Any, view_z: Any) -> None:
    for z in range(len(view_z)):
        view_z[z] = scaled_z[z] if weight_z[z] > _VALID and shown_z[z] else outside
