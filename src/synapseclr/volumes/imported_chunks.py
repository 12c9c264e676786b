"""Chunks that others have made: sets in a folder, checked and given our form, and those to search with."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from synapseclr.errors import ConfigurationError, TableError, VolumeError
from synapseclr.storage.addresses import open_filesystem, plain_address
from synapseclr.storage.foreign_files import NpyFolder, UnusableFileError, check_zarr_array, parse_npy
from synapseclr.volumes.chunk_metadata import MASK_VOLUMES, VOLUME_CODES
from synapseclr.volumes.store.shards import CHANNELS, MASK_CODES, ChunkBatch, ChunkStream, ShardRecord, ShardSource
from synapseclr.volumes.table_schema import COUNT, ID, Column, TableSchema

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synapseclr.volumes.config import PreprocessingConfig

logger = logging.getLogger(__name__)

SourceKind = Literal["volumes", "processed_chunks", "raw_chunks"]
MOST_QUERY_CHUNKS = 24


@dataclass(frozen=True)
class ChunkSource:
    """A choice of source. Cheap to make and to copy; nothing is read before the chunks are.

    Attributes:
        kind: ``volumes``: cut out of the EM, segmentation and cleft volume. ``processed_chunks``: a folder in the
            published form, ``<id>__2_<x>_<y>_<z>.npy`` with ``meta.csv``. ``raw_chunks``: a folder of ``<id>.npy``
            (EM) and ``<id>_mask.npy`` (mask), of which the central part is taken.
        url: Local path or fsspec URL of the folder; empty for ``volumes``.
        mask_url: Folder of the masks of ``raw_chunks``, if it is another one.
        mask_codes: What the codes in the files' masks mean, by name: ``background``, ``pre_synaptic_neuron``,
            ``synaptic_cleft``, ``post_synaptic_neuron``. For objects other than synapses, the object itself takes the
            place of ``synaptic_cleft``. None: the codes 0 to 3, in this order.
        storage_options: Passed to fsspec.
    """

    kind: SourceKind = "volumes"
    url: str = ""
    mask_url: str | None = None
    mask_codes: Mapping[int, str] | None = None
    storage_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in get_args(SourceKind):
            raise ConfigurationError(
                f"The chunk source's kind is '{self.kind}'. Choose one of: {', '.join(get_args(SourceKind))}."
            )
        if (self.kind == "volumes") == bool(self.url):
            wanted = "no folder: remove it" if self.url else "the folder's path or URL"
            raise ConfigurationError(f"The chunk source of kind '{self.kind}' needs {wanted}.")
        unknown = [name for name in (self.mask_codes or {}).values() if name not in MASK_CODES]
        if unknown:
            raise ConfigurationError(
                f"The chunk source's mask_codes name '{unknown[0]}'. Known are {', '.join(MASK_CODES)}."
            )

    @property
    def code_table(self) -> NDArray[np.uint8]:
        """Our mask code by the file's, uint8 (256,); 255 where the file's code has no meaning."""
        table = np.full(256, 255, np.uint8)
        for code, name in (self.mask_codes or {code: name for name, code in MASK_CODES.items()}).items():
            table[int(code)] = MASK_CODES[name]
        return table


METADATA_FILE = "meta.csv"
PUBLISHED_METADATA = TableSchema(
    "The metadata of the published chunks",
    {"synapse_id": ID, "filename": Column("text", unique=True), **MASK_VOLUMES, "n_cutout_sections": COUNT},
    key="synapse_id",
    may_be_empty=False,
    only_these=True,
)
_READERS = 8
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
        """Description of all chunks in the folder: it changes when a file is replaced under the same name."""

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
        table = replace(PUBLISHED_METADATA, name=f"{self.folder.url}/{METADATA_FILE}").validate(found)
        return table.set_index("synapse_id", drop=False)

    @cached_property
    def synapse_ids(self) -> list[int]:
        """Ids in the order of ``meta.csv``."""
        return [int(synapse_id) for synapse_id in self.metadata.index]

    @cached_property
    def _rows(self) -> dict[int, dict[str, Any]]:
        """Rows of ``meta.csv`` by id; an index of pandas must not be asked first by several threads at once."""
        rows: dict[Any, dict[str, Any]] = self.metadata.drop(columns="synapse_id").to_dict(orient="index")  # type: ignore[assignment]
        return {int(synapse_id): row for synapse_id, row in rows.items()}

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
        row = self._rows[synapse_id]
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


def import_chunks(source: ChunkSource, synapses: pd.DataFrame, config: PreprocessingConfig) -> ChunkStream:
    """Import a folder of chunks, in its own order. An interrupted import is continued.

    The folder says which synapses there are; the table may have more. A chunk whose files are missing, damaged or do
    not fit, or whose synapse the table does not have, is rejected with a reason that names the file.

    Args:
        source: A folder of ``processed_chunks`` or ``raw_chunks``.
        synapses: As :func:`synapseclr.volumes.synapse_table.check_synapse_table` returns it.
        config: Size of a chunk, voxel size, and limits.

    Returns:
        A stream that reads while it is stored. It raises :class:`TableError` when more than
        ``config.max_rejected_fraction`` of the chunks had to be rejected, naming the first, and :class:`VolumeError`
        when the folder can no longer be reached.

    Raises:
        VolumeError: If the folder, or its ``meta.csv``, is missing or cannot be read.
        TableError: If ``meta.csv`` lacks a column or names a synapse twice.
    """
    folder = FOLDERS[source.kind](source, config)
    n_without = len(set(synapses["id"]) - set(folder.synapse_ids))
    if n_without:
        logger.info("%d synapses of the table have no chunk in %s.", n_without, source.url)
    return ChunkStream(
        _FolderShards(folder, frozenset(synapses["id"]), config),
        config.chunk_size_vx,
        config.voxel_size_nm,
        config.synapses_per_shard,
    )


class _FolderShards(ShardSource):
    def __init__(self, folder: ChunkFolder, known_ids: frozenset[int], config: PreprocessingConfig) -> None:
        self._folder = folder
        self._known_ids = known_ids
        self._config = config
        self.n_synapses = len(folder.synapse_ids)
        self.n_shards = -(-self.n_synapses // config.synapses_per_shard)
        determining = {
            "folder": folder.identity,
            "known": [synapse_id in known_ids for synapse_id in folder.synapse_ids],
            "config": config.model_dump(mode="json", include=_DETERMINING),
        }
        self.fingerprint = hashlib.sha256(json.dumps(determining, sort_keys=True).encode()).hexdigest()

    def cut(self, shard: int) -> ChunkBatch:
        """Read the chunks of one shard, several at a time."""
        size = self._config.synapses_per_shard
        ids = self._folder.synapse_ids[shard * size : (shard + 1) * size]
        with ThreadPoolExecutor(_READERS) as pool:
            results = list(pool.map(self._read, ids))
        rejected = {i: str(r) for i, r in zip(ids, results, strict=True) if isinstance(r, UnusableFileError)}
        kept = [(i, *r) for i, r in zip(ids, results, strict=True) if not isinstance(r, UnusableFileError)]
        n = len(kept)
        records: dict[str, NDArray[Any]] = {
            "synapse_id": np.asarray([synapse_id for synapse_id, _, _ in kept], np.int64),
            "cleft_id": np.zeros(n, np.uint64),  # 0: not known
            "n_cutout_sections": np.asarray([n_cutout for _, _, n_cutout in kept], np.int32),
            "n_padded_voxels": np.zeros(n, np.int64),
        }
        chunks = [chunk_cxyz for _, chunk_cxyz, _ in kept]
        return ChunkBatch(np.stack(chunks) if n else np.empty((0,), np.uint8), records if n else {}, rejected)

    def write(self, shards: Sequence[int], write: Callable[[int, ChunkBatch], ShardRecord]) -> Iterator[ShardRecord]:
        """Read and write shard after shard, with a progress bar."""
        from rich.progress import track

        for shard in track(shards, description="Importing chunks"):
            yield write(shard, self.cut(shard))

    def check(self, rejected: dict[int, str], failed: Collection[int] = ()) -> None:
        """Raise if too many chunks were rejected, or all."""
        limit = self._config.max_rejected_fraction
        if rejected and (len(rejected) > limit * self.n_synapses or len(rejected) == self.n_synapses):
            synapse_id, reason = next(iter(rejected.items()))
            raise TableError(
                f"{len(rejected)} of {self.n_synapses} chunks in {self._folder.source.url} had to be rejected, more "
                f"than preprocessing.max_rejected_fraction = {limit:g} allows. The first, synapse {synapse_id}: "
                f"{reason}."
            )

    def _read(self, synapse_id: int) -> tuple[NDArray[np.uint8], int] | UnusableFileError:
        if synapse_id not in self._known_ids:
            return UnusableFileError("the synapse table does not have it, so its neurites and position are unknown")
        try:
            return self._folder.chunk_cxyz(synapse_id)
        except UnusableFileError as error:
            return error


_DETERMINING = {"chunk_size_vx", "voxel_size_nm", "cutout_zero_fraction", "synapses_per_shard"}


@dataclass(frozen=True)
class QueryChunks:
    """Chunks to search with.

    Attributes:
        names: The file's name, with ``#1``, ``#2``, ... where it holds several.
        chunk_qcxyz: uint8 (q, 2, x, y, z): intensity, mask codes; q is 0 where nothing is asked for.
    """

    names: tuple[str, ...] = ()
    chunk_qcxyz: np.ndarray = field(default_factory=lambda: np.empty((0, len(CHANNELS), 0, 0, 0), np.uint8))

    def __len__(self) -> int:
        return len(self.names)

    def check_size(self, chunk_size_vx: tuple[int, int, int]) -> None:
        """Refuse chunks of another size than those that were embedded; raises :class:`VolumeError`."""
        found = self.chunk_qcxyz.shape[2:]
        if len(self) and tuple(found) != tuple(chunk_size_vx):
            raise VolumeError(
                f"The query {self.names[0]} has {' x '.join(map(str, found))} voxels, but the embedded chunks have "
                f"{' x '.join(map(str, chunk_size_vx))}. Cut it at that size and at the same voxel size."
            )


def read_query_chunks(url: str, storage_options: dict[str, Any] | None = None) -> QueryChunks:
    """Read chunks from a file.

    Args:
        url: Local path or fsspec URL of a ``.npy`` file or a Zarr array (also the ``chunks`` of a chunk store): uint8
            ``(2, x, y, z)``, or ``(q, 2, x, y, z)`` with at most 24 chunks. Channels are intensity and mask codes
            0 background, 1 presynaptic, 2 cleft, 3 postsynaptic.
        storage_options: Passed to fsspec.

    Returns:
        The chunks.

    Raises:
        VolumeError: If the file cannot be read or holds something else; says what it holds and what was expected.
    """
    array = _read_npy(url, storage_options) if url.endswith(".npy") else _open_zarr(url, storage_options)
    shape, expected = array.shape, "uint8 (2, x, y, z) or (q, 2, x, y, z): intensity and mask codes"
    if array.dtype != np.uint8 or len(shape) not in (4, 5) or shape[-4] != len(CHANNELS) or not np.prod(shape):
        raise VolumeError(f"The query {url} holds {array.dtype} {tuple(shape)}, expected {expected}.")
    if len(shape) == 5 and shape[0] > MOST_QUERY_CHUNKS:
        raise VolumeError(
            f"The query {url} holds {shape[0]} chunks, expected at most {MOST_QUERY_CHUNKS}. Give a part of it."
        )
    if not isinstance(array, np.ndarray):
        check_zarr_array(array, f"The query {url}")
    chunk_qcxyz = np.asarray(array[...])
    chunk_qcxyz = chunk_qcxyz[None] if len(shape) == 4 else chunk_qcxyz
    codes = np.unique(chunk_qcxyz[:, 1])
    if codes.max() >= len(MASK_CODES) or not (codes == MASK_CODES["synaptic_cleft"]).any():
        raise VolumeError(
            f"The query {url} has the mask codes {codes[:8].tolist()}, expected 0 background, 1 presynaptic, 2 cleft "
            "and 3 postsynaptic, with a cleft among them."
        )
    name = PurePosixPath(url.rstrip("/")).name.replace("+", "_")
    names = (name,) if len(chunk_qcxyz) == 1 else tuple(f"{name}#{row + 1}" for row in range(len(chunk_qcxyz)))
    return QueryChunks(names, chunk_qcxyz)


def _read_npy(url: str, storage_options: dict[str, Any] | None) -> np.ndarray:
    try:
        filesystem, path = open_filesystem(url, storage_options)
        return parse_npy(filesystem.cat_file(path))
    except FileNotFoundError as error:
        raise VolumeError(f"There is no query {url}. Give synapse ids, or the path of a .npy file.") from error
    except (OSError, ValueError) as error:
        raise VolumeError(f"The query {url} cannot be read as an array ({error}).") from error


def _open_zarr(url: str, storage_options: dict[str, Any] | None) -> Any:
    import zarr

    try:
        return zarr.open_array(plain_address(url), mode="r", storage_options=storage_options)
    except (FileNotFoundError, ValueError, KeyError, OSError, TypeError, RecursionError) as error:
        raise VolumeError(
            f"The query {url} is neither synapse ids (12 or 12+34), nor a .npy file, nor a Zarr array that can be read."
        ) from error
