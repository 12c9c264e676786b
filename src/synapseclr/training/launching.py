"""Several processes on one or more machines, by torch elastic's public launcher, from one process of each machine.

That process, in which Kedro runs, is never run again: it waits for its workers, hands on what they report and log, and
raises the one error that explains the others.
"""

from __future__ import annotations

import ipaddress
import logging
import multiprocessing
import os
import pickle
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from synapseclr.errors import ConfigurationError, SynapseCLRError, TrainingInterrupted, WorkerError
from synapseclr.parameters import Parameters
from synapseclr.training.workers import COLLECTIVE_TIMEOUT, Job, Mailbox, RaisedError, run_worker

logger = logging.getLogger(__name__)

_POLL_S = 0.2
_SHUTDOWN_S = 120
_HANDED_ON = "SIGTERM,SIGHUP,SIGQUIT"
"""Signals that elastic hands on to the workers. SIGINT is not among them: Ctrl-C has reached the workers already, and a
second one would end them without a checkpoint; Python's KeyboardInterrupt lets elastic end them by SIGTERM."""
_AGAIN = "Run the same command again to continue from the last checkpoint."


class RendezvousConfig(Parameters):
    """Meeting place of machines: a key-value store that one of them hosts (torch elastic's ``c10d``)."""

    endpoint: str | None = Field(
        None, description="host:port of the machine that hosts the meeting place; the same on every machine."
    )
    id: str = Field("synapseclr", min_length=1, description="Name of the job, where one endpoint serves several.")
    timeout_s: int = Field(600, ge=1, description="How long a machine waits for the endpoint, and for the others.")

    @field_validator("endpoint")
    @classmethod
    def _names_a_port(cls, endpoint: str | None) -> str | None:
        host, _, port = (endpoint or "host:1").rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 2**16:
            raise ValueError(f"rendezvous.endpoint is '{endpoint}', expected host:port, such as node01:29400.")
        return endpoint


class ScaleConfig(Parameters):
    """Processes to run on. The defaults are one process: the one that runs already."""

    devices: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        1, description="Processes on each machine, one a GPU (or so many on the CPU); auto: as many as there are GPUs."
    )
    nodes: int = Field(1, ge=1, description="Machines; each runs the same command.")
    rendezvous: RendezvousConfig = Field(default_factory=RendezvousConfig)

    @model_validator(mode="after")
    def _machines_can_meet(self) -> ScaleConfig:
        if self.nodes > 1 and self.rendezvous.endpoint is None:
            raise ValueError(
                f"nodes is {self.nodes}, but rendezvous.endpoint is not set. Set it to host:port of one of the "
                "machines, the same on all of them."
            )
        return self

    def is_one_process(self, on_gpu: bool | None) -> bool:
        """Tell if one process on one machine does it all; ``on_gpu`` as in :meth:`devices_here`."""
        return self.nodes == 1 and self.devices_here(on_gpu) == 1

    def devices_here(self, on_gpu: bool | None) -> int:
        """Number of processes on this machine.

        Args:
            on_gpu: Whether each process takes a GPU; None: if the machine has one.

        Raises:
            ConfigurationError: If there are fewer GPUs than devices.
        """
        n_gpus = _count_gpus() if on_gpu is not False and (self.devices != 1 or on_gpu) else 0
        if self.devices == "auto":
            return max(1, n_gpus)
        if self.devices > 1 and (n_gpus or on_gpu) and self.devices > n_gpus:
            raise ConfigurationError(
                f"devices is {self.devices}, but this machine has {n_gpus} GPU{'' if n_gpus == 1 else 's'}. Set "
                "devices to auto or to at most as many, or compute on the CPU."
            )
        return self.devices


def _count_gpus() -> int:
    import torch

    return torch.cuda.device_count()


@dataclass
class _Launches:
    """State of this process over its launches.

    Attributes:
        n: Their number: the n-th one meets under the n-th name, so that no machine mistakes an earlier one for it.
        machine: Index of this machine in the last one.
        stores: By endpoint. The hosting process keeps its own to its end: the next launch meets there again.
    """

    n: int = 0
    machine: int = 0
    stores: dict[str, Any] = field(default_factory=dict)


_launches = _Launches()


def machine_index() -> int:
    """Index of this machine in the last launch of this process; machine 0 hosts rank 0, and its results are kept."""
    return _launches.machine


