"""The chunk store: a sharded Zarr v3 group with one inner chunk per synapse."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.errors import UnreachableError, VolumeError
from synapseclr.storage.addresses import explained, is_local
from synapseclr.storage.foreign_files import check_zarr_array, parse_json
from synapseclr.storage.object_folder import LocalCache, ObjectFolder
from synapseclr.volumes.store.shard_reading import has_our_codecs, open_shards, shard_reader
from synapseclr.volumes.store.shards import (
    CHANNELS,
    RECORD_DTYPES,
    SCHEMA_VERSION,
    shard_key,
)
from synapseclr.volumes.store.writing import REJECTED_KEY, column_digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synapseclr.volumes.store.shard_reading import ChunkReader


_DESCRIPTION = "zarr.json"


class StoreIdentity:
    """The store that a handle was opened on. Local stores are asked by one ``stat``, others by one small object.

    Args:
        folder: The store.
        sha256: Digest of its ids and chunks when it was opened.

    Attributes:
        n_rewritten: How often the same chunks were found written again; their shards may lie otherwise then.
    """

    def __init__(self, folder: ObjectFolder, sha256: str) -> None:
        self._folder = folder
        self._path = os.path.join(folder.url, _DESCRIPTION)
        self._sha256 = sha256
        self._seen = self._version()
        self._compare()
        self.n_rewritten = 0

    def look(self) -> None:
        """Look if the store is still the one that was opened.

        Raises:
            VolumeError: If other chunks lie there now, or none.
        """
        version = self._version()
        if version != self._seen:
            self._compare()
            self._seen = version
            self.n_rewritten += 1

    def _version(self) -> tuple[int, ...] | str:
        if self._folder.is_remote:
            try:
                return hashlib.sha256(self._folder.read(_DESCRIPTION)).hexdigest()
            except FileNotFoundError:
                return ""
        try:
            state = os.stat(self._path)
        except OSError:
            return ()
        return state.st_mtime_ns, state.st_ino, state.st_size

    def _compare(self) -> None:
        try:
            attributes = parse_json(self._folder.read(_DESCRIPTION)).get("attributes", {})
        except (FileNotFoundError, ValueError):
            attributes = {}
        if attributes.get("sha256") != self._sha256 or not attributes.get("complete"):
            raise VolumeError(replaced(self._folder.url))


def replaced(url: str) -> str:
    """The message when the chunks are no longer those that were opened."""
    return (
        f"The chunk store at {url} was replaced while it was being read: positions mean other synapses now. Start "
        "again what was reading it, once preprocessing has ended."
    )


_MOST_CHUNK_BYTES = 2**31 - 1  # of Blosc


@dataclass(frozen=True)
class ChunkStore:
    """A handle on a stored set of chunks. Opens lazily, and again in each worker process.

    Attributes:
        url: Local path or fsspec URL of the Zarr group.
        storage_options: Passed to fsspec for remote stores.
        cache_folder: Where chunks of a remote store are kept on this machine, compressed; None: nowhere.
        cache_gb: How much is kept there at most, in GB (1e9 bytes).
    """

    url: str
    storage_options: dict[str, Any] | None = None
    cache_folder: str | None = None
    cache_gb: float = 20.0

    def __post_init__(self) -> None:
        folder = ObjectFolder(self.url, self.storage_options)
        object.__setattr__(self, "url", folder.url)
        object.__setattr__(self, "storage_options", folder.storage_options)

    def __getstate__(self) -> dict[str, Any]:
        """State that opens the store again, in another process; it has to be the same store then."""
        state = {name: getattr(self, name) for name in ("url", "storage_options", "cache_folder", "cache_gb")}
        opened = self.sha256 if "_group" in self.__dict__ else self.__dict__.get("_opened")
        return state | ({} if opened is None else {"_opened": opened})

    @cached_property
    def _group(self) -> Any:  # zarr.Group, whose items and attributes are typed too widely to be of use
        import zarr

        try:
            with explained(self.url):
                group = zarr.open_group(self.url, mode="r", storage_options=self.storage_options)
        except UnreachableError:
            raise
        except (FileNotFoundError, ValueError, KeyError, RecursionError) as error:
            raise VolumeError(
                f"There is no chunk store at {self.url}. Run `kedro run --pipeline=preprocessing` first."
            ) from error
        if not group.attrs.get("complete"):
            raise VolumeError(
                f"The chunk store at {self.url} is unfinished. Run `kedro run --pipeline=preprocessing` again."
            )
        if group.attrs.get("schema_version") != SCHEMA_VERSION:
            raise VolumeError(
                f"The chunk store at {self.url} has schema version {group.attrs.get('schema_version')}, this version "
                f"reads {SCHEMA_VERSION}. Run `kedro run --pipeline=preprocessing` again."
            )
        with explained(f"{self.url}/chunks"):
            chunks: Any = group["chunks"]
        if chunks.dtype != np.uint8:
            raise VolumeError(
                f"The chunk store at {self.url} holds {chunks.dtype} chunks, expected uint8, which has no "
                "NaN. Run `kedro run --pipeline=preprocessing` again."
            )
        _check_shape(self.url, chunks, group.attrs)
        if group.attrs["sha256"] != self.__dict__.get("_opened", group.attrs["sha256"]):
            raise VolumeError(replaced(self.url))
        return group

    @cached_property
    def _identity(self) -> StoreIdentity:
        return StoreIdentity(ObjectFolder(self.url, self.storage_options), self.sha256)

    @cached_property
    def _chunks(self) -> Any:
        with explained(f"{self.url}/chunks"):
            return self._group["chunks"]

    def __len__(self) -> int:
        return len(self.synapse_id)

    @cached_property
    def records(self) -> dict[str, NDArray[Any]]:
        """Per-synapse columns of length n, in store order."""
        return {name: self._column(name) for name in RECORD_DTYPES}

    def _column(self, name: str) -> NDArray[Any]:
        values = self._array(name)
        return values if self._slots is None else values[self._slots]

    def _array(self, name: str) -> NDArray[Any]:
        """Read a per-synapse array, of which Zarr would read lost pieces as zeros.

        Raises:
            VolumeError: If it is not as it was written, or the store was replaced.
        """
        expected = self._group.attrs.get("column_sha256", {}).get(name)
        try:
            with explained(f"{self.url}/{name}"):
                array = self._group[name]
                if array.shape[0] != self._chunks.shape[0]:
                    raise ValueError(f"{array.shape[0]} rows for {self._chunks.shape[0]} places")
                if name == "synapse_id":  # distinct numbers; the other arrays may be constant
                    check_zarr_array(array, f"{self.url}/{name}")
                values = np.asarray(array[:])
            is_intact = expected in (None, column_digest(values))
        except (KeyError, ValueError, RuntimeError) as error:  # gone, or its checksum or codec complains
            if isinstance(error, UnreachableError):
                raise
            is_intact = False
        if not is_intact:
            self._identity.look()
            raise VolumeError(
                f"The array {name} of the chunk store at {self.url} is damaged: a part is missing or has changed. "
                "`kedro synapseclr chunks verify --repair` writes it again out of the shards' records."
            )
        return values

    @cached_property
    def _slots(self) -> NDArray[np.int64] | None:
        """Places of the chunks in the Zarr array; None if there is no empty one."""
        if self._group.attrs["n_chunks"] == self._chunks.shape[0]:
            return None
        return np.flatnonzero(self._array("is_stored"))

    @property
    def synapse_id(self) -> NDArray[np.int64]:
        """Synapse ids in store order, int64 (n,)."""
        return self.records["synapse_id"]

    @cached_property
    def rejected(self) -> dict[int, str]:
        """Reason by synapse id for every synapse of the table that has no chunk."""
        assert self._group is not None  # says what is wrong with a store that is not there
        rejected = parse_json(ObjectFolder(self.url, self.storage_options).read(REJECTED_KEY))
        return {int(synapse_id): reason for synapse_id, reason in rejected.items()}

    @property
    def sha256(self) -> str:
        """Digest over ids and voxels of all chunks: tells one data set from another."""
        return str(self._group.attrs["sha256"])

    @cached_property
    def voxel_size_nm(self) -> tuple[float, float, float]:
        """Voxel size (x, y, z) in nm."""
        return tuple(self._group.attrs["voxel_size_nm"])

    @cached_property
    def chunk_size_vx(self) -> tuple[int, int, int]:
        """Chunk size (x, y, z) in voxels."""
        return tuple(self._chunks.shape[2:])

    @property
    def axial_to_sagittal_spacing(self) -> float:
        """Section thickness over in-plane voxel size."""
        return self.voxel_size_nm[2] / self.voxel_size_nm[0]

    def read(self, indices: NDArray[np.int64] | list[int] | slice) -> NDArray[np.uint8]:
        """Read chunks by their position in the store; negative positions count from its end.

        Returns:
            uint8 (k, 2, x, y, z) in the order asked for; channel 0 is the intensity, channel 1 the mask codes.

        Raises:
            VolumeError: If a chunk is damaged (it has a checksum) or its shard is missing; names synapse and shard. If
                another store has taken this one's place since it was opened.
            UnreachableError: If a remote store does not answer, or refuses access; names the shard.
        """
        n = len(self)
        chosen = range(*indices.indices(n)) if isinstance(indices, slice) else indices
        wanted = np.asarray(chosen, dtype=np.int64)
        if not len(wanted):
            return np.empty((0, len(CHANNELS), *self.chunk_size_vx), np.uint8)
        if wanted.min() < -n or wanted.max() >= n:
            raise IndexError(f"The chunk store at {self.url} has {n} chunks, asked for were {wanted[:10].tolist()}...")
        positions = np.where(wanted < 0, wanted + n, wanted)
        slots = positions if self._slots is None else self._slots[positions]
        try:
            chunk_ncxyz = self._reader(slots)
        except UnreachableError:
            raise
        except Exception as error:  # of checksums, decoders and all kinds of storage
            if self._must_read_again():
                return self.read(indices)
            raise self._damage(positions, slots, error) from error
        if not self._is_looked_at_by_reader and self._must_read_again():
            return self.read(indices)
        for position, slot, chunk_cxyz in zip(positions, slots, chunk_ncxyz, strict=True):
            if _may_be_black(chunk_cxyz) and not self._is_intact(int(slot), chunk_cxyz):
                raise self._damage([position], [slot], VolumeError("its shard is missing"))
        return chunk_ncxyz

    @cached_property
    def _is_looked_at_by_reader(self) -> bool:
        """Tell whether the reader looks if the store is still the same: in a bucket, while it fetches."""
        return not is_local(self.url) and has_our_codecs(self._chunks)

    def _must_read_again(self) -> bool:
        """Look if the store is still the same; written again, its shards may lie otherwise, which voids the reader."""
        self._identity.look()
        if self._identity.n_rewritten == self.__dict__.get("_n_rewritten", 0):
            return False
        self.__dict__["_n_rewritten"] = self._identity.n_rewritten
        self.__dict__.pop("_reader", None)
        return True

    def _is_intact(self, slot: int, chunk_cxyz: NDArray[np.uint8]) -> bool:
        digest = hashlib.sha256(np.ascontiguousarray(chunk_cxyz).data).digest()
        with explained(f"{self.url}/chunk_sha256"):
            return bytes(np.asarray(self._group["chunk_sha256"][slot])) == digest

    def _damage(self, positions: Any, slots: Any, error: BaseException) -> VolumeError:
        """Find the first of these chunks that cannot be read."""
        at, slot = positions[0], slots[0]
        for position, place in zip(positions, slots, strict=True) if len(slots) > 1 else ():
            try:
                self._reader(np.asarray([place]))
            except Exception as of_one:
                at, slot, error = position, place, of_one
                break
        shard = int(slot) // int(self._chunks.shards[0])
        reason = str(error).strip().partition("\n")[0].partition(" [")[0] or type(error).__name__
        return VolumeError(
            f"Synapse {self.synapse_id[at]} of the chunk store at {self.url} cannot be read: {reason}. It is in shard "
            f"{shard} ({shard_key(shard)}). `kedro synapseclr chunks verify` checks the whole store; with --repair, "
            "`kedro run --pipeline=preprocessing` then cuts the damaged shards again."
        )

    @cached_property
    def _reader(self) -> ChunkReader:
        cache = LocalCache(self.cache_folder, int(self.cache_gb * 1e9)) if self.cache_folder else None
        folder = ObjectFolder(self.url, self.storage_options)
        return shard_reader(self._chunks, open_shards(folder, self.sha256, cache, self._identity.look))

    def iterate(self, batch_size: int) -> Iterator[NDArray[np.uint8]]:
        """Read all chunks in store order, ``batch_size`` at a time."""
        for start in range(0, len(self), batch_size):
            yield self.read(slice(start, min(start + batch_size, len(self))))


def _check_shape(url: str, chunks: Any, attributes: Mapping[str, Any]) -> None:
    """Compare the shape that the array of chunks declares with what the store says of itself, and what is possible."""
    shape = tuple(chunks.shape)
    is_chunks = len(shape) == 5 and shape[1] == len(CHANNELS) and chunks.shards is not None
    if not is_chunks or shape[0] > int(attributes["n_shards"]) * chunks.shards[0]:
        raise VolumeError(
            f"The chunk store at {url} declares chunks of the shape {shape}, expected (n, {len(CHANNELS)}, x, y, z) in "
            f"{attributes['n_shards']} shards. Its description is damaged; run `kedro run --pipeline=preprocessing` "
            "again."
        )
    if math.prod(shape[1:]) > _MOST_CHUNK_BYTES:
        raise VolumeError(
            f"The chunk store at {url} declares chunks of the shape {shape[1:]}, more than the {_MOST_CHUNK_BYTES} "
            "bytes that its codec can hold. Its description is damaged; run `kedro run --pipeline=preprocessing` again."
        )


def _may_be_black(chunk_cxyz: NDArray[np.uint8]) -> bool:
    """Tell whether a chunk is zero throughout, as a missing one reads; looks at its middle first."""
    voxels = chunk_cxyz.reshape(-1)
    return not (voxels[len(voxels) // 4 :][:4096].any() or voxels.any())
