"""Preparation: decoding, component filter and distance maps of a synapse, made once for all of its views.

A chunk becomes one uint8 volume of five channels on a grid at the pitch that views need: intensity and the weight of
the voxels that carry a signal, and signed distances to the surfaces of the presynaptic side, the cleft and the
postsynaptic side. A view is then one trilinear resampling of these channels: masks and their inflation by a ball of any
radius are thresholds on the sampled distances, and stray components are gone already.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import njit
from torch import Tensor

from synapseclr.augmentation.config import AugmentationConfig
from synapseclr.augmentation.masks import CLEFT, POST, PRE, neurite_sides, with_fallback
from synapseclr.augmentation.threads import in_threads

N_CHANNELS = 5
SIGNAL, WEIGHT, FIRST_DISTANCE = 0, 1, 2
LEVELS = 255
PRE_CODE, CLEFT_CODE, POST_CODE = 1, 2, 3
LEAST_REACH = 4  # output voxels: training and extraction of small images share one preparation


class PreparedChunks(NamedTuple):
    """A batch of synapses, ready to be resampled.

    Attributes:
        volume_bxyzc: uint8, shape (batch, x, y, z, 5): intensity times weight, weight, and distance codes to the
            presynaptic side, the cleft and the postsynaptic side (``Preparation.distance_code``).
        shape_xyz: Shape of the chunks that they were made from.
    """

    volume_bxyzc: Tensor
    shape_xyz: tuple[int, int, int]

    def to(self, device: torch.device) -> PreparedChunks:
        """The same on another device."""
        return PreparedChunks(self.volume_bxyzc.to(device, non_blocking=True), self.shape_xyz)

    def halves(self) -> tuple[PreparedChunks, PreparedChunks]:
        """The first and the second half of the batch."""
        first, second = self.volume_bxyzc.chunk(2)
        return PreparedChunks(first, self.shape_xyz), PreparedChunks(second, self.shape_xyz)


@dataclass(frozen=True)
class Preparation:
    """Preparation of chunks; equal for all configurations that can share its result.

    Lengths are in output voxels, the pitch of the views.

    Attributes:
        pitch: Length of an output voxel in input voxels along x.
        spacing: Length of an input voxel along z over its length along x.
        norm_scale: The grey level that becomes intensity 1.
        connectivity: Of the component filter; 0 for none.
        reach: The largest distance outside of a surface that has a code of its own.
    """

    pitch: float
    spacing: float
    norm_scale: float
    connectivity: int
    reach: float

    @classmethod
    def of(cls, config: AugmentationConfig) -> Preparation:
        """The preparation that a configuration's views need."""
        radius = max(config.active_zone_inflation_radii) if config.enable_active_zone else 0
        return cls(
            pitch=config.final_crop_size / config.final_img_size,
            spacing=config.axial_to_sagittal_spacing,
            norm_scale=config.norm_scale,
            connectivity=config.connectivity if config.enable_active_zone else 0,
            reach=max(LEAST_REACH, radius + 1),
        )

    @property
    def boxes(self) -> tuple[int, int, int]:
        """Input voxels along x, y, z in a box, which is pooled first; at least one."""
        sagittal = max(1, int(self.pitch + 1e-6))
        return sagittal, sagittal, max(1, int(self.pitch / self.spacing + 1e-6))

    @property
    def factors(self) -> tuple[float, float, float]:
        """Input voxels along x, y, z in a prepared voxel: the pitch of the views where that is coarser, else 1."""
        sagittal = max(1.0, self.pitch)
        return sagittal, sagittal, max(1.0, self.pitch / self.spacing)

    @property
    def pooled_steps(self) -> tuple[float, float, float]:
        """Output voxels along x, y, z between two voxels after the pooling by whole boxes."""
        x, y, z = self.boxes
        return x / self.pitch, y / self.pitch, z * self.spacing / self.pitch

    @property
    def depth(self) -> float:
        """The largest distance inside of a surface that has a code: half of the longest step between voxels."""
        return max(self.pooled_steps) / 2

    @property
    def quantum(self) -> float:
        """Distance between two neighbouring codes."""
        return (self.reach + max(self.pooled_steps) + self.depth) / LEVELS

    def distance_code(self, distance: float | Tensor) -> float | Tensor:
        """The code of a signed distance (negative inside): 0 at ``-depth``, then one per ``quantum``, up to 255."""
        return (distance + self.depth) / self.quantum

    def prepared_shape(self, shape_xyz: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the prepared volume of a chunk."""
        pooled = (-(-length // box) for length, box in zip(shape_xyz, self.boxes, strict=True))
        rests = (factor / box for factor, box in zip(self.factors, self.boxes, strict=True))
        return tuple(_n_averages(length, rest) for length, rest in zip(pooled, rests, strict=True))

    def __call__(self, chunk_bcxyz: Tensor) -> PreparedChunks:
        """Prepare uint8 chunks (batch, 2, x, y, z); the work is done on the CPU, the result is where the chunks are."""
        chunk = chunk_bcxyz.cpu()
        x, y, z = chunk.shape[2:]
        signal, weight, mask = _pool(chunk, self.boxes, self.norm_scale)
        pre, post = neurite_sides(mask, self.connectivity)
        pre, post = with_fallback(pre, mask, (PRE, CLEFT)), with_fallback(post, mask, (POST, CLEFT))
        sides = torch.stack([pre, mask[:, CLEFT], post], dim=1)
        distance = signed_distance(sides, self.pooled_steps, self.reach + max(self.pooled_steps), self.depth)
        carried = torch.stack([signal, weight], dim=1)
        for axis, (factor, box) in enumerate(zip(self.factors, self.boxes, strict=True)):
            carried = _average(carried, axis + 2, factor / box, normalised=False)
            distance = _average(distance, axis + 2, factor / box, normalised=True)
        code = torch.cat([carried * LEVELS, self.distance_code(distance)], dim=1)  # type: ignore[list-item]
        volume = code.round_().clamp_(0, LEVELS).to(torch.uint8).permute(0, 2, 3, 4, 1).contiguous()
        return PreparedChunks(volume.to(chunk_bcxyz.device), (x, y, z))


def _boxes(volume_bxyz: Tensor, boxes: tuple[int, int, int]) -> list[Tensor]:
    """Strided views, one for each place in a box; sizes that boxes do not divide are padded with zeros (no signal)."""
    pad = [-length % box for length, box in zip(volume_bxyz.shape[1:], boxes, strict=True)]
    if any(pad):
        volume_bxyz = torch.nn.functional.pad(volume_bxyz, (0, pad[2], 0, pad[1], 0, pad[0]))
    x, y, z = boxes
    return [volume_bxyz[:, i::x, j::y, k::z] for i in range(x) for j in range(y) for k in range(z)]


def _total(parts: list[Tensor]) -> Tensor:
    """Sum over the voxels of every box."""
    total = parts[0].to(torch.int32)
    for part in parts[1:]:
        total += part
    return total


def _pool(chunk_bcxyz: Tensor, boxes: tuple[int, int, int], norm_scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Decode and average over boxes; a voxel of value 0 carries no signal.

    Mask codes are pooled by priority: cleft if any voxel is cleft (a thin cleft survives), else presynaptic, else
    postsynaptic where they fill half the box.

    Returns:
        Intensity times weight and weight, in [0, 1], (batch, x, y, z); masks (pre, cleft, post), (batch, 3, x, y, z).
    """
    intensity, code = chunk_bcxyz.unbind(1)
    n_box = boxes[0] * boxes[1] * boxes[2]
    # Integer sums are exact, whatever their order.
    weight = _total(_boxes((intensity > 0).to(torch.uint8), boxes)).float() / n_box
    signal = _total(_boxes(intensity, boxes)).float() / (n_box * norm_scale)
    counts = [_total(_boxes((code == value).to(torch.uint8), boxes)) for value in (PRE_CODE, CLEFT_CODE, POST_CODE)]
    cleft = counts[CLEFT] > 0
    pre = (counts[PRE] >= (n_box + 1) // 2) & ~cleft
    post = (counts[POST] >= (n_box + 1) // 2) & ~cleft & ~pre
    return torch.minimum(signal, weight), weight, torch.stack([pre, cleft, post], dim=1)


def _n_averages(length: int, factor: float) -> int:
    return length if factor < 1 + 1e-6 else int(np.ceil(length / factor - 1e-6))


def _average(volume_bcxyz: Tensor, axis: int, factor: float, normalised: bool) -> Tensor:
    """Average along an axis over intervals of ``factor`` voxels, 1 to 2; a voxel between two intervals is shared out.

    Args:
        volume_bcxyz: Any volumes.
        axis: The axis.
        factor: Length of an interval; 1 leaves the volume as it is.
        normalised: The last interval may reach beyond the volume: average over the part inside, or else count the
            part outside as 0.
    """
    length = volume_bcxyz.shape[axis]
    n_averages = _n_averages(length, factor)
    if n_averages == length and factor < 1 + 1e-6:
        return volume_bcxyz
    start_n1 = torch.arange(n_averages, dtype=torch.float64)[:, None] * factor
    voxel_m = torch.arange(length, dtype=torch.float64)
    # Each interval is a weighted sum of voxels, by the length that they have in common: one matrix product.
    overlap_nm = (torch.minimum(start_n1 + factor, voxel_m + 1) - torch.maximum(start_n1, voxel_m)).clamp(min=0)
    weight_nm = overlap_nm / (overlap_nm.sum(1, keepdim=True) if normalised else factor)
    before, after = volume_bcxyz.shape[:axis], volume_bcxyz.shape[axis + 1 :]
    averaged = weight_nm.float() @ volume_bcxyz.reshape(-1, length, after.numel())
    return averaged.view(*before, n_averages, *after)


def signed_distance(mask_bcxyz: Tensor, step_i: tuple[float, float, float], outside: float, inside: float) -> Tensor:
    """Signed Euclidean distance of voxel centres to the surface of masks, exact for the boxes that voxels are.

    The distance to a set of boxes separates into one-dimensional passes like that to a set of points: along an axis,
    a box at k steps is ``max(k - 1/2, 0)`` steps away. Interpolated between a voxel inside and its neighbour outside,
    the distance is 0 on the face between them, also where voxels are longer along one axis. The corners of boxes reach
    out of an oblique surface: outside of it, distances are up to half a voxel too short.

    Args:
        mask_bcxyz: Boolean masks, (batch, channels, x, y, z).
        step_i: Length of a voxel along x, y, z.
        outside: Distances outside are limited to this.
        inside: Distances inside are limited to this.

    Returns:
        float32, same shape, negative inside; ``outside`` everywhere in an empty mask.

    Source: Felzenszwalb & Huttenlocher 2012, doi:10.4086/toc.2012.v008a019 (separability of the squared distance).
    """
    mask_nxyz = mask_bcxyz.flatten(0, 1).contiguous().numpy()
    signed_nxyz = np.empty(mask_nxyz.shape, np.float32)
    costs_out, costs_in = (tuple(_costs(step, limit) for step in step_i) for limit in (outside, inside))
    in_threads(_signed_distances, len(mask_nxyz), mask_nxyz, costs_out, costs_in, outside, inside, signed_nxyz)
    return torch.from_numpy(signed_nxyz).view(mask_bcxyz.shape)


def _costs(step: float, limit: float) -> np.ndarray:
    """Squared distances along an axis to the boxes at 0, 1, 2, ... steps, up to the limit."""
    n_steps = int(limit / step + 0.5)
    return ((np.maximum(np.arange(n_steps + 1) - 0.5, 0.0) * step) ** 2).astype(np.float32)


@njit(nogil=True, cache=True, fastmath=True)
def _signed_distances(
    start: int,
    stop: int,
    mask_nxyz: Any,
    costs_out: Any,
    costs_in: Any,
    outside: float,
    inside: float,
    signed_nxyz: Any,
) -> None:
    """``signed_distance`` of the masks from ``start`` to ``stop``."""
    n_x, n_y, n_z = mask_nxyz.shape[1:]
    square, nearest = np.empty((n_x, n_y * n_z), np.float32), np.empty((n_x, n_y * n_z), np.float32)
    for n in range(start, stop):
        # Planes across x as rows: a pass along z shifts by 1, along y by n_z, along x by n_y * n_z elements.
        mask, signed = mask_nxyz[n].reshape(n_x, n_y * n_z), signed_nxyz[n].reshape(n_x, n_y * n_z)
        for side in range(2):  # 0: distances of voxels outside to the mask; 1: of voxels inside to its complement
            limit, costs = (outside, costs_out) if side == 0 else (inside, costs_in)
            far = np.float32(limit * limit)
            for x in range(n_x):
                for yz in range(n_y * n_z):
                    square[x, yz] = np.float32(0) if mask[x, yz] == (side == 0) else far
            # z first and row by row, so that a shift does not cross from one row into the next; then y within a plane,
            # where a shift by whole rows cannot; then x over all planes. Inner loops run along memory.
            for x in range(n_x):
                nearest[x] = square[x]
                for y in range(n_y):
                    row = slice(y * n_z, (y + 1) * n_z)
                    _spread_cost(square[x, row], nearest[x, row], 1, costs[2])
                square[x] = nearest[x]
                _spread_cost(nearest[x], square[x], n_z, costs[1])
            for x in range(n_x):
                nearest[x] = square[x]
            _spread_cost(square.reshape(-1), nearest.reshape(-1), n_y * n_z, costs[0])
            for x in range(n_x):
                for yz in range(n_y * n_z):
                    if mask[x, yz] == (side == 1):
                        distance = np.float32(np.sqrt(nearest[x, yz]))
                        signed[x, yz] = distance if side == 0 else -distance


@njit(nogil=True, cache=True, fastmath=True)  # fastmath: comparisons become vector instructions
def _spread_cost(square_v: Any, nearest_v: Any, stride: int, cost_k: Any) -> None:
    """One pass along an axis: lower ``nearest`` to ``square`` k strides away, on both sides, plus the cost of k."""
    for k in range(1, len(cost_k)):
        cost, shift = cost_k[k], k * stride
        for v in range(len(square_v) - shift):
            candidate, best = square_v[v + shift] + cost, nearest_v[v]
            nearest_v[v] = candidate if candidate < best else best
        for v in range(len(square_v) - shift):
            candidate, best = square_v[v] + cost, nearest_v[v + shift]
            nearest_v[v + shift] = candidate if candidate < best else best