def launch(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    scale: ScaleConfig,
    on_gpu: bool | None,
    report: Callable[..., None] = lambda *_: None,
) -> Any:
    """Call a function in ``scale.devices`` processes on each of ``scale.nodes`` machines.

    Call it in the same order on every machine, in the main thread where signals are to be handed on. The processes
    form the default process group of torch.distributed: nccl with GPUs, else gloo. Each takes its share of the CPUs as
    threads unless OMP_NUM_THREADS is set. Log records of rank 0 and errors of all come to this process's loggers.
    SIGTERM and SIGINT end the workers, which have two minutes for it (30 s
    where torch has no such setting).

    Args:
        function: Importable by name; called with ``arguments`` and a reporting function, which on rank 0 hands what
            JSON can hold to ``report`` in this process, while the function runs.
        arguments: Picklable.
        scale: Devices, machines, and where they meet.
        on_gpu: Whether each process takes a GPU; None: if the machine has one.
        report: Called in a thread of this process, on machine 0. What it raises ends the workers, and is raised here.

    Returns:
        What the function returned on rank 0, on every machine.

    Raises:
        ConfigurationError: If the machines cannot meet.
        WorkerError: If a worker was killed, or lost the others.
        BaseException: What a worker raised, on the machine where it did.
    """
    import torch
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    devices = scale.devices_here(on_gpu)
    on_gpu = torch.cuda.is_available() if on_gpu is None else on_gpu
    level = logging.getLogger("synapseclr").getEffectiveLevel()
    job = _pickled(Job(function, arguments, on_gpu, level, _threads(devices), scale.nodes))
    options = _meeting(scale)
    if "shutdown_timeout" in LaunchConfig.__dataclass_fields__:
        options["shutdown_timeout"] = _SHUTDOWN_S
    config = LaunchConfig(
        min_nodes=scale.nodes,
        max_nodes=scale.nodes,
        nproc_per_node=devices,
        rdzv_backend="c10d",
        max_restarts=0,
        monitor_interval=_POLL_S,
        start_method="spawn",
        logs_specs=DefaultLogsSpecs(os.devnull),
        signals_to_handle=_HANDED_ON,
        **options,
    )
    failure: BaseException
    with (
        tempfile.TemporaryDirectory(prefix="synapseclr-workers-") as folder,
        _signals_restored(),
        _quiet_elastic(),
        nullcontext() if b"__main__" in job else _main_hidden(),
    ):
        conversation = _Conversation(Mailbox(folder), devices, report)
        try:
            with conversation:
                results = elastic_launch(config, run_worker)(folder, job)
        except ChildFailedError as error:
            found: dict[int, tuple[int, int | None]] = {
                rank: (each.pid, each.exitcode) for rank, each in error.failures.items()
            }
            failure = cause(conversation.mailbox.errors(), conversation.ended_workers(found))
        except SignalException as error:
            failure = _interruption(conversation.mailbox, error.sigval)
        except KeyboardInterrupt:
            failure = _interruption(conversation.mailbox, signal.SIGINT)
        except Exception as error:
            explained = explain(error, scale)
            if explained is None:
                raise
            raise explained from error
        else:
            _launches.machine = min(results) // devices  # results are by rank, those of one machine in a row
            if scale.nodes > 1:
                logger.info("This was machine %d of %d; machine 0 keeps the results.", machine_index(), scale.nodes)
            return pickle.loads(results[min(results)])
    raise failure


class _Conversation:
    """Listens to the workers of this machine, in a thread of its own, while the calling one waits for them.

    Args:
        mailbox: Where they leave messages.
        n_workers: How many there are on this machine.
        report: Called with the content of reports.
    """

    def __init__(self, mailbox: Mailbox, n_workers: int, report: Callable[..., None]) -> None:
        self.mailbox = mailbox
        self._n_workers = n_workers
        self._report = report
        self._pids: dict[int, int] = {}
        self._processes: dict[int, multiprocessing.process.BaseProcess] | None = None
        self._failure: BaseException | None = None
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True, name="worker-messages")

    def __enter__(self) -> _Conversation:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        self._hand_on()
        if self._failure is not None:
            raise self._failure

    def ended_workers(self, found: dict[int, tuple[int, int | None]]) -> list[EndedWorker]:
        """The ends of this machine's workers, by rank.

        Args:
            found: Process id and exit code by rank, of those that elastic has found ended.
        """
        known = {rank: (process.pid or 0, process.exitcode) for rank, process in (self._processes or {}).items()}
        every = sorted((found | known).items())
        return [EndedWorker(rank, pid, exit_code, socket.gethostname()) for rank, (pid, exit_code) in every]

    def _listen(self) -> None:
        while not self._is_over.wait(_POLL_S):
            self._hand_on()

    def _hand_on(self) -> None:
        """Pass on what the workers have said since the last time."""
        for kind, *content in self.mailbox.collect():
            if kind == "started":
                self._pids[content[0]] = content[1]
            elif kind == "report":
                self._tell(*content)
            else:
                name, level, text = content
                logging.getLogger(name).log(level, "%s", text)
        if self._processes is None and len(self._pids) == self._n_workers:
            # elastic tells how one worker ended; the processes themselves tell it of all
            children = {process.pid: process for process in multiprocessing.active_children()}
            self._processes = {rank: children[pid] for rank, pid in self._pids.items() if pid in children}

    def _tell(self, *content: Any) -> None:
        """Report; if that fails, end the workers, whose end then ends the waiting."""
        if self._failure is not None:
            return
        try:
            self._report(*content)
        except BaseException as error:
            self._failure = error
            for pid in self._pids.values():
                os.kill(pid, signal.SIGTERM)


