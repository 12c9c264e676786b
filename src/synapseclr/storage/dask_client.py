"""The client of dask: workers of a cluster, or processes of this machine, and what to do when they are lost."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from synapseclr.errors import ConfigurationError, WorkerError

CONNECT_S = 30.0
TASK_RETRIES = 3


@contextmanager
def connected(scheduler_address: str | None, workers: int, setting: str) -> Iterator[Any]:
    """Connect to a scheduler, or start one with its workers on this machine for as long as the context lasts.

    Args:
        scheduler_address: Such as ``tcp://host:8786``; None: start workers here.
        workers: Processes to start here, of one thread each.
        setting: Group of parameters that has the address, for messages.

    Yields:
        ``distributed.Client``.

    Raises:
        ConfigurationError: If no scheduler answers.
    """
    from distributed import Client, LocalCluster

    if scheduler_address:
        try:
            client = Client(scheduler_address, timeout=CONNECT_S)
        except (OSError, TimeoutError, ValueError) as error:
            raise ConfigurationError(
                f"No dask scheduler answers at {setting}.scheduler_address = {scheduler_address} "
                f"({type(error).__name__}). Start one with `dask scheduler` and `dask worker`, or set it to null."
            ) from error
        with client:
            yield client
        return
    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs=logging.ERROR
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def number_of_workers(client: Any) -> int:
    """Workers that the scheduler has now."""
    return len(client.scheduler_info(n_workers=-1)["workers"])


def results_as_completed(futures: Iterable[Any], advice: str) -> Iterator[Any]:
    """Results of tasks, as they end.

    Args:
        futures: Of ``distributed``; each is released once its result is there.
        advice: Sentence for the error: what was being done, what is kept, and what to do.

    Raises:
        WorkerError: If a task was lost with several workers.
    """
    from distributed import as_completed
    from distributed.scheduler import KilledWorker

    for future in as_completed(futures):
        try:
            yield future.result()
        except KilledWorker as error:
            raise WorkerError(f"Workers of dask were lost ({error}). {advice}") from error
        future.release()
