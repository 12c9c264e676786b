"""The one error that is told of several workers' ends."""

import pytest

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
