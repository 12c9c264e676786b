"""Trilinear resampling of prepared synapses at the positions of a view, once for each view.

On a CPU a compiled loop reads the five uint8 channels of a corner side by side; elsewhere ``grid_sample`` computes the
same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numba import njit
from torch import Tensor

from synapseclr.augmentation.preparation import LEVELS, Preparation, PreparedChunks
from synapseclr.augmentation.threads import in_threads

AXES = 3


class Sampled(NamedTuple):
    """A batch at the positions of a view.

    Attributes:
        signal_bxyz: Intensity times weight, float32, in [0, 1].
        weight_bxyz: Share of the interpolation that carries a signal, float32.
        distance_bcxyz: Codes of the distances to presynaptic side, cleft and postsynaptic side, uint8; 255 beyond the
            chunk.
        section_bxyz: Section of the chunk that a voxel lies in, int32.
    """

    signal_bxyz: Tensor
    weight_bxyz: Tensor
    distance_bcxyz: Tensor
    section_bxyz: Tensor


@dataclass(frozen=True)
class Pose:
    """Place of the output cube in the chunk.

    Attributes:
        matrix_bij: Steps of output voxels in physical space, in units of the pitch, float64, (batch or 1, 3, 3): a
            rotation, perhaps mirrored, divided by the magnification.
        displacement_bi: Displacement of the centre, in half sides of the unmagnified cube along the axes of the input,
            (batch or 1, 3).
    """

    matrix_bij: Tensor
    displacement_bi: Tensor

    @classmethod
    def identity(cls) -> Pose:
        """The central cube, along the axes of the chunk."""
        return cls(torch.eye(AXES, dtype=torch.float64)[None], torch.zeros(1, AXES, dtype=torch.float64))


def place(pose: Pose, preparation: Preparation, size: int, shape_xyz: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Positions ``origin + step @ (i, j, k)`` of the output voxels, in voxels of the prepared volume.

    Output voxels are cubes in physical space whatever the spacing of the sections; the cube turns about the displaced
    centre of the chunk.

    Returns:
        ``step_bij`` and ``origin_bi``, float64, (batch or 1, 3, 3) and (batch or 1, 3).
    """
    factor_i = torch.tensor(preparation.factors, dtype=torch.float64)
    voxel_i = torch.tensor([1.0, 1.0, preparation.spacing], dtype=torch.float64)
    step_bij = pose.matrix_bij * preparation.pitch / (voxel_i * factor_i)[:, None]
    centre_i = (torch.tensor(shape_xyz, dtype=torch.float64) - 1) / 2
    centre_bi = centre_i + pose.displacement_bi * (preparation.pitch * size / 2) / voxel_i
    middle_bi = (centre_bi - (factor_i - 1) / 2) / factor_i
    return step_bij, middle_bi - step_bij.sum(2) * (size - 1) / 2


def sample(prepared: PreparedChunks, preparation: Preparation, pose: Pose, size: int) -> Sampled:
    """Resample a prepared batch in a pose, shared by the batch or one for each synapse.

    Args:
        prepared: The batch.
        preparation: What prepared it.
        pose: Where the output cubes lie.
        size: Side of the output cube in voxels.

    Returns:
        Tensors (batch, size, size, size), distances (batch, 3, size, size, size).
    """
    step_bij, origin_bi = place(pose, preparation, size, prepared.shape_xyz)
    n_sections, factor_z = prepared.shape_xyz[2], preparation.factors[2]
    if prepared.volume_bxyzc.device.type == "cpu":
        return _sample_compiled(prepared.volume_bxyzc, step_bij, origin_bi, size, n_sections, factor_z)
    return sample_by_grid(prepared.volume_bxyzc, step_bij, origin_bi, size, n_sections, factor_z)


def sample_by_grid(
    volume_bxyzc: Tensor, step_bij: Tensor, origin_bi: Tensor, size: int, n_sections: int, factor_z: float
) -> Sampled:
    """``sample`` by torch's ``grid_sample``, for any device."""
    batch, *shape, _ = volume_bxyzc.shape
    device = volume_bxyzc.device
    # A position is origin + step @ (i, j, k): three outer sums, without a matrix product for every voxel.
    line = torch.arange(size, dtype=torch.float32, device=device)
    step, origin = (each.to(device, torch.float32, non_blocking=True) for each in (step_bij, origin_bi))
    i, j, k = (line[None, :, None] * step[:, None, :, axis] for axis in range(AXES))
    position_bxyzi = (origin[:, None] + i)[:, :, None, None] + j[:, None, :, None] + k[:, None, None, :]
    position_bxyzi = position_bxyzi.expand(batch, -1, -1, -1, -1)
    extent_i = torch.tensor(shape, dtype=torch.float32).to(device, non_blocking=True)
    # grid_sample counts from -1 to 1 between the outer faces of the volume, last axis first.
    grid = ((2 * position_bxyzi + 1) / extent_i - 1).flip(-1)
    volume_bcxyz = volume_bxyzc.permute(0, 4, 1, 2, 3).float()
    carried = F.grid_sample(volume_bcxyz[:, :2], grid, align_corners=False) / LEVELS
    distance = F.grid_sample(volume_bcxyz[:, 2:], grid, align_corners=False, padding_mode="border")
    # Zeros or the border value stand in for voxels outside, but positions outside of all voxels carry nothing.
    beyond = ((position_bxyzi < -0.5) | (position_bxyzi > extent_i - 0.5)).any(-1)
    carried = torch.where(beyond[:, None], 0.0, carried)
    distance = torch.where(beyond[:, None], LEVELS, (distance + 0.5).floor()).to(torch.uint8)
    section = ((position_bxyzi[..., 2] + 0.5) * factor_z).floor().clamp(0, n_sections - 1).to(torch.int32)
    return Sampled(carried[:, 0], carried[:, 1], distance, section)


