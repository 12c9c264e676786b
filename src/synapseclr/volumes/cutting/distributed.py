"""Cut chunks by the workers of dask: shards are independent, so each worker stores what it has cut."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from synapseclr.errors import ConfigurationError, WorkerError

if TYPE_CHECKING:
    from synapseclr.volumes.cutting.source import CuttingSource
    from synapseclr.volumes.store.chunk_stream import ChunkBatch
    from synapseclr.volumes.store.shard_record import ShardRecord

logger = logging.getLogger(__name__)

TASKS_PER_WORKER = 4
SHARDS_PER_TASK = 256
_TASK_RETRIES = 3
CONNECT_S = 30.0
_sources: dict[str, CuttingSource] = {}


def write_distributed(
    source: CuttingSource, shards: Sequence[int], write: Callable[[int, ChunkBatch], ShardRecord]
) -> Iterator[ShardRecord]:
    """Cut and store shards on the workers of a dask scheduler, or of one started here.

    A task is a run of consecutive shards, whose synapses share storage blocks. When a worker is lost, dask gives its
    task to another one, which writes the same shards again.

    Args:
        source: What to cut.
        shards: Which shards.
        write: Stores a shard; sent to the workers.

    Yields:
        The record of every shard, as tasks end.

    Raises:
        ConfigurationError: If no scheduler answers at ``preprocessing.scheduler_address``.
        WorkerError: If a task was lost with several workers.
    """
    from distributed import Client, LocalCluster, as_completed
    from distributed.scheduler import KilledWorker

    config = source.config
    if not shards:
        return
    with ExitStack() as stack:
        if config.scheduler_address:
            try:
                client = stack.enter_context(Client(config.scheduler_address, timeout=CONNECT_S))
            except (OSError, TimeoutError, ValueError) as error:
                raise ConfigurationError(
                    f"No dask scheduler answers at preprocessing.scheduler_address = {config.scheduler_address} "
                    f"({type(error).__name__}). Start one with `dask scheduler` and `dask worker`, or set it to null."
                ) from error
        else:
            cluster = stack.enter_context(
                LocalCluster(
                    n_workers=config.workers, threads_per_worker=1, dashboard_address=None, silence_logs=logging.ERROR
                )
            )
            client = stack.enter_context(Client(cluster))
        n_workers = max(len(client.scheduler_info(n_workers=-1)["workers"]), config.workers, 1)
        tasks = [
            client.submit(_cut, source.select(run), run, write, pure=False, retries=_TASK_RETRIES)
            for run in runs(shards, n_workers)
        ]
        for future in as_completed(tasks):
            try:
                yield from future.result()
            except KilledWorker as error:
                raise WorkerError(
                    f"Workers of dask were lost while cutting chunks ({error}). The shards stored so far are kept: run "
                    "`kedro run --pipeline=preprocessing` again, with more memory a worker or a smaller "
                    "preprocessing.volume_cache_mb."
                ) from error
            future.release()


def runs(shards: Sequence[int], n_workers: int) -> list[range]:
    """Divide ascending shard numbers into runs of consecutive ones, several a worker."""
    longest = min(max(len(shards) // (TASKS_PER_WORKER * n_workers), 1), SHARDS_PER_TASK)
    found: list[range] = []
    for shard in shards:
        if found and found[-1].stop == shard and len(found[-1]) < longest:
            found[-1] = range(found[-1].start, shard + 1)
        else:
            found.append(range(shard, shard + 1))
    return found


def _cut(source: CuttingSource, shards: range, write: Callable[[int, ChunkBatch], Any]) -> list[ShardRecord]:
    """Runs on a worker; volumes stay open, and blocks decoded, from one task to the next."""
    before = _sources.get(source.fingerprint)
    if before is None:
        _sources.clear()
        _sources[source.fingerprint] = before = source
    source.__dict__["cutter"] = before.cutter
    return [write(shard, source.cut(shard)) for shard in shards]
