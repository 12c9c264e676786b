"""Loops over voxels, compiled; each works on a range of rows, lets other threads run, and starts none itself."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numba import njit

from synapseclr.augmentation.compiled.lanes import LANES, N_CODES, majorities, weighted_sum

PIECES_PER_THREAD = 4  # rows differ in work
TILE = 512  # output voxels that are resampled before they are written, sample by sample: they fit the first cache
# A tally of voxels is one number: 16 bits for the sum of their intensities, then 8 bits for each of these counts.
_SIGNAL, _PRE, _CLEFT, _POST = np.uint64(16), np.uint64(24), np.uint64(32), np.uint64(40)
_TOTAL, _BYTE = np.uint64(0xFFFF), np.uint64(0xFF)
_GREY = np.arange(256, dtype=np.uint64) + np.where(np.arange(256) > 0, np.uint64(1) << _SIGNAL, np.uint64(0))
_CODE = np.zeros(256, dtype=np.uint64)
_CODE[1:4] = np.uint64(1) << np.array([_PRE, _CLEFT, _POST])
_NONE, _ONE = np.float32(0.0), np.float32(1.0)


def in_threads(kernel: Callable[..., Any], n_rows: int, *arguments: Any) -> list[Any]:
    """Call ``kernel(start, stop, *arguments)`` for ranges that make up ``n_rows``, on as many threads as torch uses.

    Threads end with the call: processes can be forked before and after, and torch's own threads are not disturbed.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        return [kernel(0, n_rows, *arguments)]
    bounds = np.linspace(0, n_rows, threads * PIECES_PER_THREAD + 1).astype(int).tolist()
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda ends: kernel(*ends, *arguments), pairwise(bounds)))


@njit(nogil=True, cache=True, error_model="numpy")
def touched_sections(start: int, stop: int, position_pi: Any, size: int, shape_xyz: Any) -> Any:
    """First and last section that trilinear resampling reads in every row of voxels along z.

    Args:
        start: First line of output voxels.
        stop: One past the last.
        position_pi: Positions in voxels, float32.
        size: Output voxels of a line.
        shape_xyz: Shape of the volume.

    Returns:
        int32, shape (x, y, 2); (length of z, -1) where nothing is read.
    """
    nx, ny, nz = shape_xyz
    ends = np.empty((nx, ny, 2), dtype=np.int32)
    ends[:, :, 0] = nz
    ends[:, :, 1] = -1
    for point in range(start * size, stop * size):
        x, y = int(np.floor(position_pi[point, 0])), int(np.floor(position_pi[point, 1]))
        z = int(np.floor(position_pi[point, 2]))
        if z >= -1 and z < nz:
            low, high = max(z, 0), min(z + 1, nz - 1)
            for i in range(max(x, 0), min(x + 2, nx)):
                for j in range(max(y, 0), min(y + 2, ny)):
                    ends[i, j, 0] = min(ends[i, j, 0], low)
                    ends[i, j, 1] = max(ends[i, j, 1], high)
    return ends


@njit(nogil=True, cache=True, error_model="numpy")
def pool_rows(
    start: int,
    stop: int,
    chunk_bcxyz: Any,
    factors: Any,
    ends_xy2: Any,
    first_xy: Any,
    level_of_count: Any,
    tone_nzl: Any,
    weight_zc: Any,
    noise_first_xy: Any,
    additive_vb: Any,
    factor_vb: Any,
    signal_nvkl: Any,
    code_nvl: Any,
) -> None:
    """Pool the voxels that a view reads, map their tones and add noise.

    Args:
        start: First x of the pooled volume.
        stop: One past the last.
        chunk_bcxyz: uint8 chunks, shape (batch, 2, x, y, z).
        factors: Pooling factors.
        ends_xy2: From ``touched_sections``.
        first_xy: Number of the voxel in section 0 of every row, had it been read; voxels read are numbered from 0.
        level_of_count: Where the levels of boxes with so many voxels of signal begin, shape (voxels of a box + 1,).
        tone_nzl: Intensity of every level, float32, shape (batch or 1, sections, levels).
        weight_zc: Weight of boxes with so many voxels of signal, float32, shape (sections, voxels of a box + 1).
        noise_first_xy: As ``first_xy``, for the voxels of the noise.
        additive_vb: What is added to a voxel, shape (voxels, batch), or (0, 0) for no noise.
        factor_vb: What it is multiplied by before.
        signal_nvkl: Written to: weighted intensities, and weights where there are two channels, float32, shape
            (blocks, voxels, 1 or 2, LANES).
        code_nvl: Written to: mask codes, uint8, shape (blocks, voxels, LANES).
    """
    batch, _, nx, ny, nz = chunk_bcxyz.shape
    fx, fy, fz = factors
    half, noisy = (fx * fy * fz + 1) // 2, additive_vb.size > 0
    tally_z = np.empty(nz, dtype=np.uint64)
    for x in range(start, stop):
        for y in range(ends_xy2.shape[1]):
            low, high = ends_xy2[x, y, 0], ends_xy2[x, y, 1] + 1
            for sample in range(batch if low < high else 0):
                begin, end = low * fz, min(high * fz, nz)
                tally_z[begin:end] = 0
                for i in range(x * fx, min(x * fx + fx, nx)):
                    for j in range(y * fy, min(y * fy + fy, ny)):
                        grey_z, code_z = chunk_bcxyz[sample, 0, i, j], chunk_bcxyz[sample, 1, i, j]
                        for z in range(begin, end):
                            tally_z[z] += _GREY[grey_z[z]] + _CODE[code_z[z]]
                block, lane = sample // LANES, sample % LANES
                tone_zl = tone_nzl[sample % tone_nzl.shape[0]]
                for z in range(low, high):
                    tally = np.uint64(0)
                    for k in range(z * fz, min(z * fz + fz, nz)):
                        tally += tally_z[k]
                    seen = (tally >> _SIGNAL) & _BYTE
                    n_pre, n_cleft, n_post = (
                        (tally >> _PRE) & _BYTE,
                        (tally >> _CLEFT) & _BYTE,
                        (tally >> _POST) & _BYTE,
                    )
                    voxel = first_xy[x, y] + z
                    value = tone_zl[z, level_of_count[seen] + np.int64(tally & _TOTAL)]
                    if noisy:
                        noise = noise_first_xy[x, y] + z
                        value = additive_vb[noise, sample] + value * factor_vb[noise, sample]
                        value = min(max(value, _NONE), _ONE)
                    weight = weight_zc[z, seen]
                    signal_nvkl[block, voxel, 0, lane] = value * weight
                    if signal_nvkl.shape[2] == 2:
                        signal_nvkl[block, voxel, 1, lane] = weight
                    code_nvl[block, voxel, lane] = (
                        2 if n_cleft > 0 else 1 if n_pre >= half else 3 if n_post >= half else 0
                    )


