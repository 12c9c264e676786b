"""Writing a chunk store: shard by shard, each committed and recorded, so that an interrupted run is continued."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.errors import VolumeError
from synapseclr.storage.addresses import explained, plain_address
from synapseclr.storage.atomic_files import replace_folder
from synapseclr.storage.foreign_files import parse_json
from synapseclr.storage.object_folder import ObjectFolder
from synapseclr.volumes.store.shards import (
    CHANNELS,
    MASK_CODES,
    RECORD_DTYPES,
    RECORD_FOLDER,
    SCHEMA_VERSION,
    ChunkBatch,
    ChunkStream,
    ShardLayout,
    ShardRecord,
    ShardSource,
    read_record,
    record_key,
    recorded_shards,
    shard_key,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synapseclr.storage.object_folder import ObjectFolder


logger = logging.getLogger(__name__)
REJECTED_KEY = f"{RECORD_FOLDER}/rejected.json"
_COLUMN_CHUNK = 65536


def complete_store(folder: ObjectFolder, n_shards: int) -> None:
    """Gather the records of all shards into the per-synapse arrays, and mark the store as complete.

    Args:
        folder: The store.
        n_shards: Its number of shards; each must have its record.

    Raises:
        VolumeError: If a record is damaged.
        FileNotFoundError: If a record is missing.
    """
    import zarr

    group: Any = zarr.open_group(folder.url, mode="a", storage_options=folder.storage_options)
    per_shard = int(group["chunks"].shards[0])
    n = (n_shards - 1) * per_shard + len(read_record(folder, n_shards - 1)) if n_shards else 0
    group["chunks"].resize((n, *group["chunks"].shape[1:]))
    arrays = _create_columns(group, n, max(_COLUMN_CHUNK // per_shard, 1) * per_shard)
    digest = hashlib.sha256()
    of_column = {name: hashlib.sha256() for name in arrays}
    rejected: dict[int, str] = {}
    n_chunks = 0
    for first, records in _pieces(folder, n_shards, per_shard):
        columns = _columns(records, per_shard)
        digest.update(columns["synapse_id"][columns["is_stored"]].tobytes())
        digest.update(columns["chunk_sha256"][columns["is_stored"]].tobytes())
        for name, values in columns.items():
            arrays[name][first : first + len(values)] = values[: n - first]
            of_column[name].update(values[: n - first].tobytes())
        for record in records:
            rejected |= record.rejected
            n_chunks += len(record)
    folder.write(REJECTED_KEY, json.dumps(rejected).encode())
    group.attrs.update(
        {
            "n_shards": n_shards,
            "n_chunks": n_chunks,
            "sha256": digest.hexdigest(),
            "column_sha256": {name: found.hexdigest() for name, found in of_column.items()},
            "complete": True,
        }
    )


def column_digest(values: NDArray[Any]) -> str:
    """Digest of a per-synapse array, as the attribute ``column_sha256`` of a store has it."""
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def check_columns(folder: ObjectFolder, n_shards: int) -> list[str]:
    """Compare the per-synapse arrays of a complete store with the records; returns the names of those that differ."""
    import zarr

    group: Any = zarr.open_group(folder.url, mode="r", storage_options=folder.storage_options)
    per_shard, n = int(group["chunks"].shards[0]), int(group["chunks"].shape[0])
    damaged = set()
    for first, records in _pieces(folder, n_shards, per_shard):
        for name, values in _columns(records, per_shard).items():
            try:
                stored = group[name][first : first + len(values)]
            except (KeyError, ValueError, RuntimeError):  # missing, or its checksum or codec complains
                damaged.add(name)
            else:
                if not np.array_equal(stored, values[: n - first]):
                    damaged.add(name)
    return sorted(damaged)


def _pieces(folder: ObjectFolder, n_shards: int, per_shard: int) -> Iterator[tuple[int, list[ShardRecord]]]:
    """Read all records, those of about 65536 synapses at a time, with the place of their first synapse."""
    step = max(_COLUMN_CHUNK // per_shard, 1)
    for first in range(0, n_shards, step):
        yield first * per_shard, [read_record(folder, shard) for shard in range(first, min(first + step, n_shards))]


def _create_columns(group: Any, n: int, chunk: int) -> dict[str, Any]:
    from zarr.codecs import Crc32cCodec, ZstdCodec

    dtypes = {**RECORD_DTYPES, "is_stored": "bool", "chunk_sha256": "uint8"}
    return {
        name: group.create_array(
            name,
            shape=(n, 32) if name == "chunk_sha256" else (n,),
            chunks=(chunk, 32) if name == "chunk_sha256" else (chunk,),
            dtype=dtype,
            compressors=[ZstdCodec(), Crc32cCodec()],
            dimension_names=["synapse", "byte"] if name == "chunk_sha256" else ["synapse"],
            overwrite=True,
        )
        for name, dtype in dtypes.items()
    }


def _columns(records: list[ShardRecord], per_shard: int) -> dict[str, NDArray[Any]]:
    n = len(records) * per_shard
    columns: dict[str, NDArray[Any]] = {name: np.zeros(n, dtype) for name, dtype in RECORD_DTYPES.items()}
    columns["is_stored"] = np.zeros(n, bool)
    columns["chunk_sha256"] = np.zeros((n, 32), np.uint8)
    for place, record in enumerate(records):
        rows = slice(place * per_shard, place * per_shard + len(record))
        for name, values in record.columns.items():
            columns[name][rows] = np.asarray(values, RECORD_DTYPES[name])
        columns["is_stored"][rows] = True
        if len(record):
            digests = np.frombuffer(bytes.fromhex("".join(record.chunk_sha256)), np.uint8)
            columns["chunk_sha256"][rows] = digests.reshape(-1, 32)
    return columns


@dataclass(frozen=True)
class ShardWriter:
    """Commits shards to a store. Small enough to be sent to a worker; shards may be written in any order.

    Attributes:
        folder: The store.
        layout: Shape and codecs.
    """

    folder: ObjectFolder
    layout: ShardLayout

    def __call__(self, shard: int, batch: ChunkBatch) -> ShardRecord:
        """Write the shard, then its record: from then on it belongs to the store."""
        n = len(batch.records.get("synapse_id", ()))
        _check_voxels(batch, n)
        columns = {
            name: np.asarray(batch.records[name], dtype).tolist() if n else [] for name, dtype in RECORD_DTYPES.items()
        }
        digests = [hashlib.sha256(np.ascontiguousarray(chunk).data).hexdigest() for chunk in batch.chunk_ncxyz[:n]]
        data = self.layout.encode(batch.chunk_ncxyz) if n else b""
        if data:
            self.folder.write(shard_key(shard), data)
        else:
            self.folder.delete(shard_key(shard))
        digest = hashlib.sha256(data).hexdigest() if data else ""
        record = ShardRecord(shard, columns, digests, digest, dict(batch.rejected), list(batch.failed))
        self.folder.write(record_key(shard), record.to_json())
        return record


def write_chunk_store(stream: ChunkStream, url: str, storage_options: dict[str, Any] | None = None) -> None:
    """Write a store shard by shard, or continue an interrupted one of the same chunks.

    A local store appears under its name when it is complete; until then it lies at ``<url>.partial``. A remote one is
    marked as incomplete until then. Chunks that come as a :class:`ShardSource` are not made again where the store
    already has them: shards whose record is there are kept, if the store's fingerprint is the source's.

    Args:
        stream: What to store; memory holds a few shards.
        url: Local path or fsspec URL. A store of other chunks there is replaced.
        storage_options: Passed to fsspec for remote stores.
    """
    url, source = plain_address(url), stream.batches
    with explained(url, "written"):
        folder = _begin(stream, source.fingerprint if isinstance(source, ShardSource) else "", url, storage_options)
    if isinstance(source, ShardSource):
        n_shards = _write_missing(source, ShardWriter(folder, stream.layout))
    else:
        writer, n_shards = ShardWriter(folder, stream.layout), 0
        for n_shards, batch in enumerate(_split(source, stream.synapses_per_shard), start=1):
            writer(n_shards - 1, batch)
    folder.remove_leftovers()
    if n_shards is not None:
        with explained(folder.url, "written"):
            complete_store(folder, n_shards)
    if folder.url != url:
        with explained(url, "written"):
            replace_folder(Path(folder.url), Path(os.path.realpath(url)))


def _check_voxels(batch: ChunkBatch, n: int) -> None:
    """Refuse what the store, which holds uint8, would change: NaN would become some intensity."""
    if not n or batch.chunk_ncxyz.dtype == np.uint8:
        return
    finite_n = np.isfinite(batch.chunk_ncxyz[:n]).all(axis=(1, 2, 3, 4))
    which = int(np.argmin(finite_n))  # the first that is not finite, or the first
    raise VolumeError(
        f"The chunk of synapse {int(batch.records['synapse_id'][which])} holds {batch.chunk_ncxyz.dtype} values"
        f"{'' if finite_n.all() else ', NaN or infinite ones among them'}, expected uint8: intensities 0 to 255, and "
        "mask codes. Fill what is missing, scale the images to 0 to 255 and convert them."
    )


def _write_missing(source: ShardSource, writer: ShardWriter) -> int | None:
    """Write the shards that the store does not have; returns their number, or None if the store was complete."""
    folder = writer.folder
    folder.remove_leftovers()
    rejected: dict[int, str] = {}
    failed: set[int] = set()
    missing = set(range(source.n_shards))
    for shard in recorded_shards(folder):
        record = _record_or_none(folder, shard)
        if record is not None and not record.failed:
            rejected |= record.rejected
            missing.discard(shard)
    if not missing and store_attributes(folder).get("complete"):
        logger.info("The chunk store at %s has all chunks of these inputs; none is cut again.", folder.url)
        return None
    if store_attributes(folder).get("complete"):
        set_incomplete(folder)
    if len(missing) < source.n_shards:
        n_done = source.n_shards - len(missing)
        logger.info("Continuing the chunk store at %s, which has %d of %d shards.", folder.url, n_done, source.n_shards)
    for record in source.write(sorted(missing), writer):
        for synapse_id, reason in record.rejected.items():
            logger.warning("Synapse %d is rejected: %s", synapse_id, reason)
        if record.rejected:
            rejected |= record.rejected
            failed.update(record.failed)
            source.check(rejected, failed)
    source.check(rejected, failed)
    return source.n_shards


def _record_or_none(folder: ObjectFolder, shard: int) -> ShardRecord | None:
    try:
        return read_record(folder, shard)
    except (VolumeError, FileNotFoundError):
        return None


def _split(batches: Iterable[ChunkBatch], n: int) -> Iterator[ChunkBatch]:
    """Cut batches that fill several shards into one a shard."""
    for batch in batches:
        rejected, failed = batch.rejected, batch.failed
        for start in range(0, max(len(batch.chunk_ncxyz), 1), n):
            columns = {name: column[start : start + n] for name, column in batch.records.items()}
            yield ChunkBatch(batch.chunk_ncxyz[start : start + n], columns, rejected, failed)
            rejected, failed = {}, ()


def _begin(stream: ChunkStream, fingerprint: str, url: str, options: dict[str, Any] | None) -> ObjectFolder:
    """Return the store to continue, or a new empty one."""
    import zarr

    published = ObjectFolder(url, options)
    begun = published if published.is_remote else ObjectFolder(f"{url}.partial")
    for folder in (published, begun) if fingerprint else ():
        attributes = store_attributes(folder)
        is_current = attributes.get("schema_version") == SCHEMA_VERSION and stream.layout.is_of(folder)
        if attributes.get("fingerprint") == fingerprint and is_current:
            return folder
    if fingerprint and store_attributes(begun):
        logger.info("The chunk store at %s is of other inputs, parameters or codecs; it is begun anew.", begun.url)
    begun.clear()
    group = zarr.open_group(begun.url, mode="w", zarr_format=3, storage_options=begun.storage_options)
    stream.layout.create_array(group, 0, "chunks")
    group.attrs.update(
        {
            "schema_version": SCHEMA_VERSION,
            "voxel_size_nm": [float(v) for v in stream.voxel_size_nm],
            "axes": "synapse, channel, x, y, z",
            "channels": CHANNELS,
            "mask_codes": MASK_CODES,
            "fingerprint": fingerprint,
            "complete": False,
        }
    )
    return begun


def store_attributes(folder: ObjectFolder) -> dict[str, Any]:
    """Return the attributes of a store; empty if there is none that can be read."""
    try:
        return dict(parse_json(folder.read("zarr.json")).get("attributes", {}))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return {}


def set_incomplete(folder: ObjectFolder) -> None:
    """Mark a store as one that the next run has to complete, before something is taken from it."""
    import zarr

    with explained(folder.url, "written"):
        zarr.open_group(folder.url, mode="a", storage_options=folder.storage_options).attrs["complete"] = False
