"""Chunks from a folder, on their way into the chunk store."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from synapseclr.errors import TableError
from synapseclr.volumes.importing.files import UnusableFileError
from synapseclr.volumes.importing.folders import FOLDERS, ChunkFolder
from synapseclr.volumes.store.chunk_stream import ChunkBatch, ChunkStream, ShardSource
from synapseclr.volumes.store.shard_record import ShardRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synapseclr.volumes.config import PreprocessingConfig
    from synapseclr.volumes.importing.source import ChunkSource

logger = logging.getLogger(__name__)

_READERS = 8


def import_chunks(source: ChunkSource, synapses: pd.DataFrame, config: PreprocessingConfig) -> ChunkStream:
    """Import a folder of chunks, in its own order. An interrupted import is continued.

    The folder says which synapses there are; the table may have more. A chunk whose files are missing, damaged or do
    not fit, or whose synapse the table does not have, is rejected with a reason that names the file.

    Args:
        source: A folder of ``processed_chunks`` or ``raw_chunks``.
        synapses: As :func:`synapseclr.volumes.tables.check_synapse_table` returns it.
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