def _sample_compiled(
    volume_bxyzc: Tensor, step_bij: Tensor, origin_bi: Tensor, size: int, n_sections: int, factor_z: float
) -> Sampled:
    batch = len(volume_bxyzc)
    cube = (batch, size, size, size)
    signal, weight = torch.empty(cube), torch.empty(cube)
    distance = torch.empty(batch, AXES, size, size, size, dtype=torch.uint8)
    section = torch.empty(cube, dtype=torch.int32)
    poses = (each.to(torch.float32).contiguous().numpy() for each in (step_bij, origin_bi))
    outputs = (each.numpy() for each in (signal, weight, distance, section))
    volume = volume_bxyzc.contiguous().numpy()
    in_threads(_sample_planes, batch * size, volume, *poses, n_sections, np.float32(factor_z), *outputs)
    return Sampled(signal, weight, distance, section)


_SCALE = np.float32(1 / LEVELS)
_HALF, _ONE = np.float32(0.5), np.float32(1)


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy", boundscheck=False)
def _sample_planes(
    start: int,
    stop: int,
    volume_bxyzc: Any,
    step_bij: Any,
    origin_bi: Any,
    n_sections: int,
    factor_z: Any,
    signal_bxyz: Any,
    weight_bxyz: Any,
    distance_bcxyz: Any,
    section_bxyz: Any,
) -> None:
    """``sample`` of the planes across x from ``start`` to ``stop``, counted over the batch."""
    size = signal_bxyz.shape[1]
    n_x, n_y, n_z = volume_bxyzc.shape[1:4]
    last_x, last_y, last_z = np.float32(n_x - 1), np.float32(n_y - 1), np.float32(n_z - 1)
    value = np.empty(5, np.float32)
    for plane in range(start, stop):
        b, i = plane // size, plane % size
        # Poses are shared by the batch (one row), or there is one for each sample.
        pose = b if len(step_bij) > 1 else 0
        step, origin = step_bij[pose], origin_bi[b if len(origin_bi) > 1 else 0]
        volume = volume_bxyzc[b]
        for j in range(size):
            # Position of the row's first voxel; along k it moves by the third column of the step matrix.
            x0 = origin[0] + step[0, 0] * np.float32(i) + step[0, 1] * np.float32(j)
            y0 = origin[1] + step[1, 0] * np.float32(i) + step[1, 1] * np.float32(j)
            z0 = origin[2] + step[2, 0] * np.float32(i) + step[2, 1] * np.float32(j)
            for k in range(size):
                x, y, z = (
                    x0 + step[0, 2] * np.float32(k),
                    y0 + step[1, 2] * np.float32(k),
                    z0 + step[2, 2] * np.float32(k),
                )
                section = int(np.floor((z + _HALF) * factor_z))
                section_bxyz[b, i, j, k] = min(max(section, 0), n_sections - 1)
                if (
                    x < -_HALF
                    or y < -_HALF
                    or z < -_HALF
                    or x > last_x + _HALF
                    or y > last_y + _HALF
                    or z > last_z + _HALF
                ):
                    # More than half a voxel outside: no signal, and the largest distance.
                    signal_bxyz[b, i, j, k] = 0.0
                    weight_bxyz[b, i, j, k] = 0.0
                    for c in range(3):
                        distance_bcxyz[b, c, i, j, k] = 255
                    continue
                inside = x >= 0 and y >= 0 and z >= 0 and x < last_x and y < last_y and z < last_z
                # Between a border voxel's centre and its face there is no second neighbour: take the border voxel's
                # value, weighted by the share of the interpolation that falls on it, as grid_sample does with zeros.
                share = _ONE
                if not inside:
                    if x < 0 or x > last_x:
                        share *= _ONE - (-x if x < 0 else x - last_x)
                        x = min(max(x, np.float32(0)), last_x)
                    if y < 0 or y > last_y:
                        share *= _ONE - (-y if y < 0 else y - last_y)
                        y = min(max(y, np.float32(0)), last_y)
                    if z < 0 or z > last_z:
                        share *= _ONE - (-z if z < 0 else z - last_z)
                        z = min(max(z, np.float32(0)), last_z)
                xi, yi, zi = int(x), int(y), int(z)
                fx, fy, fz = x - np.float32(xi), y - np.float32(yi), z - np.float32(zi)
                xj, yj, zj = min(xi + 1, n_x - 1), min(yi + 1, n_y - 1), min(zi + 1, n_z - 1)
                # Weights of the four corner columns along z (index: x, y) and, within a column, of its two voxels.
                w00, w01 = (_ONE - fx) * (_ONE - fy), (_ONE - fx) * fy
                w10, w11 = fx * (_ONE - fy), fx * fy
                gz = _ONE - fz
                a, p, q, r = volume[xi, yi], volume[xi, yj], volume[xj, yi], volume[xj, yj]
                for c in range(5):  # the five channels of a corner lie side by side in memory
                    value[c] = (
                        w00 * (np.float32(a[zi, c]) * gz + np.float32(a[zj, c]) * fz)
                        + w01 * (np.float32(p[zi, c]) * gz + np.float32(p[zj, c]) * fz)
                        + w10 * (np.float32(q[zi, c]) * gz + np.float32(q[zj, c]) * fz)
                        + w11 * (np.float32(r[zi, c]) * gz + np.float32(r[zj, c]) * fz)
                    )
                signal_bxyz[b, i, j, k] = value[0] * share * _SCALE
                weight_bxyz[b, i, j, k] = value[1] * share * _SCALE
                for c in range(3):
                    distance_bcxyz[b, c, i, j, k] = np.uint8(value[2 + c] + _HALF)
