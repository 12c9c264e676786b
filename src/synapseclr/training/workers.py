"""The worker process: its job, its mailbox to the process that launched it, its rank, and its share of the work."""

from __future__ import annotations

import gc
import json
import logging
import os
import pickle
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synapseclr.errors import ConfigurationError, SynapseCLRError, TrainingInterrupted

if TYPE_CHECKING:
    from torch import Tensor

COLLECTIVE_TIMEOUT = timedelta(minutes=30)
"""Time after which a collective operation fails because a worker does not answer."""


@dataclass(frozen=True)
class Job:
    """Work of every worker.

    Attributes:
        function: Called in every worker with ``arguments`` and a reporting function as its last argument; what it
            returns on rank 0 is the result.
        arguments: Positional arguments.
        on_gpu: Whether each worker takes the GPU of its local rank; else they talk through gloo on the CPU.
        log_level: Of rank 0's log records; the other ranks tell errors only.
        n_threads: CPU threads of each worker; None: as torch chooses.
        n_machines: Machines that work together, with equally many workers each.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    on_gpu: bool
    log_level: int
    n_threads: int | None
    n_machines: int


@dataclass(frozen=True)
class RaisedError:
    """Exception that a worker raised.

    Attributes:
        rank: Of the worker among all workers of the job.
        time_s: When, in seconds of the clock that all processes of a machine share and nobody sets.
        error: The exception; its notes hold the worker's traceback.
    """

    rank: int
    time_s: float
    error: BaseException


@dataclass
class Mailbox:
    """A folder for reports, log records and errors of the workers of one machine.

    Files need no lock and no reader: a worker that is killed in the middle of a line leaves the others' words intact.

    Attributes:
        folder: A folder that only this user can write to.
    """

    folder: str
    _read: dict[str, int] = field(default_factory=dict)

    def post(self, rank: int, kind: str, *content: Any) -> None:
        """Add one line to a worker's messages; the content must be what JSON can hold."""
        with Path(self.folder, f"messages-{rank}.jsonl").open("a") as file:
            file.write(json.dumps([kind, *content]) + "\n")

    def collect(self) -> list[list[Any]]:
        """The messages, as [kind, content, ...], that came since the last call."""
        messages: list[list[Any]] = []
        for path in sorted(Path(self.folder).glob("messages-*.jsonl")):
            with path.open("rb") as file:
                file.seek(self._read.get(path.name, 0))
                whole = file.read().rpartition(b"\n")[0]  # what follows is a line in the making
            self._read[path.name] = self._read.get(path.name, 0) + (len(whole) + 1 if whole else 0)
            messages += [json.loads(line) for line in whole.splitlines()]
        return messages

    def put_error(self, rank: int, error: BaseException) -> None:
        """Leave an exception; one that cannot be pickled, or cannot be made again, as its text."""
        if not isinstance(error, SynapseCLRError | TrainingInterrupted):
            error.add_note(f"In the worker of rank {rank}:\n{''.join(traceback.format_exception(error))}")
        try:
            data = pickle.dumps((rank, time.monotonic(), error))
            pickle.loads(data)
        except Exception:
            told = RuntimeError(f"{type(error).__name__}: {error}")
            for note in getattr(error, "__notes__", ()):
                told.add_note(note)
            data = pickle.dumps((rank, time.monotonic(), told))
        partial = Path(self.folder, f"error-{rank}.partial")
        partial.write_bytes(data)
        partial.replace(partial.with_suffix(".pickle"))

    def errors(self) -> list[RaisedError]:
        """Exceptions that the workers raised, earliest first."""
        found = [pickle.loads(path.read_bytes()) for path in Path(self.folder).glob("error-*.pickle")]
        return sorted((RaisedError(*content) for content in found), key=lambda error: error.time_s)


