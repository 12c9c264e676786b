"""What runs in each worker process, around the function that the job names."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from synapseclr.errors import TrainingInterrupted
from synapseclr.training.scale.mailbox import Mailbox, MailboxHandler

COLLECTIVE_TIMEOUT = timedelta(minutes=30)
"""How long workers wait for one of them that does not answer."""


@dataclass(frozen=True)
class Job:
    """What every worker does.

    Attributes:
        function: Called in every worker with ``arguments`` and a reporting function as its last argument; what it
            returns on rank 0 is the result.
        arguments: Positional arguments.
        on_gpu: Whether each worker takes the GPU of its local rank; else they talk through gloo on the CPU.
        log_level: Of rank 0's log records; the other ranks tell errors only.
        n_threads: CPU threads of each worker; None: as torch chooses.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    on_gpu: bool
    log_level: int
    n_threads: int | None


def run_worker(folder: str) -> None:
    """Join the process group, do the job that lies in the mailbox, and leave the result or the error there."""
    mailbox = Mailbox(folder)
    rank = int(os.environ["RANK"])
    try:
        _do(mailbox, rank)
    except SystemExit as error:
        if isinstance(error, TrainingInterrupted):
            mailbox.put_error(rank, error)
        elif error.code:
            mailbox.put_error(rank, RuntimeError(f"The worker of rank {rank} left with exit status {error.code}."))
        raise
    except KeyboardInterrupt as error:
        mailbox.put_error(rank, error)
        sys.exit(130)  # torch.multiprocessing would take the interrupt for a regular end
    except BaseException as error:
        mailbox.put_error(rank, error)
        raise


def _do(mailbox: Mailbox, rank: int) -> None:
    import torch
    from torch import distributed

    job: Job = mailbox.job()
    _configure_logging(mailbox, rank, job)
    if job.n_threads is not None:
        torch.set_num_threads(job.n_threads)
    if job.on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if job.on_gpu else "gloo", timeout=COLLECTIVE_TIMEOUT)

    def report(*content: Any) -> None:
        if rank == 0:
            mailbox.post(rank, "report", *content)

    result = _spread(job.function(*job.arguments, report))
    if int(os.environ["LOCAL_RANK"]) == 0:
        mailbox.put_result(result)
    distributed.barrier()
    distributed.destroy_process_group()


def _spread(result: Any) -> Any:
    """Rank 0's result, on the first worker of every machine."""
    from torch import distributed

    devices, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    if devices == world:
        return result
    firsts = distributed.new_group(list(range(0, world, devices)), backend="gloo")
    if int(os.environ["LOCAL_RANK"]) != 0:
        return None
    box = [result]
    distributed.broadcast_object_list(box, src=0, group=firsts)
    return box[0]


def _configure_logging(mailbox: Mailbox, rank: int, job: Job) -> None:
    level = job.log_level if rank == 0 else max(job.log_level, logging.ERROR)
    root = logging.getLogger()
    root.handlers = [MailboxHandler(mailbox, rank, level)]
    root.setLevel(logging.WARNING)
    logging.getLogger("synapseclr").setLevel(level)