def _pickled(job: Job) -> bytes:
    try:
        return pickle.dumps(job)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise TypeError(f"What the workers are to do cannot be sent to them: {error}") from error


def _interruption(mailbox: Mailbox, number: signal.Signals) -> BaseException:
    """The workers' own error after a signal to this process; without one, the exit of a process that a signal ends."""
    if any(isinstance(raised.error, TrainingInterrupted) for raised in mailbox.errors()):
        return TrainingInterrupted(number)
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)


def _threads(devices: int) -> int | None:
    if "OMP_NUM_THREADS" in os.environ:
        return None
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cpus // devices)


@contextmanager
def _signals_restored() -> Iterator[None]:
    """Elastic's agent sets handlers of its own and leaves them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {name: signal.getsignal(signal.Signals[name]) for name in _HANDED_ON.split(",")}
    try:
        yield
    finally:
        for name, handler in handlers.items():
            signal.signal(signal.Signals[name], handler)


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Spawned processes would import the main module again: the whole of Kedro, or a script that has no guard."""
    names = vars(sys.modules["__main__"])
    hidden: dict[str, Any] = {name: names.pop(name) for name in ("__spec__", "__file__") if name in names}
    names["__spec__"] = None
    try:
        yield
    finally:
        names.update(hidden)


@contextmanager
def _quiet_elastic() -> Iterator[None]:
    """One error is raised; elastic's own account of the same events would come before it."""
    names = [name for name in logging.root.manager.loggerDict if name.startswith(("torch.distributed", "torch.multi"))]
    names.append("torchelastic-events-null")
    loggers = [each for each in map(logging.getLogger, names) if not each.disabled]
    try:
        for each in loggers:
            each.disabled = True
        yield
    finally:
        for each in loggers:
            each.disabled = False


def _meeting(scale: ScaleConfig) -> dict[str, Any]:
    """Options of a launch that say where and under which name the machines meet; on one machine, a private place.

    Raises:
        ConfigurationError: If the endpoint cannot be reached in time; names it.
    """
    from torch.distributed.elastic.rendezvous import RendezvousConnectionError, RendezvousParameters
    from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import create_backend

    _launches.n += 1
    meeting = scale.rendezvous
    endpoint = meeting.endpoint if scale.nodes > 1 and meeting.endpoint else "127.0.0.1:0"
    name = f"{meeting.id}.{_launches.n}"
    timeouts = {"join_timeout": meeting.timeout_s, "read_timeout": meeting.timeout_s}
    if scale.nodes > 1 and endpoint not in _launches.stores:
        parameters = RendezvousParameters("c10d", endpoint, name, scale.nodes, scale.nodes, None, **timeouts)
        try:
            _launches.stores[endpoint] = create_backend(parameters)[1]  # elastic's own, later, shares its server
        except RendezvousConnectionError as error:
            raise ConfigurationError(
                f"The rendezvous endpoint {endpoint} could not be reached within {meeting.timeout_s} s "
                f"({_root(error)}). Check that the command runs on that machine, that rendezvous.endpoint names it and "
                "a free port, and that no firewall is between; rendezvous.timeout_s is how long to wait."
            ) from error
    address = _own_address(endpoint.rpartition(":")[0])
    return {"run_id": name, "rdzv_endpoint": endpoint, "rdzv_configs": timeouts, "local_addr": address}


