"""Check every shard of a chunk store, and take damaged ones out of the record."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr.errors import VolumeError
from synapseclr.storage.object_folder import ObjectFolder
from synapseclr.volumes.store.shards import (
    SCHEMA_VERSION,
    ShardLayout,
    read_record,
    record_key,
    recorded_shards,
    shard_key,
)
from synapseclr.volumes.store.writing import check_columns, complete_store, set_incomplete, store_attributes

if TYPE_CHECKING:
    from synapseclr.volumes.store.shards import ShardRecord

_READERS = 8


@dataclass(frozen=True)
class DamagedShard:
    """A shard that is not as it was written.

    Attributes:
        shard: Its number.
        address: Path or URL of what is damaged.
        reason: What is wrong.
        synapse_ids: The synapses that cannot be read any more; empty if the record does not say which there were.
    """

    shard: int
    address: str
    reason: str
    synapse_ids: tuple[int, ...]

    def __str__(self) -> str:
        names = ", ".join(map(str, self.synapse_ids)) or "none of its synapses, or unknown ones"
        return f"Shard {self.shard} ({self.address}) {self.reason}. Lost: {names}."


@dataclass(frozen=True)
class Verification:
    """Result of verifying a chunk store.

    Attributes:
        n_shards: Shards looked at.
        n_synapses: Synapses in undamaged shards.
        is_complete: Whether the store was finished.
        damaged: Shards that are damaged.
        damaged_arrays: Names of per-synapse arrays that differ from the shards' records.
    """

    n_shards: int
    n_synapses: int
    is_complete: bool
    damaged: list[DamagedShard]
    damaged_arrays: list[str]

    @property
    def is_intact(self) -> bool:
        """Tell whether nothing is damaged."""
        return not self.damaged and not self.damaged_arrays


def verify_chunk_store(
    url: str, storage_options: dict[str, Any] | None = None, *, repair: bool = False
) -> Verification:
    """Compare every shard with its record, and the per-synapse arrays with all records.

    Args:
        url: Local path or fsspec URL of the store.
        storage_options: Passed to fsspec.
        repair: Take damaged shards out of the record, so that the next preprocessing of the same inputs cuts them
            again, and only them; write damaged per-synapse arrays anew.

    Returns:
        What was found, before the repair.

    Raises:
        VolumeError: If there is no store of this version.
    """
    folder = ObjectFolder(url, storage_options)
    attributes = store_attributes(folder)
    if attributes.get("schema_version") != SCHEMA_VERSION:
        there = f"one of schema version {attributes['schema_version']}" if attributes else "none that can be read"
        raise VolumeError(
            f"A chunk store of schema version {SCHEMA_VERSION} was expected at {url}; there is {there}. Run `kedro run "
            "--pipeline=preprocessing`."
        )
    is_complete = bool(attributes.get("complete"))
    shards = range(attributes["n_shards"]) if is_complete else recorded_shards(folder)
    layout = _layout(folder)
    damaged: list[DamagedShard] = []
    n_synapses = 0
    for found in _in_parallel(folder, layout, list(shards)):
        if isinstance(found, DamagedShard):
            damaged.append(found)
        else:
            n_synapses += found
    damaged_arrays = check_columns(folder, len(shards)) if is_complete and not damaged else []
    if repair and damaged:
        if is_complete:
            set_incomplete(folder)
        for shard in damaged:
            folder.delete(record_key(shard.shard))
            folder.delete(shard_key(shard.shard))
    elif repair and damaged_arrays:
        complete_store(folder, len(shards))
    return Verification(len(shards), n_synapses, is_complete, damaged, damaged_arrays)


def _layout(folder: ObjectFolder) -> ShardLayout:
    import zarr

    try:
        group: Any = zarr.open_group(folder.url, mode="r", storage_options=folder.storage_options)
        array = group["chunks"]
        return ShardLayout(tuple(array.shape[2:]), int(array.shards[0]))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise VolumeError(
            f"The description of the chunk store at {folder.url} is damaged ({type(error).__name__}). Delete the store "
            "and run `kedro run --pipeline=preprocessing`."
        ) from error


def _in_parallel(folder: ObjectFolder, layout: ShardLayout, shards: list[int]) -> Iterator[int | DamagedShard]:
    """Check shards, several at a time, in order."""
    from rich.progress import track

    waiting = iter(shards)
    with ThreadPoolExecutor(_READERS) as pool:
        for _ in track(range(-(-len(shards) // _READERS)), description="Checking shards"):
            yield from pool.map(lambda shard: _check(folder, layout, shard), islice(waiting, _READERS))


def _check(folder: ObjectFolder, layout: ShardLayout, shard: int) -> int | DamagedShard:
    """Return the number of synapses of an intact shard, or what is wrong with it."""
    try:
        record = read_record(folder, shard)
    except FileNotFoundError:
        return DamagedShard(shard, folder.address(record_key(shard)), "has lost its record", ())
    except VolumeError:
        return DamagedShard(shard, folder.address(record_key(shard)), "has a damaged record", ())
    if not record.sha256:
        return 0
    address, ids = folder.address(shard_key(shard)), tuple(record.columns["synapse_id"])
    try:
        data = folder.read(shard_key(shard))
    except FileNotFoundError:
        return DamagedShard(shard, address, "is missing", ids)
    if hashlib.sha256(data).hexdigest() == record.sha256:
        return len(record)
    return DamagedShard(shard, address, "has changed since it was written", _lost(layout, data, record))


def _lost(layout: ShardLayout, data: bytes, record: ShardRecord) -> tuple[int, ...]:
    """Ids of the synapses whose chunks are no longer those that were written."""
    array = layout.decode(data)
    lost = []
    for place, (synapse_id, digest) in enumerate(zip(record.columns["synapse_id"], record.chunk_sha256, strict=True)):
        try:
            is_same = hashlib.sha256(np.ascontiguousarray(array[place]).data).hexdigest() == digest
        except (ValueError, RuntimeError, IndexError, TypeError):  # checksum or decoder
            is_same = False
        if not is_same:
            lost.append(synapse_id)
    return tuple(lost)
