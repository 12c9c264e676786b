"""The one error that is told of several workers' ends."""

import multiprocessing
import os
import signal
from datetime import timedelta

import pytest
import torch
from torch import distributed

from synapseclr.errors import TrainingInterrupted, WorkerError
from synapseclr.training.scale.failures import EndedWorker, cause
from synapseclr.training.scale.mailbox import RaisedError

TIMED_OUT = RuntimeError("[gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 1800000ms for recv operation")
CLOSED = RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4711")
ENDED = [EndedWorker(0, 10, 1, "node01"), EndedWorker(1, 11, -9, "node01")]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TIMED_OUT, r"rank 1 \(process 11 on node01\) did not answer the others for 30 minutes: it was stopped"),
        (CLOSED, r"rank 1 \(process 11 on node01\) was killed by SIGKILL \(kill -9"),
    ],
)
def test_a_worker_that_was_stopped_is_told_from_one_that_was_killed(error, said):
    found = cause([RaisedError(0, 1.0, error)], ENDED)
    assert isinstance(found, WorkerError)
    with pytest.raises(WorkerError, match=said):
        raise found


def test_what_a_worker_says_goes_before_what_became_of_the_others():
    raised = [RaisedError(0, 1.0, TIMED_OUT), RaisedError(1, 2.0, TrainingInterrupted(15))]
    assert isinstance(cause(raised, ENDED), TrainingInterrupted)
    own = ValueError("a request timed out")  # of the worker's own work
    assert "SIGKILL" in str(cause([RaisedError(0, 1.0, own)], ENDED))


def exchange(rank, place, pids, raised):
    """One of two workers: adds up a number with the other, over and over; the second one is stopped meanwhile."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{place}", rank=rank, world_size=2, timeout=timedelta(seconds=2)
    )
    pids.put((rank, os.getpid()))
    try:
        while True:
            distributed.all_reduce(torch.ones(1))
    except Exception as error:
        raised.put(f"{type(error).__module__} {type(error).__name__}\n{error}")


def test_a_worker_that_is_really_stopped_is_told_from_one_that_was_killed(tmp_path):
    context = multiprocessing.get_context("fork")
    pids, raised = context.SimpleQueue(), context.SimpleQueue()
    workers = [context.Process(target=exchange, args=(rank, tmp_path / "meeting", pids, raised)) for rank in (0, 1)]
    for worker in workers:
        worker.start()
    found = dict(pids.get() for _ in workers)
    os.kill(found[1], signal.SIGSTOP)
    kind, _, text = raised.get().partition("\n")
    for worker in workers:  # as the launching process ends the workers
        worker.kill()
        worker.join()
    assert kind.endswith(("RuntimeError", "DistBackendError"))
    ended = [EndedWorker(0, found[0], 1, "node01"), EndedWorker(1, found[1], -signal.SIGKILL, "node01")]
    with pytest.raises(WorkerError, match=rf"rank 1 \(process {found[1]} on node01\) did not answer the others"):
        raise cause([RaisedError(0, 1.0, RuntimeError(text))], ended)
