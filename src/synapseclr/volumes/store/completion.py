"""The last step of writing a chunk store: the records of all shards become per-synapse arrays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.volumes.store.shard_record import RECORD_DTYPES, RECORD_FOLDER, ShardRecord, read_record

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synapseclr.volumes.objects import ObjectFolder

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
