"""The straightforward way to cut chunks: for every synapse, download its box of each volume, as the original did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synapseclr.volumes import PreprocessingConfig


def download(volume: Any, lower_vx: NDArray[np.int64], size_vx: NDArray[np.int64]) -> NDArray[Any]:
    """Download a box from a CloudVolume; what lies outside of it is zero."""
    box_xyz = np.zeros(size_vx, volume.dtype)
    start = np.maximum(lower_vx, np.asarray(volume.bounds.minpt))
    stop = np.minimum(lower_vx + size_vx, np.asarray(volume.bounds.maxpt))
    inside = tuple(slice(int(a), int(b)) for a, b in zip(start - lower_vx, stop - lower_vx, strict=True))
    box_xyz[inside] = volume[tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))][..., 0]
    return box_xyz


def cut_synapse(
    volumes: tuple[Any, Any, Any], centre_vx: NDArray[np.int64], pre: int, post: int, config: PreprocessingConfig
) -> NDArray[np.uint8] | None:
    """Cut one synapse.

    Args:
        volumes: EM, segmentation and clefts, as CloudVolumes at the wanted resolution.
        centre_vx: Its centre.
        pre: Root id of the presynaptic neuron.
        post: Root id of the postsynaptic neuron.
        config: Sizes and limits.

    Returns:
        uint8 (2, x, y, z), or None if no cleft is near.
    """
    size_vx = np.asarray(config.chunk_size_vx)
    lower_vx = centre_vx - size_vx // 2
    intensity_xyz, roots_xyz, clefts_xyz = (download(volume, lower_vx, size_vx) for volume in volumes)
    labelled = np.argwhere(clefts_xyz)
    distance_nm = np.linalg.norm((labelled - size_vx // 2) * np.asarray(config.voxel_size_nm), axis=1)
    if not len(labelled) or distance_nm.min() > config.max_cleft_distance_nm:
        return None
    cleft_id = clefts_xyz[tuple(labelled[distance_nm.argmin()])]
    mask_xyz = np.zeros(size_vx, np.uint8)
    mask_xyz[roots_xyz == post] = 3
    mask_xyz[roots_xyz == pre] = 1
    mask_xyz[clefts_xyz == cleft_id] = 2
    upper_vx = np.minimum(lower_vx + size_vx, np.asarray(volumes[0].bounds.maxpt))
    inside_vx = upper_vx - np.maximum(lower_vx, np.asarray(volumes[0].bounds.minpt))
    in_plane = int(inside_vx[0] * inside_vx[1])
    n_zero = (intensity_xyz == 0).sum(axis=(0, 1)) - (size_vx[0] * size_vx[1] - in_plane)
    intensity_xyz[:, :, n_zero > config.cutout_zero_fraction * in_plane] = 0
    return np.stack([intensity_xyz, mask_xyz])
