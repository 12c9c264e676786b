"""One layer of a volume (EM, segmentation or clefts): where it lies, its scales and units, and how voxels are read."""

from __future__ import annotations

import math
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from synapseclr.errors import DecoderError, UnreachableError, VolumeError
from synapseclr.storage.addresses import is_local, is_unreachable, unreachable
from synapseclr.volumes.root_versions import RootVersion

if TYPE_CHECKING:
    from numpy.typing import NDArray


_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
LayerType = Literal["image", "segmentation"]
SCALE_TOLERANCE = 1e-4
"""Relative difference up to which two voxel sizes are the same: writers round, 3.9999998 nm is 4 nm."""

MOST_BLOCK_BYTES = 2**32
"""A storage block is decoded as a whole."""


class NoScaleError(VolumeError):
    """No scale of a volume has the wanted voxel size.

    Attributes:
        sizes_nm: Voxel sizes (x, y, z) of the scales that there are.
    """

    def __init__(self, message: str, sizes_nm: Sequence[Sequence[float]] = ()) -> None:
        super().__init__(message)
        self.sizes_nm = [(float(x), float(y), float(z)) for x, y, z in sizes_nm]


@dataclass(frozen=True)
class VolumeArray:
    """Voxels in memory, on their way to storage: shape (x, y, z), with the voxel size in nm."""

    array_xyz: NDArray[Any]
    voxel_size_nm: tuple[float, float, float]


