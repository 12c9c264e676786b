"""The two kinds of folders that hold one chunk per synapse."""

from __future__ import annotations

import hashlib
import io
import logging
import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from synapseclr.errors import VolumeError
from synapseclr.volumes.importing.files import NpyFolder, UnusableFileError
from synapseclr.volumes.metadata import VOLUME_CODES
from synapseclr.volumes.schemas import check_published_metadata
from synapseclr.volumes.store.chunk_layout import CHANNELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synapseclr.volumes.config import PreprocessingConfig
    from synapseclr.volumes.importing.source import ChunkSource

logger = logging.getLogger(__name__)

METADATA_FILE = "meta.csv"
_MOST_HEADER_BYTES = 2**16
_MOST_RAW_BYTES = 2**30  # eight files are held at a time; published ones have 16.8 MB


@dataclass(frozen=True)
class ChunkFolder(ABC):
    """A folder of chunks, read one synapse at a time.

    Attributes:
        source: Where it is.
        config: Size of a chunk, voxel size, and the rule for cut-out sections.
    """

    source: ChunkSource
    config: PreprocessingConfig

    @cached_property
    def folder(self) -> NpyFolder:
        """The folder's files."""
        return NpyFolder(self.source.url, self.source.storage_options)

    @cached_property
    @abstractmethod
    def synapse_ids(self) -> list[int]:
        """The synapses that the folder has, in the order in which they are to be stored."""

    @property
    def identity(self) -> str:
        """Tells this folder from another, and from another choice out of it."""
        source = self.source
        parts = (source.kind, source.url, source.mask_url, source.mask_codes, self.contents)
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    @property
    @abstractmethod
    def contents(self) -> str:
        """What the folder says of its chunks: a file that was replaced under the same name makes it another."""

    @abstractmethod
    def chunk_cxyz(self, synapse_id: int) -> tuple[NDArray[np.uint8], int]:
        """Read a chunk.

        Returns:
            uint8 (2, x, y, z), intensity and our mask codes; and the number of cut-out sections.

        Raises:
            UnusableFileError: If a file is missing, damaged, or holds something else.
        """

    def _codes(self, mask_xyz: NDArray[Any], name: str) -> NDArray[np.uint8]:
        if mask_xyz.min(initial=0) < 0 or mask_xyz.max(initial=0) > 255:
            raise UnusableFileError(f"the mask in {name} holds values beyond 0 to 255")
        codes_xyz: NDArray[np.uint8] = self.source.code_table[mask_xyz]
        unknown = np.unique(mask_xyz[codes_xyz == 255])
        if len(unknown):
            raise UnusableFileError(
                f"the mask in {name} has the code {unknown[0]}, which the source's mask_codes do not name"
            )
        return codes_xyz


class ProcessedFolder(ChunkFolder):
    """The published form: ``<id>__2_<x>_<y>_<z>.npy`` and ``meta.csv``, whose order is kept."""

    @cached_property
    def metadata(self) -> pd.DataFrame:
        """``meta.csv`` by synapse id."""
        try:
            content = self.folder.bytes_of(METADATA_FILE)
        except UnusableFileError as error:
            raise VolumeError(
                f"{error}. A folder of processed chunks has one row per synapse in {METADATA_FILE}."
            ) from error
        try:
            found = pd.read_csv(io.BytesIO(content))
        except ValueError as error:  # of pandas: no columns, rows of unequal length, no text
            raise VolumeError(f"{self.folder.url}/{METADATA_FILE} is no readable CSV table ({error}).") from error
        table = check_published_metadata(found, f"{self.folder.url}/{METADATA_FILE}")
        return table.set_index("synapse_id", drop=False)

    @cached_property
    def synapse_ids(self) -> list[int]:
        """Ids in the order of ``meta.csv``."""
        return [int(synapse_id) for synapse_id in self.metadata.index]

    @property
    def contents(self) -> str:
        """All of ``meta.csv``, and the versions of the files that it names, if the folder can be listed."""
        table = self.metadata.to_csv()
        try:
            return table + ",".join(self.folder.version_of(str(name)) for name in self.metadata["filename"])
        except VolumeError as error:
            logger.warning("%s A file that is replaced under the same name will not be imported again.", error)
            return table

    def chunk_cxyz(self, synapse_id: int) -> tuple[NDArray[np.uint8], int]:
        """Read a chunk and compare its masks with ``meta.csv``: a difference means that the file is another's."""
        row = self.metadata.loc[synapse_id]
        name = str(row["filename"])
        expected = (len(CHANNELS), *self.config.chunk_size_vx)
        chunk_cxyz = self.folder.array(name, most_bytes=math.prod(expected) + _MOST_HEADER_BYTES)
        if chunk_cxyz.shape != expected or chunk_cxyz.dtype != np.uint8:
            raise UnusableFileError(
                f"{self.folder.url}/{name} holds {chunk_cxyz.dtype} {chunk_cxyz.shape}, expected uint8 {expected} "
                "(preprocessing.chunk_size_vx)"
            )
        ratio = self.config.voxel_size_nm[2] / self.config.voxel_size_nm[0]
        codes_xyz = self._codes(chunk_cxyz[1], f"{self.folder.url}/{name}")
        for column, code in VOLUME_CODES.items():
            volume = ratio * np.count_nonzero(codes_xyz == code)
            if self.source.mask_codes is None and not np.isclose(volume, row[column], rtol=1e-6):
                raise UnusableFileError(
                    f"{self.folder.url}/{name} has a {column} of {volume:g}, but {METADATA_FILE} says {row[column]:g}; "
                    "the file is another synapse's or damaged, or voxel_size_nm is not the data's"
                )
        return np.stack([chunk_cxyz[0], codes_xyz]), int(str(row["n_cutout_sections"]))


