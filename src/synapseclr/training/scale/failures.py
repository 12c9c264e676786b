"""Which of several workers' ends was the cause of all."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from synapseclr.errors import SynapseCLRError, TrainingInterrupted, WorkerError
from synapseclr.training.scale.mailbox import RaisedError
from synapseclr.training.scale.worker import COLLECTIVE_TIMEOUT

_AGAIN = "Run the same command again to continue from the last checkpoint."


@dataclass(frozen=True)
class EndedWorker:
    """How a worker's process ended.

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
    """Whether an exception is what a collective operation raises when another process is there but does not answer."""
    return _lost_another(error) and "timed out" in str(error).lower()


def _lost_another(error: BaseException) -> bool:
    """Whether an exception is what a collective operation raises when another process has gone."""
    from torch.distributed import DistError

    text = str(error).lower()
    return isinstance(error, DistError) or any(word in text for word in ("gloo", "connection", "nccl"))
