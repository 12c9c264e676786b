import os

import pytest
from loopback_mlflow import LoopbackMLflow

from synapseclr.tracking.server import keep_requests_short


@pytest.fixture
def server():
    """A tracking server that this test may stop."""
    running = LoopbackMLflow()
    yield running
    running.close()


@pytest.fixture(autouse=True)
def short_requests(monkeypatch):
    """The package's own limits, with less patience; the environment is as before afterwards."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("MLFLOW_HTTP")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("synapseclr.tracking.outbox._FIRST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr("synapseclr.tracking.server._set_here", set())
    keep_requests_short()
    yield
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)