class RawFolder(ChunkFolder):
    """``<id>.npy`` and ``<id>_mask.npy``, larger than a chunk or of its size; stored by ascending id."""

    @cached_property
    def _masks(self) -> NpyFolder:
        return NpyFolder(self.source.mask_url or self.source.url, self.source.storage_options)

    @cached_property
    def synapse_ids(self) -> list[int]:
        """Ids that any file, EM or mask, is named after."""
        ids = {int(m[1]) for folder in (self.folder, self._masks) for m in map(_RAW_NAME.match, folder.names) if m}
        large = sorted(synapse_id for synapse_id in ids if synapse_id > np.iinfo(np.int64).max)
        if large:
            logger.warning(
                "%d files in %s are left out: they are named after ids of 2^63 or more, such as %d, which no synapse "
                "table may have.",
                len(large),
                self.folder.url,
                large[0],
            )
            ids.difference_update(large)
        if not ids:
            raise VolumeError(f"The folder {self.folder.url} has no files named <id>.npy or <id>_mask.npy.")
        return sorted(ids)

    @property
    def contents(self) -> str:
        """Ids, and the versions of their files."""
        images = (self.folder.version_of(f"{synapse_id}.npy") for synapse_id in self.synapse_ids)
        masks = (self._masks.version_of(f"{synapse_id}_mask.npy") for synapse_id in self.synapse_ids)
        return ",".join(f"{i} {image} {mask}" for i, image, mask in zip(self.synapse_ids, images, masks, strict=True))

    def chunk_cxyz(self, synapse_id: int) -> tuple[NDArray[np.uint8], int]:
        """Read both files, take their centre, and blank cut-out sections."""
        names = (f"{synapse_id}.npy", f"{synapse_id}_mask.npy")
        intensity_xyz = self.folder.array(names[0], _MOST_RAW_BYTES)
        mask_xyz = self._masks.array(names[1], _MOST_RAW_BYTES)
        if intensity_xyz.dtype != np.uint8:
            raise UnusableFileError(f"{self.folder.url}/{names[0]} holds {intensity_xyz.dtype}, expected uint8")
        if intensity_xyz.shape != mask_xyz.shape:
            raise UnusableFileError(
                f"{self.folder.url}/{names[0]} has the shape {intensity_xyz.shape}, and {names[1]} {mask_xyz.shape}"
            )
        size_vx = self.config.chunk_size_vx
        if intensity_xyz.ndim != 3 or any(n < wanted for n, wanted in zip(intensity_xyz.shape, size_vx, strict=True)):
            raise UnusableFileError(
                f"{self.folder.url}/{names[0]} has the shape {intensity_xyz.shape}, expected (x, y, z) of at least "
                f"{size_vx} (preprocessing.chunk_size_vx)"
            )
        if not np.issubdtype(mask_xyz.dtype, np.integer) and mask_xyz.dtype != bool:
            raise UnusableFileError(f"{self._masks.url}/{names[1]} holds {mask_xyz.dtype}, expected whole numbers")
        centre = tuple(
            slice((n - wanted) // 2, (n - wanted) // 2 + wanted)
            for n, wanted in zip(intensity_xyz.shape, size_vx, strict=True)
        )
        chunk_cxyz = np.stack(
            [intensity_xyz[centre], self._codes(mask_xyz[centre].astype(np.int64), f"{self._masks.url}/{names[1]}")]
        )
        is_cutout_z = (chunk_cxyz[0] == 0).mean(axis=(0, 1)) > self.config.cutout_zero_fraction
        chunk_cxyz[0, :, :, is_cutout_z] = 0
        return chunk_cxyz, int(is_cutout_z.sum())


_RAW_NAME = re.compile(r"(\d+)(?:_mask)?\.npy$")
FOLDERS: dict[str, type[ChunkFolder]] = {"processed_chunks": ProcessedFolder, "raw_chunks": RawFolder}