@dataclass(frozen=True)
class VolumeLayer(ABC):
    """A handle on a volume: where it lies and how it is opened. Cheap to make, to copy and to send to a worker.

    A format of volumes is a subclass that implements :meth:`_open`.

    Attributes:
        uri: ``file://``, ``gs://``, ``s3://``, ``https://``; for CloudVolume optionally with its format in front
            (``precomputed://``, ``zarr://``, ...).
        role: What it holds, for error messages: "EM volume", "segmentation volume", ...
        storage_options: Credentials for a bucket, as fsspec takes them.
        channel: Which channel of a volume that has several; None: it has one only.
        unit: Unit of the axes of an OME-Zarr volume or an N5, such as ``nanometer``; goes before the file's.
        layer_type: ``image`` (intensities) or ``segmentation`` (ids); None: as the volume says.
        fill_missing: Whether a storage block that does not exist is background, id 0. Of label layers only.
        materialization_version: CAVE's number of the version of a segmentation's root ids, if it is known.
    """

    uri: str
    role: str = "volume"
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)  # secrets
    channel: int | None = None
    unit: str | None = None
    layer_type: LayerType | None = None
    fill_missing: bool = False
    materialization_version: int | None = None

    agglomerates: ClassVar[bool] = False
    """True where supervoxels of a chunked graph are read as the root ids of a moment."""

    @property
    def root_version(self) -> RootVersion:
        """Version of a segmentation's root ids, as far as it is known."""
        return RootVersion(self.materialization_version)

    @property
    def is_local(self) -> bool:
        """Tell whether it lies on a file system of this machine."""
        return is_local(self.uri)

    @abstractmethod
    def _open(self, voxel_size_nm: tuple[float, float, float]) -> OpenLayer:
        """Open the scale with this voxel size; raises as :meth:`at_resolution` does."""

    def at_resolution(self, voxel_size_nm: tuple[float, float, float]) -> OpenLayer:
        """Open the scale with this voxel size.

        Args:
            voxel_size_nm: Voxel size (x, y, z) in nm.

        Raises:
            VolumeError: If nothing readable lies at the address, no scale has this voxel size (NoScaleError), its
                storage blocks are too large to be read, or its ids are agglomerated on demand.
            UnreachableError: If the store does not answer, or refuses access.
        """
        if self.uri.lower().startswith("graphene://") and not self.agglomerates:
            raise self.agglomerated()
        opened = self._open(voxel_size_nm)
        block_vx = np.minimum(opened.block_size_vx, opened.upper_vx - opened.lower_vx)
        if math.prod(map(int, block_vx)) * opened.dtype.itemsize > MOST_BLOCK_BYTES:
            raise VolumeError(
                f"The {self.role} at {self.uri} declares storage blocks of {block_vx.tolist()} voxels of "
                f"{opened.dtype}, more than the {MOST_BLOCK_BYTES / 2**30:g} GiB that are read at once. If its "
                "description is right, write it anew in smaller blocks, such as 128 x 128 x 32."
            )
        return opened

    def failure(self, error: BaseException, what: str, advice: str) -> VolumeError | UnreachableError:
        """The error to raise instead of one of a reader's, of which there are many kinds.

        Args:
            error: What the reader raised.
            what: What was not possible: "cannot be opened".
            advice: What to do if the store itself can be reached.
        """
        if not self.is_local and is_unreachable(error):
            return UnreachableError(f"The {self.role} {what}: {unreachable(self.uri, error)}")
        return VolumeError(
            f"The {self.role} at {self.uri} {what} ({type(error).__name__}: {first_line(error)}).{advice}"
        )

    def nm_of_unit(self, axis: str, unit: str | None) -> float:
        """Length in nm of the unit of an axis. The catalog's unit goes before the file's.

        Args:
            axis: Its name.
            unit: The file's unit, if it has one.

        Raises:
            VolumeError: If neither names a unit that is known here.
        """
        chosen = self.unit or unit
        nm = length_nm(chosen) if chosen else None
        if nm is None:
            said = f"has the unit {chosen}" if chosen else "has no unit"
            source = ", which the catalog names" if self.unit else ""
            raise VolumeError(
                f"The axis {axis} of the {self.role} at {self.uri} {said}{source}. Give one of angstrom, picometer, "
                "nanometer (or nm), micrometer (or um, micron), millimeter, centimeter, meter as `unit:` in the "
                "catalog, which goes before what the file says."
            )
        return nm

    def agglomerated(self) -> VolumeError:
        """The error of a chunked graph, whose voxels hold supervoxels: no root id of a table occurs among them."""
        return VolumeError(
            f"The {self.role} at {self.uri} is a chunked graph, agglomerated on demand: its voxels hold supervoxels, "
            "among which no root id of the synapse table occurs. Read it at the table's version, with `type: "
            "synapseclr.datasets.GrapheneVolumeDataset` and `timestamp:` in its catalog entry (docs/cave.md), or name "
            "a flat release of that version (precomputed://...)."
        )

    def nearest_scale(self, wanted_nm: Sequence[float], sizes_nm: Sequence[Sequence[float]]) -> int:
        """Number of the scale with a voxel size, within :data:`SCALE_TOLERANCE`.

        Args:
            wanted_nm: Voxel size (x, y, z) in nm.
            sizes_nm: That of every scale.

        Raises:
            NoScaleError: If no scale has it; lists those that there are, with all digits that count.
        """
        wanted = np.asarray(wanted_nm, np.float64)
        differences = [float(np.max(np.abs(np.asarray(size, np.float64) / wanted - 1))) for size in sizes_nm]
        nearest = int(np.argmin(differences)) if differences else -1
        if nearest < 0 or not differences[nearest] <= SCALE_TOLERANCE:
            raise NoScaleError(
                f"The {self.role} at {self.uri} has no scale of {as_size(wanted_nm)}; it has "
                f"{', '.join(map(as_size, sizes_nm)) or 'none'}. Set preprocessing.voxel_size_nm to one of these.",
                sizes_nm,
            )
        return nearest

    def chosen_channel(self, n_channels: int, names: Sequence[str] = ()) -> int:
        """Number of the channel to read.

        Args:
            n_channels: Channels that the volume has.
            names: What the volume calls them, if it does.

        Raises:
            VolumeError: If there are several and none was chosen, or the chosen one does not exist.
        """
        listed = ", ".join(
            f"{number} ({name})" if name else str(number)
            for number, name in zip_longest(range(n_channels), names[:n_channels], fillvalue="")
        )
        if self.channel is None and n_channels > 1:
            raise VolumeError(
                f"The {self.role} at {self.uri} has {n_channels} channels: {listed}. Say which one is to be read, as "
                "`channel:` of its catalog entry."
            )
        if self.channel is not None and not 0 <= self.channel < n_channels:
            raise VolumeError(
                f"The {self.role} at {self.uri} has {n_channels} channel{'s' * (n_channels != 1)}: {listed}; there is "
                f"none with the number {self.channel}, which the catalog names."
            )
        return self.channel or 0


