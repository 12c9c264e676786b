"""Volumes read and written through CloudVolume: Neuroglancer precomputed, and what else it knows."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.errors import SynapseCLRError, VolumeError
from synapseclr.storage.addresses import cloud_secrets, is_local, plain_address
from synapseclr.volumes.layers.layer import OpenLayer, VolumeLayer

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GRAPH_KEYS = {"app", "graph"}  # of the `info` that a chunked graph's server gives


@dataclass(frozen=True)
class PrecomputedLayer(VolumeLayer):
    """A volume that CloudVolume reads: Neuroglancer precomputed, N5, Zarr; its attributes are those of a layer."""

    def _open(self, voxel_size_nm: tuple[float, float, float]) -> OpenPrecomputed:
        try:
            volume = self._open_volume()
            to_nm = _nm_of_n5(self, volume) if self.uri.startswith("n5://") else np.ones(3)
            scales: list[tuple[float, ...]] = [
                tuple(float(v) * nm for v, nm in zip(scale["resolution"], to_nm, strict=True))
                for scale in volume.scales
            ]
            n_channels = int(volume.num_channels)
        except SynapseCLRError:
            raise
        except Exception as error:  # CloudVolume raises many kinds, all of which mean: no volume can be read here
            raise self.failure(error, "cannot be opened", _how_to_open(self)) from error
        if _GRAPH_KEYS & set(volume.info) and not self.agglomerates:
            raise self.agglomerated()
        volume.mip = self.nearest_scale(voxel_size_nm, scales)
        return self._opened(volume, self.chosen_channel(n_channels))

    def _open_volume(self) -> Any:
        from cloudvolume import CloudVolume

        secrets = cloud_secrets(self.uri, self.storage_options)
        return CloudVolume(self.uri, mip=0, progress=False, fill_missing=self.fill_missing, secrets=secrets)

    def _opened(self, volume: Any, channel: int) -> OpenPrecomputed:
        return OpenPrecomputed(self, volume, channel)


def _how_to_open(layer: VolumeLayer) -> str:
    """Advice on an address that cannot be opened, with a space in front."""
    if re.search(r"\.(zip|ozx)(/|$)", layer.uri):
        return (
            " A zipped store is read as OME-Zarr only, `type: synapseclr.datasets.OmeZarrVolumeDataset`, and on this "
            "machine's disk; unpack any other."
        )
    if layer.uri.startswith(("n5://", "zarr://", "zarr2://", "zarr3://")):
        return (
            " CloudVolume reads an N5 with scales s0, s1, ... and `pixelResolution` in attributes.json, and a Zarr "
            "group with `multiscales`; give the path of that group, or convert the volume to Neuroglancer precomputed."
        )
    return (
        " Check the path in the catalog, or run `kedro run --pipeline=simulation` to make a simulated one. An "
        "OME-Zarr volume needs `type: synapseclr.datasets.OmeZarrVolumeDataset`, an N5 needs `n5://` in front of its "
        "address (n5://file:///lab/em.n5)."
    )


def _nm_of_n5(layer: VolumeLayer, volume: Any) -> NDArray[np.float64]:
    """Length in nm of one unit of an N5's resolutions (x, y, z), which CloudVolume takes to be nm."""
    root = volume.meta.attributes["root"]
    units = root.get("units") or (root.get("pixelResolution") or {}).get("unit") or "nm"
    units = [units] * 3 if isinstance(units, str) else list(units)
    return np.array([layer.nm_of_unit(axis, unit) for axis, unit in zip("xyz", units, strict=True)])


@dataclass(frozen=True)
class OpenPrecomputed(OpenLayer):
    """One scale of a volume that CloudVolume reads.

    Attributes:
        layer: Where it lies.
        volume: The CloudVolume, at this scale.
        channel: Which of its channels is read.
    """

    layer: VolumeLayer
    volume: Any
    channel: int = 0

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
        """Digest of ``info``, of the time at which it was written, and of how it is read."""
        description = json.dumps(self.volume.info, sort_keys=True, default=str)
        how = f"channel {self.channel}" * bool(self.channel) + "fill_missing" * self.layer.fill_missing
        return hashlib.sha256(f"{description}{self.volume.mip}{_written_at(self.volume)}{how}".encode()).hexdigest()

    def is_permanent(self, error: VolumeError) -> bool:
        """Tell whether reading again would give the same error: a block is missing."""
        return _is_missing(error.__cause__) or super().is_permanent(error)

    def _advice(self, error: BaseException) -> str:
        if not _is_missing(error):
            return ""
        if (self.layer.layer_type or self.volume.layer_type) == "segmentation":
            return (
                " This storage block does not exist. If blocks of background were left out when the layer was "
                "written, set `fill_missing: true` in its catalog entry: missing blocks are then read as 0."
            )
        return " This storage block does not exist: the image is incomplete here. Copy it anew."

    def _voxels(self, start: NDArray[np.int64], stop: NDArray[np.int64]) -> NDArray[Any]:
        box = self.volume[tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))]
        return np.asarray(box)[..., self.channel]

    def _object(self, start: NDArray[np.int64], stop: NDArray[np.int64]) -> str:
        key = getattr(self.volume, "key", None)
        if key is None or (stop - start > self.block_size_vx).any() or "sharding" in self.volume.scale:
            return ""
        return f", object {key}/" + "_".join(f"{a}-{b}" for a, b in zip(start, stop, strict=True))


def _is_missing(error: BaseException | None) -> bool:
    """Tell whether a storage block does not exist."""
    from cloudvolume.exceptions import EmptyVolumeException

    return isinstance(error, EmptyVolumeException)


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
    """Time at which the volume's ``info`` was written, by file system or object store; empty where neither says."""
    from cloudfiles import CloudFiles

    address = "://".join(str(volume.cloudpath).split("://")[-2:])  # without the format
    if is_local(address):
        info = Path(plain_address(address), "info")
        return str(info.stat().st_mtime_ns) if info.exists() else ""
    try:
        head = CloudFiles(address, secrets=volume.config.secrets).head("info") or {}
    except Exception:  # what an object store says of its objects is a help, not a need
        return ""
    fields = {str(name).lower(): str(value) for name, value in dict(head).items()}
    return "".join(fields.get(name, "") for name in ("etag", "last-modified", "content-md5"))
