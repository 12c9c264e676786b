"""OME-Zarr volumes (NGFF 0.4, which is Zarr v2, and 0.5, which is Zarr v3), read through zarr-python.

Only what the specification says of images is read here: axes, scales, transformations. The package ome-zarr-models has
models of all of it, but wants an older pydantic than Kedro and MLflow run with.

Source: Open Microscopy Environment, Next-generation file format, https://ngff.openmicroscopy.org/0.5/.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ValidationError

from synapseclr.errors import VolumeError
from synapseclr.storage.addresses import open_filesystem, plain_address
from synapseclr.storage.object_folder import object_version
from synapseclr.volumes.layers.layer import OpenLayer, VolumeLayer

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ZIPPED = re.compile(r"(.+?\.(?:zip|ozx))(?:/(.*))?")


class Axis(BaseModel):
    """A dimension of the arrays."""

    name: str
    type: str | None = None
    unit: str | None = None


class Transformation(BaseModel):
    """``scale`` or ``translation``, one number per axis; ``identity``."""

    type: str
    scale: list[float] | None = None
    translation: list[float] | None = None


class Scale(BaseModel):
    """One resolution: the path of its array."""

    path: str
    coordinateTransformations: list[Transformation]  # noqa: N815 - the specification's name


class Multiscale(BaseModel):
    """An image at several resolutions."""

    axes: list[Axis]
    datasets: list[Scale]
    coordinateTransformations: list[Transformation] = []  # noqa: N815

    def placement(self, scale: Scale) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Size of a voxel and place of the first one's centre, per axis, in the axes' units."""
        size, place = np.ones(len(self.axes)), np.zeros(len(self.axes))
        for step in (*scale.coordinateTransformations, *self.coordinateTransformations):
            factor, shift = step.scale or np.ones(len(self.axes)), step.translation or np.zeros(len(self.axes))
            size, place = size * factor, place * factor + shift
        return size, place


@dataclass(frozen=True)
class OmeZarrLayer(VolumeLayer):
    """An OME-Zarr image or label image; its attributes are those of a layer."""

    def _open(self, voxel_size_nm: tuple[float, float, float]) -> OpenOmeZarr:
        try:
            group = _open_group(self)
            attributes = dict(group.attrs)
        except VolumeError:
            raise
        except Exception as error:
            advice = (
                " Give the path of the image's group: that whose attributes hold `multiscales`. Neuroglancer "
                "precomputed and N5 need `type: synapseclr.datasets.PrecomputedVolumeDataset`."
            )
            raise self.failure(error, "cannot be opened as OME-Zarr", advice) from error
        multiscale = _multiscale(self, attributes)
        order = _space_axes(self, multiscale)
        to_nm = np.array([self.nm_of_unit(multiscale.axes[axis].name, multiscale.axes[axis].unit) for axis in order])
        sizes_nm = [multiscale.placement(scale)[0][order] * to_nm for scale in multiscale.datasets]
        scale = multiscale.datasets[self.nearest_scale(voxel_size_nm, sizes_nm)]
        size, place = multiscale.placement(scale)
        try:
            array: Any = group[scale.path]
        except Exception as error:
            raise self.failure(error, f"cannot be opened: its array {scale.path}", "") from error
        names = [axis.name for axis in multiscale.axes]
        n_channels = array.shape[names.index("c")] if "c" in names else 1
        channel = self.chosen_channel(n_channels, _channel_names(attributes))
        lower_vx = np.floor((place / size)[order] + 0.5).astype(np.int64)
        description = json.dumps([attributes, scale.path], sort_keys=True)
        origin_nm = tuple(_first_edge_nm(multiscale, scale, order, to_nm) - lower_vx * size[order] * to_nm)
        return OpenOmeZarr(self, array, names, lower_vx, description, channel, origin_nm)


