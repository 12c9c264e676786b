"""One layer of a volume (EM, segmentation or clefts), read and written through CloudVolume."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.errors import VolumeError

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
    """

    uri: str
    role: str = "volume"

    def at_resolution(self, voxel_size_nm: tuple[float, float, float], cache_mb: int = 0) -> OpenLayer:
        """Open the scale with this voxel size.

        Args:
            voxel_size_nm: Voxel size (x, y, z) in nm.
            cache_mb: Memory for decoded storage blocks.

        Raises:
            VolumeError: If nothing readable lies at the address, or no scale has this voxel size.
        """
        volume = self._open(cache_mb)
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

    def _open(self, cache_mb: int) -> Any:
        from cloudvolume import CloudVolume

        try:
            return CloudVolume(
                self.uri, mip=0, progress=False, fill_missing=False, lru_bytes=cache_mb * 2**20, lru_encoding="raw"
            )
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
        try:
            inside = self.volume[tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))]
        except Exception as error:  # network, decoding and missing blocks all end here, with the box that was wanted
            raise VolumeError(
                f"The {self.layer.role} at {self.layer.uri} cannot be read in voxels {start.tolist()} to "
                f"{stop.tolist()} ({type(error).__name__}: {_first_line(error)})."
            ) from error
        box[tuple(slice(int(a), int(b)) for a, b in zip(start - lower_vx, stop - lower_vx, strict=True))] = inside[
            ..., 0
        ]
        return box


def write_precomputed(
    array_xyz: NDArray[Any],
    uri: str,
    voxel_size_nm: tuple[float, float, float],
    layer_type: str,
    block_size_vx: tuple[int, int, int] = (128, 128, 32),
) -> None:
    """Write an array as a Neuroglancer precomputed volume.

    Args:
        array_xyz: Voxels, shape (x, y, z); uint8 for images, uint32 or uint64 for segmentations.
        uri: Where to, e.g. ``file:///data/em``.
        voxel_size_nm: Voxel size (x, y, z) in nm.
        layer_type: ``image`` or ``segmentation`` (compressed losslessly as compressed_segmentation).
        block_size_vx: Size of a storage block.
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
    volume = CloudVolume(uri, info=info, progress=False, compress="gzip", non_aligned_writes=True)
    volume.commit_info()
    volume[:, :, :] = array_xyz[..., np.newaxis]


def _size(voxel_size_nm: tuple[float, ...]) -> str:
    return " x ".join(f"{v:g}" for v in voxel_size_nm) + " nm"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]
