"""Volumes read and written through CloudVolume: Neuroglancer precomputed, and what else it knows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.errors import VolumeError
from synapseclr.volumes.layers.cloud_secrets import cloud_secrets
from synapseclr.volumes.layers.layer import OpenLayer, VolumeLayer

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GRAPH_KEYS = {"app", "graph"}  # of the `info` that a chunked graph's server gives


def open_precomputed(layer: VolumeLayer, voxel_size_nm: tuple[float, float, float]) -> OpenPrecomputed:
    """Open the scale with this voxel size.

    Raises:
        VolumeError: If nothing readable lies at the address, or no scale has this voxel size.
        UnreachableError: If the store does not answer, or refuses access.
    """
    from cloudvolume import CloudVolume

    try:
        secrets = cloud_secrets(layer.uri, layer.storage_options)
        volume = CloudVolume(layer.uri, mip=0, progress=False, fill_missing=False, secrets=secrets)
    except Exception as error:  # CloudVolume raises many kinds, all of which mean: there is no volume to be read here
        advice = (
            " Check the path in the catalog, or run `kedro run --pipeline=simulation` to make a simulated one. An "
            "OME-Zarr volume needs `type: synapseclr.datasets.OmeZarrVolumeDataset`."
        )
        raise layer.failure(error, "cannot be opened", advice) from error
    if _GRAPH_KEYS & set(volume.info):
        raise layer.agglomerated()
    scales: list[tuple[float, ...]] = [tuple(float(v) for v in scale["resolution"]) for scale in volume.scales]
    wanted = tuple(float(v) for v in voxel_size_nm)
    if wanted not in scales:
        raise layer.no_scale(wanted, scales)
    volume.mip = scales.index(wanted)
    return OpenPrecomputed(layer, volume)


@dataclass(frozen=True)
class OpenPrecomputed(OpenLayer):
    """One scale of a volume that CloudVolume reads."""

    layer: VolumeLayer
    volume: Any

    @cached_property
    def lower_vx(self) -> NDArray[np.int64]:
        """First voxel of the volume (x, y, z)."""
        return np.asarray(self.volume.bounds.minpt, dtype=np.int64)

    @cached_property
    def upper_vx(self) -> NDArray[np.int64]:
        """One past the last voxel of the volume (x, y, z)."""
        return np.asarray(self.volume.bounds.maxpt, dtype=np.int64)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a voxel."""
        return np.dtype(self.volume.dtype)

    @property
    def codec(self) -> str:
        """Encoding that ``info`` names for this scale."""
        return str(self.volume.scale.get("encoding", "unknown"))

    @property
    def block_size_vx(self) -> NDArray[np.int64]:
        """Size of a storage block (x, y, z)."""
        return np.asarray(self.volume.chunk_size, dtype=np.int64)

    def identity(self) -> str:
        """Digest of ``info``, and of the time at which it was written."""
        description = json.dumps(self.volume.info, sort_keys=True, default=str)
        return hashlib.sha256(f"{description}{self.volume.mip}{_written_at(self.volume)}".encode()).hexdigest()

    def is_permanent(self, error: VolumeError) -> bool:
        """Whether reading again would give the same error: a block is missing."""
        from cloudvolume.exceptions import EmptyVolumeException

        return isinstance(error.__cause__, EmptyVolumeException) or super().is_permanent(error)

    def _voxels(self, start: NDArray[np.int64], stop: NDArray[np.int64]) -> NDArray[Any]:
        box = self.volume[tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))]
        return np.asarray(box)[..., 0]

    def _object(self, start: NDArray[np.int64], stop: NDArray[np.int64]) -> str:
        key = getattr(self.volume, "key", None)
        if key is None or (stop - start > self.block_size_vx).any() or "sharding" in self.volume.scale:
            return ""
        return f", object {key}/" + "_".join(f"{a}-{b}" for a, b in zip(start, stop, strict=True))


def write_precomputed(
    array_xyz: NDArray[Any],
    uri: str,
    voxel_size_nm: tuple[float, float, float],
    layer_type: str,
    block_size_vx: tuple[int, int, int] = (128, 128, 32),
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Write an array as a Neuroglancer precomputed volume.

    Args:
        array_xyz: Voxels, shape (x, y, z); uint8 for images, uint32 or uint64 for segmentations.
        uri: Where to, e.g. ``file:///data/em``.
        voxel_size_nm: Voxel size (x, y, z) in nm.
        layer_type: ``image`` or ``segmentation`` (compressed losslessly as compressed_segmentation).
        block_size_vx: Size of a storage block.
        storage_options: Credentials for a bucket, as fsspec takes them.
    """
    from cloudfiles import CloudFiles
    from cloudvolume import CloudVolume

    info = CloudVolume.create_new_info(
        num_channels=1,
        layer_type=layer_type,
        data_type=str(array_xyz.dtype),
        encoding="compressed_segmentation" if layer_type == "segmentation" else "raw",
        resolution=[int(v) if float(v).is_integer() else float(v) for v in voxel_size_nm],
        voxel_offset=[0, 0, 0],
        volume_size=list(array_xyz.shape),
        chunk_size=list(block_size_vx),
    )
    secrets = cloud_secrets(uri, storage_options)
    volume = CloudVolume(uri, info=info, progress=False, compress="gzip", non_aligned_writes=True, secrets=secrets)
    CloudFiles(uri, secrets=secrets).delete("info")  # what an interruption leaves is no volume
    volume[:, :, :] = array_xyz[..., np.newaxis]
    volume.commit_info()


def _written_at(volume: Any) -> str:
    """When the volume's ``info`` was written, by file system or object store; empty where neither says."""
    from cloudfiles import CloudFiles

    address = "://".join(str(volume.cloudpath).split("://")[-2:])  # without the format
    if address.startswith("file://"):
        info = Path(address.removeprefix("file://"), "info")
        return str(info.stat().st_mtime_ns) if info.exists() else ""
    try:
        head = CloudFiles(address, secrets=volume.config.secrets).head("info") or {}
    except Exception:  # what an object store says of its objects is a help, not a need
        return ""
    fields = {str(name).lower(): str(value) for name, value in dict(head).items()}
    return "".join(fields.get(name, "") for name in ("etag", "last-modified", "content-md5"))