class OpenLayer(ABC):
    """One scale of a layer, ready to be read, whatever its format. Axes are always (x, y, z).

    Attributes:
        layer: Where it lies.
    """

    layer: VolumeLayer

    @cached_property
    @abstractmethod
    def lower_vx(self) -> NDArray[np.int64]:
        """First voxel of the volume (x, y, z)."""

    @cached_property
    @abstractmethod
    def upper_vx(self) -> NDArray[np.int64]:
        """One past the last voxel of the volume (x, y, z)."""

    @property
    def stored(self) -> OpenLayer:
        """The scale whose blocks are read: this one, unless it is resampled."""
        return self

    @property
    def n_stored_per_voxel(self) -> float:
        """Voxels that are read for each voxel."""
        return 1.0

    @property
    def origin_nm(self) -> NDArray[np.float64]:
        """Lower edge of voxel 0 (x, y, z) in nm; other than 0 where a volume begins between two voxels."""
        return np.zeros(3)

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """Type of a voxel."""

    @property
    @abstractmethod
    def codec(self) -> str:
        """Encoding of the storage blocks, as the volume names it."""

    @property
    @abstractmethod
    def block_size_vx(self) -> NDArray[np.int64]:
        """Size of a storage block (x, y, z)."""

    @abstractmethod
    def identity(self) -> str:
        """Tells this volume from another, and from one written to the same place at another time.

        It is the digest of the volume's description, with the time at which that was written where this can be known.
        """

    @abstractmethod
    def _voxels(self, start: NDArray[np.int64], stop: NDArray[np.int64]) -> NDArray[Any]:
        """Read a box that lies inside of the volume, in whatever memory order it comes; raises what the reader does."""

    def _object(self, start: NDArray[np.int64], stop: NDArray[np.int64]) -> str:
        """Name of the object that holds a box, where it is one."""
        return ""

    def is_permanent(self, error: VolumeError) -> bool:
        """Tell whether reading again would give the same error: a block is missing, or a decoder."""
        if isinstance(error, DecoderError):
            return True
        cause = error.__cause__
        status = getattr(cause, "code", None) or getattr(getattr(cause, "response", None), "status_code", None)
        return isinstance(cause, (FileNotFoundError, PermissionError)) or status == 404

    def read(self, lower_vx: NDArray[np.int64], size_vx: NDArray[np.int64]) -> NDArray[Any]:
        """Read a box; what lies outside of the volume is zero.

        Args:
            lower_vx: First voxel (x, y, z); may be outside.
            size_vx: Extent in voxels.

        Returns:
            Array of shape ``size_vx`` in the volume's dtype.

        Raises:
            VolumeError: If a storage block is missing or damaged.
            UnreachableError: If the store does not answer, or refuses access.
        """
        box = np.zeros(size_vx, dtype=self.dtype)
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
            DecoderError: If no block can be read, for want of a decoder.
            UnreachableError: If the store does not answer, or refuses access.
        """
        try:
            return self._voxels(start, stop)
        except (ImportError, NotImplementedError) as error:
            raise DecoderError(
                f"The {self.layer.role} at {self.layer.uri} is encoded as '{self.codec}', and there is no decoder for "
                f"it here ({first_line(error)}). Install what decodes it, or convert the volume."
            ) from error
        except Exception as error:  # network, decoding and missing blocks all end here, with the box that was wanted
            what = f"cannot be read in voxels {start.tolist()} to {stop.tolist()}{self._object(start, stop)}"
            raise self.layer.failure(error, what, self._advice(error)) from error

    def _advice(self, error: BaseException) -> str:
        """Advice on a box that cannot be read, with a space in front; empty where there is nothing to say."""
        return ""


def first_line(error: BaseException) -> str:
    """First line of an error's message, without colours."""
    return (_COLOUR.sub("", str(error)).strip().splitlines() or ["no message"])[0]


def as_size(voxel_size_nm: Sequence[float]) -> str:
    """A voxel size as text, with all digits that count: "7.5 x 7.5 x 50 nm"."""
    return " x ".join(f"{v:.9g}" for v in voxel_size_nm) + " nm"


_NM_OF_SYMBOL = {"pm": 1e-3, "nm": 1.0, "um": 1e3, "mm": 1e6, "cm": 1e7, "m": 1e9}
_NM_OF_PREFIX = {"pico": 1e-3, "nano": 1.0, "micro": 1e3, "milli": 1e6, "centi": 1e7, "": 1e9}
_WORD = re.compile(r"(pico|nano|micro|milli|centi|)met(?:er|re)s?")
_ANGSTROM = ("angstrom", "angstroms", "\u00e5ngstr\u00f6m")
_MICRON = ("micron", "microns")


def length_nm(unit: str) -> float | None:
    """Length of a unit in nm; None if it is no unit of length that is known here.

    Understood are the names of NGFF and UDUNITS (``nanometer``), British spelling and plurals (``nanometres``), symbols
    (``nm``, ``um``, and both code points of the micro sign), ``micron``, and the angstrom by name and symbol. Words may
    be of any case; of symbols ``Mm`` is not ``mm``.
    """
    # NFKC makes one of the micro sign and mu, and of the angstrom sign and A with ring.
    symbol = unicodedata.normalize("NFKC", unit.strip())
    if symbol == "\u00c5":
        return 0.1
    symbol = symbol.replace("\u03bc", "u")
    if symbol in _NM_OF_SYMBOL:
        return _NM_OF_SYMBOL[symbol]
    word = symbol.casefold()
    if word in _ANGSTROM:
        return 0.1
    if word in _MICRON:
        return 1e3
    found = _WORD.fullmatch(word)
    return _NM_OF_PREFIX[found[1]] if found else None