class MailboxHandler(logging.Handler):
    """Hands a worker's log records to the launching process, whose handlers show them."""

    def __init__(self, mailbox: Mailbox, rank: int, level: int) -> None:
        super().__init__(level)
        self._mailbox = mailbox
        self._rank = rank

    def emit(self, record: logging.LogRecord) -> None:
        """Post the record's text."""
        try:
            self._mailbox.post(self._rank, "log", record.name, record.levelno, record.getMessage())
        except Exception:
            self.handleError(record)


def run_worker(folder: str, job: bytes) -> bytes | None:
    """Join the process group and do the job; an error is left in the mailbox before it ends the process.

    Args:
        folder: Of the mailbox.
        job: A pickled :class:`Job`.

    Returns:
        The pickled result of rank 0, on the first worker of every machine; None on the others. (Bytes, since tensors
        would travel through shared memory, of which a container may have little.)
    """
    mailbox = Mailbox(folder)
    rank = int(os.environ["RANK"])
    mailbox.post(rank, "started", rank, os.getpid())
    try:
        return _do(mailbox, rank, pickle.loads(job))
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
    finally:
        gc.freeze()  # Python ends with a search for cycles among all objects: two seconds for nothing


def _do(mailbox: Mailbox, rank: int, job: Job) -> bytes | None:
    import torch
    from torch import distributed

    _configure_logging(mailbox, rank, job)
    devices, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    if world != job.n_machines * devices:
        raise ConfigurationError(
            f"This machine brings {devices} of {world} processes, but {job.n_machines} machines are to bring equally "
            "many. Give the same number of devices on every machine."
        )
    if job.n_threads is not None:
        torch.set_num_threads(job.n_threads)
    if job.on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if job.on_gpu else "gloo", timeout=COLLECTIVE_TIMEOUT)

    def report(*content: Any) -> None:
        if rank == 0:
            mailbox.post(rank, "report", *content)

    result = _spread(job.function(*job.arguments, report), devices, world)
    distributed.barrier()
    distributed.destroy_process_group()
    return pickle.dumps(result) if int(os.environ["LOCAL_RANK"]) == 0 else None


def _spread(result: Any, devices: int, world: int) -> Any:
    """Rank 0's result, on the first worker of every machine."""
    from torch import distributed

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


def rank() -> int:
    """Of this process among all of the job."""
    group = _group()
    return group.get_rank() if group else 0


def world_size() -> int:
    """Number of processes of the job."""
    group = _group()
    return group.get_world_size() if group else 1


def trainer_processes() -> dict[str, Any]:
    """Arguments of ``lightning.Trainer`` for the processes that there are."""
    if not _group():
        return {"devices": 1}
    devices = int(os.environ["LOCAL_WORLD_SIZE"])
    return {"devices": devices, "num_nodes": world_size() // devices, "strategy": "ddp"}


def own_share(n: int) -> range:
    """Indices of this process's share of n items: consecutive, the ranks' shares following each other."""
    return range(n * rank() // world_size(), n * (rank() + 1) // world_size())


def barrier() -> None:
    """Wait until all processes of the job are here."""
    group = _group()
    if group:
        group.barrier()


def from_first(make: Callable[[], Any] | None) -> Any:
    """Give every process what rank 0 makes.

    Args:
        make: Called on rank 0 alone.
    """
    group = _group()
    made = make() if rank() == 0 and make is not None else None
    if not group:
        return made
    box = [made]
    group.broadcast_object_list(box, src=0)
    return box[0]


def join_shares(own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Concatenate the processes' rows by name, in rank order, on every process.

    Args:
        own: Tensors on the CPU; a process without a share may give none.
    """
    group = _group()
    if not group:
        return dict(own)
    parts: list[Mapping[str, Tensor]] = [{}] * world_size()
    group.all_gather_object(parts, dict(own))
    return _concatenate(parts)


def _concatenate(parts: list[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    import torch

    names = dict.fromkeys(name for part in parts for name in part)
    return {name: torch.cat([part[name] for part in parts if name in part]) for name in names}


def _group() -> Any:
    """Return ``torch.distributed`` where several processes work together, else None."""
    from torch import distributed

    together = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
    return distributed if together else None
