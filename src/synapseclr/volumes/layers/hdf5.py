"""Volumes in HDF5 files, laid out as CREMI publishes them (https://cremi.org/data)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.errors import VolumeError
from synapseclr.storage.addresses import open_filesystem
from synapseclr.volumes.layers.layer import OpenLayer, VolumeLayer

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX_ID = 0xFFFFFFFFFFFFFFFC
"""The ids above it are none: transparent, invalid, outside (BigCat, with which CREMI was annotated)."""
_BLOCK_VX = (128, 128, 32)  # of an array that is stored in one piece


@dataclass(frozen=True)
class Hdf5Layer(VolumeLayer):
    """An array (z, y, x) of an HDF5 file, with the attributes ``resolution`` and ``offset`` (z, y, x) in nm.

    Attributes:
        array: Path of the array in the file.
    """

    array: str = "volumes/raw"

    def _open(self, voxel_size_nm: tuple[float, float, float]) -> OpenHdf5:
        import h5py

        try:
            filesystem, path = open_filesystem(self.uri, self.storage_options)
            written = {name: str(value) for name, value in filesystem.info(path).items() if name in _WRITTEN}
            # the file stays open as long as the array
            file = h5py.File(path if self.is_local else filesystem.open(path, "rb"), "r")
        except Exception as error:  # of the file system and of h5py, of many kinds
            advice = " Expected an HDF5 file, as https://cremi.org/data has them. Check the path in the catalog."
            raise self.failure(error, "cannot be opened", advice) from error
        found = file.get(self.array)
        if not isinstance(found, h5py.Dataset) or found.ndim != 3 or "resolution" not in found.attrs:
            raise VolumeError(
                f"The {self.role} at {self.uri} has no array {self.array} of three dimensions (z, y, x) with the "
                f"attribute `resolution` (z, y, x) in nm; the file holds {', '.join(file) or 'nothing'}. Name the "
                "array as `array:` of its catalog entry."
            )
        self.nearest_scale(voxel_size_nm, [tuple(np.asarray(found.attrs["resolution"], float)[::-1])])
        return OpenHdf5(self, found, json.dumps(written, sort_keys=True))


_WRITTEN = ("size", "mtime", "etag", "ETag", "updated")


@dataclass(frozen=True)
class OpenHdf5(OpenLayer):
    """An array of an HDF5 file.

    Attributes:
        layer: Where it lies.
        array_zyx: The array.
        written: Size and time of the file, as its file system tells them.
    """

    layer: VolumeLayer
    array_zyx: Any
    written: str

    @cached_property
    def lower_vx(self) -> NDArray[np.int64]:
        """First voxel of the volume (x, y, z), of its offset in whole voxels."""
        attributes = self.array_zyx.attrs
        offset_zyx = np.asarray(attributes.get("offset", (0.0,) * 3), float)
        return np.round(offset_zyx / np.asarray(attributes["resolution"], float))[::-1].astype(np.int64)

    @cached_property
    def upper_vx(self) -> NDArray[np.int64]:
        """One past the last voxel of the volume (x, y, z)."""
        return self.lower_vx + np.asarray(self.array_zyx.shape[::-1], np.int64)

    @property
    def origin_nm(self) -> NDArray[np.float64]:
        """Lower edge of voxel 0 (x, y, z) in nm: the part of the offset that is no whole voxel."""
        size_nm = np.asarray(self.array_zyx.attrs["resolution"], float)[::-1]
        offset_nm = np.asarray(self.array_zyx.attrs.get("offset", (0.0,) * 3), float)[::-1]
        return np.asarray(offset_nm - self.lower_vx * size_nm)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a voxel."""
        return np.dtype(self.array_zyx.dtype)

    @property
    def codec(self) -> str:
        """Compression of the array."""
        return str(self.array_zyx.compression or "raw")

    @property
    def block_size_vx(self) -> NDArray[np.int64]:
        """Size of a storage block (x, y, z)."""
        return np.asarray(self.array_zyx.chunks[::-1] if self.array_zyx.chunks else _BLOCK_VX, np.int64)

    def identity(self) -> str:
        """Digest of the array's description and of the time at which the file was written."""
        attributes = {name: np.asarray(value).tolist() for name, value in self.array_zyx.attrs.items()}
        described = [self.array_zyx.name, self.array_zyx.shape, str(self.dtype), attributes, self.written]
        return hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()

    def _voxels(self, start: NDArray[np.int64], stop: NDArray[np.int64]) -> NDArray[Any]:
        box = zip((start - self.lower_vx)[::-1].tolist(), (stop - self.lower_vx)[::-1].tolist(), strict=True)
        voxel_zyx = self.array_zyx[tuple(slice(a, b) for a, b in box)]
        if self.dtype == np.uint64:
            voxel_zyx[voxel_zyx > _MAX_ID] = 0
        return np.asarray(voxel_zyx).T