def _first_edge_nm(
    multiscale: Multiscale, scale: Scale, order: list[int], to_nm: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Lower edge of the first voxel (x, y, z), in a frame in which the finest scale's voxels begin at its translation.

    By the specification translations are places of centres, so that those of coarser scales lie further inside. Where
    all scales have one translation, their writer has left that out, and they begin at the same edge.
    """
    placements = [multiscale.placement(other) for other in multiscale.datasets]
    finest = min(placements, key=lambda sized: float(np.prod(sized[0][order])))
    size, place = (values[order] for values in multiscale.placement(scale))
    inwards = np.where(place == finest[1][order], 0, (size - finest[0][order]) / 2)
    return np.asarray((place - inwards) * to_nm, np.float64)


def split_zip(uri: str) -> tuple[str, str] | None:
    """The zip file of a zipped store and the path of the image in it; None if the address names no zip file."""
    found = _ZIPPED.fullmatch(plain_address(uri))
    return (found[1], found[2] or "") if found else None


def _open_group(layer: VolumeLayer) -> Any:
    """Open the image's group in a folder, a bucket, or a zip file on this machine."""
    import zarr

    zipped = split_zip(layer.uri)
    if zipped is None or Path(zipped[0]).is_dir():
        options = None if layer.is_local else dict(layer.storage_options or {})
        return zarr.open_group(plain_address(layer.uri), mode="r", storage_options=options)
    path, inside = zipped
    if not layer.is_local:
        raise VolumeError(
            f"The {layer.role} at {layer.uri} is a zipped store in a bucket; zipped stores are read from this "
            "machine's disk only. Download it, or unpack it in the bucket."
        )
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    top = {name.partition("/")[0] for name in names}
    if len(top) == 1 and not top & {"zarr.json", ".zgroup"}:  # the folder was zipped, and not what is in it
        inside = f"{next(iter(top))}/{inside}".rstrip("/")
    return zarr.open_group(zarr.storage.ZipStore(path, mode="r"), path=inside, mode="r")


@dataclass(frozen=True)
class OpenOmeZarr(OpenLayer):
    """One scale of an OME-Zarr image.

    A block that was never written holds the array's fill value, by the definition of Zarr: it is no error.

    Attributes:
        layer: Where it lies.
        array: The scale's Zarr array.
        axes: Names of its dimensions, among them x, y and z; of time, the first moment is read.
        first_vx: First voxel (x, y, z): the translation, rounded to voxels.
        description: What the image says of itself.
        channel: Which channel is read.
        first_nm: Lower edge of voxel 0 (x, y, z): what the rounding has left out.
    """

    layer: VolumeLayer
    array: Any
    axes: list[str]
    first_vx: NDArray[np.int64]
    description: str
    channel: int = 0
    first_nm: tuple[float, ...] = (0.0, 0.0, 0.0)

    @property
    def origin_nm(self) -> NDArray[np.float64]:
        """Lower edge of voxel 0 (x, y, z) in nm."""
        return np.asarray(self.first_nm)

    @cached_property
    def lower_vx(self) -> NDArray[np.int64]:
        """First voxel of the volume (x, y, z)."""
        return self.first_vx

    @cached_property
    def upper_vx(self) -> NDArray[np.int64]:
        """One past the last voxel of the volume (x, y, z)."""
        return self.first_vx + self._xyz(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a voxel, in this machine's byte order."""
        return np.dtype(self.array.dtype).newbyteorder("=")

    @property
    def codec(self) -> str:
        """Names of the array's compressors."""
        names = [_codec_name(compressor) for compressor in self.array.compressors]
        return ", ".join(names) or "raw"

    @property
    def block_size_vx(self) -> NDArray[np.int64]:
        """Size of a chunk, of an inner one if the array is sharded (x, y, z)."""
        return self._xyz(self.array.chunks)

    def identity(self) -> str:
        """Digest of attributes and array, and of the time at which the array's description was written."""
        shape = (self.array.shape, self.array.chunks, str(self.array.dtype))
        text = f"{self.description}{shape}{self.channel}{self._written_at()}"
        return hashlib.sha256(text.encode()).hexdigest()

    def _written_at(self) -> str:
        name = "zarr.json" if self.array.metadata.zarr_format == 3 else ".zarray"
        zipped = split_zip(self.layer.uri)
        if zipped is not None and Path(zipped[0]).is_file():
            return str(Path(zipped[0]).stat().st_mtime_ns)
        try:
            filesystem, root = open_filesystem(self.layer.uri, self.layer.storage_options)
            info = filesystem.info(f"{root.rstrip('/')}/{self.array.path}/{name}")
        except Exception:  # what a store says of its objects is a help, not a need
            return ""
        return object_version(info)

    def _xyz(self, of_axes: Any) -> NDArray[np.int64]:
        return np.array([of_axes[self.axes.index(name)] for name in "xyz"], np.int64)

    def _voxels(self, start: NDArray[np.int64], stop: NDArray[np.int64]) -> NDArray[Any]:
        inside = dict(zip("xyz", zip(start - self.first_vx, stop - self.first_vx, strict=True), strict=True))
        other = {"c": self.channel, "t": 0}
        index = tuple(slice(*map(int, inside[name])) if name in inside else other[name] for name in self.axes)
        box = np.asarray(self.array[index])
        space = [name for name in self.axes if name in "xyz"]
        return np.asarray(box.transpose([space.index(name) for name in "xyz"]), self.dtype)


def _codec_name(compressor: Any) -> str:
    """Zarr's name of a codec: those of version 2 have an id, those of version 3 a class."""
    return str(getattr(compressor, "codec_id", None) or type(compressor).__name__.removesuffix("Codec")).lower()


def _multiscale(layer: VolumeLayer, attributes: dict[str, Any]) -> Multiscale:
    described = attributes.get("ome", attributes).get("multiscales")
    if not described:
        raise VolumeError(
            f"The {layer.role} at {layer.uri} is a Zarr group without `multiscales`, hence no OME-Zarr image. Its "
            f"attributes are {', '.join(sorted(attributes)) or 'none'}. Give the path of the image itself; labels lie "
            "at <image>/labels/<name>."
        )
    try:
        return Multiscale.model_validate(described[0])
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise VolumeError(
            f"The {layer.role} at {layer.uri} has `multiscales` that are not those of NGFF 0.4 or 0.5: {place}: "
            f"{first['msg']}."
        ) from error


def _channel_names(attributes: dict[str, Any]) -> list[str]:
    """Names of the channels, where the image has display settings (``omero``)."""
    settings = attributes.get("ome", attributes).get("omero")
    channels = settings.get("channels") if isinstance(settings, dict) else None
    if not isinstance(channels, list):
        return []
    return [str(channel.get("label") or "") if isinstance(channel, dict) else "" for channel in channels]


def _space_axes(layer: VolumeLayer, multiscale: Multiscale) -> list[int]:
    names = [axis.name for axis in multiscale.axes]
    if not {"x", "y", "z"} <= set(names) <= {"x", "y", "z", "c", "t"}:
        raise VolumeError(
            f"The {layer.role} at {layer.uri} has the axes {', '.join(names)}; expected x, y, z, and c and t at most."
        )
    return [names.index(name) for name in "xyz"]