def explain(error: Exception, scale: ScaleConfig) -> ConfigurationError | None:
    """Say of a rendezvous that failed what happened and what to do; None for other errors."""
    from torch.distributed.elastic.rendezvous import (
        RendezvousClosedError,
        RendezvousConnectionError,
        RendezvousError,
        RendezvousTimeoutError,
    )

    meeting = scale.rendezvous
    where = f"the rendezvous '{meeting.id}' at {meeting.endpoint}"
    if isinstance(error, RendezvousTimeoutError):
        return ConfigurationError(
            f"nodes is {scale.nodes}, but not so many machines came to {where} within {meeting.timeout_s} s. Run the "
            "same command on every machine, with the same nodes, rendezvous.endpoint and rendezvous.id."
        )
    if isinstance(error, RendezvousClosedError):
        return ConfigurationError(
            f"An earlier job has closed {where}. End what is left of it on that machine, or choose another "
            "rendezvous.id on every machine."
        )
    if isinstance(error, RendezvousConnectionError):
        return ConfigurationError(
            f"The connection to {where} was lost: the machine that hosts it has ended or cannot be reached any more. "
            "Its output names the cause. Run the same command again on every machine to continue from the last "
            "checkpoint."
        )
    if isinstance(error, RendezvousError):
        return ConfigurationError(f"{where.capitalize()} failed: {_root(error)}.")
    return None


def _own_address(endpoint_host: str) -> str | None:
    """The address that this machine has towards the endpoint; None, its host name, where that says nothing."""
    try:
        family, _, _, _, address = socket.getaddrinfo(endpoint_host, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)  # sends nothing
            own = str(probe.getsockname()[0])
    except OSError:
        return None
    wants_loopback = endpoint_host == "localhost" or _is_loopback(endpoint_host)
    return None if _is_loopback(own) and not wants_loopback else own


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _root(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())[:200].rstrip(".")


@dataclass(frozen=True)
class EndedWorker:
    """End of a worker's process.

    Attributes:
        rank: Among all workers of the job.
        pid: Of the process.
        exit_code: Negative: the signal that killed it; None: it has not ended.
        host: Its machine.
    """

    rank: int
    pid: int
    exit_code: int | None
    host: str


def cause(raised: list[RaisedError], ended: list[EndedWorker]) -> BaseException:
    """The one error to tell: the others lost a process that they were waiting for, or were told to end.

    Args:
        raised: What the workers of this machine raised, earliest first.
        ended: How their processes ended.
    """
    for kind in (SynapseCLRError, TrainingInterrupted):
        for each in raised:
            if isinstance(each.error, kind):
                return each.error
    own_accord = [worker for worker in ended if worker.rank not in {each.rank for each in raised}]
    killed = [worker for worker in own_accord if (worker.exit_code or 0) < 0]
    silent = [worker for worker in killed if worker.exit_code == -signal.SIGKILL]
    if silent and any(_has_waited(each.error) for each in raised):
        return _was_silent(silent[0])
    # the launching process itself ends the survivors with SIGTERM
    for worker in sorted(killed, key=lambda worker: worker.exit_code == -signal.SIGTERM):
        if worker.exit_code != -signal.SIGTERM or not raised:
            return _was_killed(worker)
    for each in raised:
        if not _lost_another(each.error):
            return each.error
    if raised:
        lost = WorkerError(
            f"The worker of rank {raised[0].rank} lost the connection to a process on another machine: "
            f"{raised[0].error}. That machine's output names the cause. Run the same command again on every machine to "
            "continue from the last checkpoint."
        )
        lost.__cause__ = raised[0].error
        return lost
    codes = ", ".join(f"rank {worker.rank}: {worker.exit_code}" for worker in ended)
    return WorkerError(f"The workers ended without a result (exit codes of {codes}). {_AGAIN}")


def _was_killed(worker: EndedWorker) -> WorkerError:
    number = -(worker.exit_code or 0)
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    hint = " (kill -9, or the system ran out of memory)" if number == signal.SIGKILL else ""
    return WorkerError(
        f"The worker of rank {worker.rank} (process {worker.pid} on {worker.host}) was killed by {name}{hint}; "
        f"the other workers were ended. {_AGAIN}"
    )


def _was_silent(worker: EndedWorker) -> WorkerError:
    """It was ended by the launching process, since SIGTERM does not reach a stopped process."""
    minutes = COLLECTIVE_TIMEOUT.total_seconds() / 60
    return WorkerError(
        f"The worker of rank {worker.rank} (process {worker.pid} on {worker.host}) did not answer the others for "
        f"{minutes:.0f} minutes: it was stopped (SIGSTOP, a debugger, a suspended machine) or hangs in reading. All "
        f"workers were ended. {_AGAIN}"
    )


def _has_waited(error: BaseException) -> bool:
    """Tell the error of a collective operation in which another process is there but does not answer."""
    return _lost_another(error) and "timed out" in str(error).lower()


def _lost_another(error: BaseException) -> bool:
    """Tell the error of a collective operation that has lost another process."""
    from torch.distributed import DistError

    text = str(error).lower()
    return isinstance(error, DistError) or any(word in text for word in ("gloo", "connection", "nccl"))
