"""One layer of a volume (EM, segmentation or clefts), read and written through CloudVolume."""

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
from synapseclr.volumes.cloud_secrets import cloud_secrets

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class VolumeArray:
    """Voxels in memory, on their way to storage: shape (x, y, z), with the voxel size in nm."""

    array_xyz: NDArray[Any]
    voxel_size_nm: tuple[float, float, float]


@dataclass(frozen=True)
class VolumeLayer:
    """A handle on a volume: where it lies and how it is opened. Cheap to make, to copy and to send to a worker.

    Attributes:
        uri: A CloudVolume path: ``file://``, ``gs://``, ``s3://``, ``https://``, optionally with its format in front
            (``precomputed://``, ``zarr://``, ...).
        role: What it holds, for error messages: "EM volume", "segmentation volume", ...
        storage_options: Credentials for a bucket, as fsspec takes them: see :func:`cloud_secrets`.
    """

    uri: str
    role: str = "volume"
    storage_options: Mapping[str, Any] | None = None

    @property
    def is_local(self) -> bool:
        """Whether it lies on a file system of this machine."""
        return "://" not in self.uri or self.uri.split("://")[-2].endswith("file")

    def at_resolution(self, voxel_size_nm: tuple[float, float, float]) -> OpenLayer:
        """Open the scale with this voxel size.

        Args:
            voxel_size_nm: Voxel size (x, y, z) in nm.

        Raises:
            VolumeError: If nothing readable lies at the address, or no scale has this voxel size.
        """
        volume = self._open()
        scales = [tuple(float(v) for v in scale["resolution"]) for scale in volume.scales]
        wanted = tuple(float(v) for v in voxel_size_nm)
        if wanted not in scales:
            raise VolumeError(
                f"The {self.role} at {self.uri} has no scale of {_size(wanted)}; it has "
                f"{', '.join(map(_size, scales))}. "
                "Set preprocessing.voxel_size_nm to one of these."
            )
        volume.mip = scales.index(wanted)
        return OpenLayer(self, volume)

    def _open(self) -> Any:
        from cloudvolume import CloudVolume

        try:
            secrets = cloud_secrets(self.uri, self.storage_options)
            return CloudVolume(self.uri, mip=0, progress=False, fill_missing=False, secrets=secrets)
        except (
            Exception
        ) as error:  # CloudVolume raises many kinds, all of which mean: there is no volume to be read here
            raise VolumeError(
                f"No {self.role} can be opened at {self.uri} ({type(error).__name__}: {_first_line(error)}). "
                "Check the path in the catalog, or run `kedro run --pipeline=simulation` to make a simulated one."
            ) from error


@dataclass(frozen=True)
class OpenLayer:
    """One scale of a layer, ready to be read."""

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

    def identity(self) -> str:
        """Tells this volume from another, and from one written to the same place at another time.

        It is the digest of the volume's description, with the time at which that was written where this can be known.
        """
        description = json.dumps(self.volume.info, sort_keys=True, default=str)
        return hashlib.sha256(f"{description}{self.volume.mip}{_written_at(self.volume)}".encode()).hexdigest()

    def is_permanent(self, error: VolumeError) -> bool:
        """Whether reading again would give the same error: a block is missing, or access is refused."""
        from cloudvolume.exceptions import AuthenticationError, EmptyVolumeException

        cause = error.__cause__
        status = getattr(cause, "code", None) or getattr(getattr(cause, "response", None), "status_code", None)
        kinds = (EmptyVolumeException, AuthenticationError, FileNotFoundError, PermissionError)
        return isinstance(cause, kinds) or status in (401, 403, 404)

    @property
    def block_size_vx(self) -> NDArray[np.int64]:
        """Size of a storage block (x, y, z)."""
        return np.asarray(self.volume.chunk_size, dtype=np.int64)

    def read(self, lower_vx: NDArray[np.int64], size_vx: NDArray[np.int64]) -> NDArray[Any]:
        """Read a box; what lies outside of the volume is zero.

        Args:
            lower_vx: First voxel (x, y, z); may be outside.
            size_vx: Extent in voxels.

        Returns:
            Array of shape ``size_vx`` in the volume's dtype.

        Raises:
            VolumeError: If a storage block is missing or damaged.
        """
        box = np.zeros(size_vx, dtype=self.volume.dtype)
        start = np.maximum(lower_vx, self.lower_vx)
        stop = np.minimum(lower_vx + size_vx, self.upper_vx)
        if (stop <= start).any():
            return box
        inside = tuple(slice(int(a), int(b)) for a, b in zip(start - lower_vx, stop - lower_vx, strict=True))
        box[inside] = self.download(start, stop)
        return box

    def download(self, start: NDArray[np.int64], stop: NDArray[np.int64]) -> NDArray[Any]:
        """Read a box that lies inside of the volume, in whatever memory order it comes.

        Raises:
            VolumeError: If a storage block is missing or damaged; names volume and block.
        """
        try:
            box = self.volume[tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))]
        except Exception as error:  # network, decoding and missing blocks all end here, with the box that was wanted
            raise VolumeError(
                f"The {self.layer.role} at {self.layer.uri} cannot be read in voxels {start.tolist()} to "
                f"{stop.tolist()}{self._object(start, stop)} ({type(error).__name__}: {_first_line(error)})."
            ) from error
        return np.asarray(box)[..., 0]

    def _object(self, start: NDArray[np.int64], stop: NDArray[np.int64]) -> str:
        """Name of the object that holds a box, if it is a block of an unsharded precomputed volume."""
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
    volume.commit_info()
    volume[:, :, :] = array_xyz[..., np.newaxis]


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


def _size(voxel_size_nm: tuple[float, ...]) -> str:
    return " x ".join(f"{v:g}" for v in voxel_size_nm) + " nm"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]
