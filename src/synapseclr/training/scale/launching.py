"""Run a function in several processes on one or more machines, from one process of each that is never run again."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import Any

from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException

from synapseclr.errors import ConfigurationError, TrainingInterrupted
from synapseclr.training.scale import machines
from synapseclr.training.scale.config import ScaleConfig
from synapseclr.training.scale.failures import EndedWorker, cause
from synapseclr.training.scale.mailbox import Mailbox
from synapseclr.training.scale.rendezvous import explain, open_rendezvous
from synapseclr.training.scale.worker import Job, run_worker

logger = logging.getLogger(__name__)

_ROLE = "worker"
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_SHUTDOWN_S = 120


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
    SIGTERM and SIGINT are handed on to the workers, which have two minutes to end.

    Args:
        function: Importable by name; called with ``arguments`` and a reporting function, which on rank 0 hands what
            JSON can hold to ``report`` in this process, while the function runs.
        arguments: Picklable.
        scale: Devices, machines, and where they meet.
        on_gpu: Whether each process takes a GPU; None: if the machine has one.
        report: Called in this process's main thread, on machine 0.

    Returns:
        What the function returned on rank 0, on every machine.

    Raises:
        ConfigurationError: If the machines cannot meet.
        WorkerError: If a worker was killed, or lost the others.
        BaseException: What a worker raised, on the machine where it did.
    """
    devices = scale.devices_here(on_gpu)
    on_gpu = _have_gpu() if on_gpu is None else on_gpu
    level = logging.getLogger("synapseclr").getEffectiveLevel()
    job = Job(function, arguments, on_gpu, level, _threads(devices))
    with tempfile.TemporaryDirectory(prefix="synapseclr-workers-") as folder, _signals_restored(), _quiet_elastic():
        mailbox = Mailbox(folder)
        needs_main = mailbox.put_job(job)
        handler = open_rendezvous(scale)
        specification = WorkerSpec(
            role=_ROLE,
            local_world_size=devices,
            entrypoint=run_worker,
            args=(folder,),
            rdzv_handler=handler,
            max_restarts=0,
            monitor_interval=0.2,
        )
        agent = _Agent(specification, scale, mailbox, report, needs_main)
        try:
            result = agent.run()
        except SignalException as error:
            agent.hand_on_messages()
            raise _interruption(mailbox, error.sigval) from None
        except Exception as error:
            explained = explain(error, scale)
            if explained is None:
                raise
            raise explained from error
        finally:
            handler.shutdown()
        agent.hand_on_messages()
        if result.is_failed():
            raise cause(mailbox.errors(), agent.ended_workers())
        machines.index = agent.machine
        if scale.nodes > 1:
            logger.info("This was machine %d of %d; machine 0 keeps the results.", agent.machine, scale.nodes)
        return mailbox.result()


class _Agent(LocalElasticAgent):
    """Elastic's agent, which also hands the workers' messages on, and knows how each of them ended."""

    def __init__(
        self, spec: WorkerSpec, scale: ScaleConfig, mailbox: Mailbox, report: Callable[..., None], needs_main: bool
    ) -> None:
        super().__init__(spec, DefaultLogsSpecs(os.devnull), start_method="spawn", shutdown_timeout=_SHUTDOWN_S)
        self.machine = 0
        self._scale = scale
        self._mailbox = mailbox
        self._report = report
        self._needs_main = needs_main
        self._signal: signal.Signals | None = None
        self._started: dict[int, multiprocessing.process.BaseProcess] = {}

    def hand_on_messages(self) -> None:
        """Pass on what the workers have said since the last time."""
        for kind, *content in self._mailbox.collect():
            if kind == "report":
                self._report(*content)
            else:
                name, level, text = content
                logging.getLogger(name).log(level, "%s", text)

    def ended_workers(self) -> list[EndedWorker]:
        """How the workers of this machine ended, by rank."""
        return [
            EndedWorker(rank, process.pid or 0, process.exitcode, socket.gethostname())
            for rank, process in sorted(self._started.items())
        ]

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
        workers = worker_group.workers
        if workers[0].world_size != self._scale.nodes * len(workers):
            raise ConfigurationError(
                f"This machine brings {len(workers)} of {workers[0].world_size} processes, but {self._scale.nodes} "
                "machines are to bring equally many. Give the same number of devices on every machine."
            )
        self.machine = int(worker_group.group_rank or 0)
        with nullcontext() if self._needs_main else _main_hidden():
            ids = super()._start_workers(worker_group)
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:  # elastic's own handlers raise wherever they are, where logging may catch it
                signal.signal(number, self._note)
        children = {process.pid: process for process in multiprocessing.active_children()}
        self._started = {
            workers[local_rank].global_rank: children[pid] for local_rank, pid in ids.items() if pid in children
        }
        return ids

    def _shutdown(self, death_sig: signal.Signals = signal.SIGTERM, timeout: int = 30) -> None:
        """End the workers by SIGTERM: Ctrl-C has sent them SIGINT already, and a second would end them at once."""
        super()._shutdown(signal.SIGTERM, timeout)

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        self.hand_on_messages()
        result = super()._monitor_workers(worker_group)
        if self._signal is not None and result.state == WorkerState.HEALTHY:
            raise SignalException(f"{self._signal.name} came.", self._signal)
        return result

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._signal = signal.Signals(number)


def _interruption(mailbox: Mailbox, number: signal.Signals) -> BaseException:
    """What the workers made of a signal to this process; where they made nothing of it, what a shell would report."""
    if any(isinstance(raised.error, TrainingInterrupted) for raised in mailbox.errors()):
        return TrainingInterrupted(number)
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)


def _threads(devices: int) -> int | None:
    if "OMP_NUM_THREADS" in os.environ:
        return None
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cpus // devices)


def _have_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@contextmanager
def _signals_restored() -> Iterator[None]:
    """Elastic's agent sets handlers of its own and leaves them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


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