@njit(nogil=True, cache=True, error_model="numpy")
def gather_tiles(
    start: int,
    stop: int,
    position_pi: Any,
    shape_xyz: Any,
    first_xy: Any,
    signal_nvkl: Any,
    code_nvl: Any,
    signal_bkp: Any,
    mask_bkp: Any,
) -> None:
    """Trilinear resampling of blocks of samples at positions that they share, zeros outside.

    Corners are added in the order of torch's grid_sample, and weights are in its arithmetic.

    Args:
        start: First tile of output voxels, counted over the blocks.
        stop: One past the last.
        position_pi: Positions in voxels, float32.
        shape_xyz: Shape of the volume.
        first_xy: As in ``pool_rows``.
        signal_nvkl: From ``pool_rows``.
        code_nvl: From ``pool_rows``.
        signal_bkp: Written to: float32, shape (batch, channels, output voxels).
        mask_bkp: Written to: uint8, 1 where the weight of a code is above a half, shape (batch, codes, output voxels).
    """
    batch, channels, n_points = signal_bkp.shape
    n_tiles = -(-n_points // TILE)
    signal_tile = np.empty(channels * LANES * TILE, dtype=np.float32)
    mask_tile = np.empty(N_CODES * LANES * TILE, dtype=np.uint8)
    for tile in range(start, stop):
        block, begin = tile // n_tiles, tile % n_tiles * TILE
        length = min(TILE, n_points - begin)
        signal, code = signal_nvkl[block].reshape(-1), code_nvl[block].reshape(-1)
        for column in range(length):
            rows, weights = _corners(position_pi[begin + column], shape_xyz, first_xy)
            for channel in range(channels):
                placed, first = _channel(rows, channels, channel), channel * LANES * TILE
                weighted_sum(signal, placed, weights, signal_tile, first + column, TILE)  # type: ignore[call-arg]
            majorities(code, rows, weights, mask_tile, column, TILE)  # type: ignore[call-arg]
        for lane in range(min(LANES, batch - block * LANES)):
            sample = block * LANES + lane
            for channel in range(channels):
                row = (channel * LANES + lane) * TILE
                signal_bkp[sample, channel, begin : begin + length] = signal_tile[row : row + length]
            for channel in range(N_CODES):
                row = (channel * LANES + lane) * TILE
                mask_bkp[sample, channel, begin : begin + length] = mask_tile[row : row + length]


@njit(inline="always")
def _channel(rows: Any, channels: int, channel: int) -> Any:
    """Where a channel of these rows lies among the channels of all."""
    a, b, c, d, e, f, g, h = rows
    n, i = channels, channel
    return a * n + i, b * n + i, c * n + i, d * n + i, e * n + i, f * n + i, g * n + i, h * n + i


@njit(inline="always")
def _axis(position: Any, length: int) -> Any:
    """The two voxels about a position, moved into the volume, and their weights, 0 for what was outside."""
    low = np.floor(position)
    cell = int(low)
    low_weight = (low + _ONE) - position if cell >= 0 and cell < length else _NONE
    high_weight = position - low if cell >= -1 and cell < length - 1 else _NONE
    return min(max(cell, 0), length - 1), min(max(cell + 1, 0), length - 1), low_weight, high_weight


@njit(inline="always")
def _corners(position_i: Any, shape_xyz: Any, first_xy: Any) -> Any:
    """Numbers and weights of the eight voxels about a position; number 0 for those of no weight."""
    x0, x1, u0, u1 = _axis(position_i[0], shape_xyz[0])
    y0, y1, v0, v1 = _axis(position_i[1], shape_xyz[1])
    z0, z1, w0, w1 = _axis(position_i[2], shape_xyz[2])
    a, b, c, d = first_xy[x0, y0], first_xy[x0, y1], first_xy[x1, y0], first_xy[x1, y1]
    weights = (
        w0 * v0 * u0,
        w1 * v0 * u0,
        w0 * v1 * u0,
        w1 * v1 * u0,
        w0 * v0 * u1,
        w1 * v0 * u1,
        w0 * v1 * u1,
        w1 * v1 * u1,
    )
    rows = (
        _read(a + z0, weights[0]),
        _read(a + z1, weights[1]),
        _read(b + z0, weights[2]),
        _read(b + z1, weights[3]),
        _read(c + z0, weights[4]),
        _read(c + z1, weights[5]),
        _read(d + z0, weights[6]),
        _read(d + z1, weights[7]),
    )
    return rows, weights


@njit(inline="always")
def _read(row: int, weight: Any) -> Any:
    return row if weight > _NONE else 0
