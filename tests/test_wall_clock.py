"""A clock that is set during a run, by hand or by the network's time, changes neither durations nor orders."""

import ast
import pickle
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node

import synapseclr
from synapseclr.datasets import LedgerDataset
from synapseclr.hooks import PipelineClock
from synapseclr.training import checkpoints
from synapseclr.training.config import CheckpointConfig
from synapseclr.training.workers import Mailbox

SOURCE = Path(synapseclr.__file__).parent
MAY_READ_IT = {
    "storage/atomic_files.py": "the age of another machine's files, in days, against their times",
    "explorer/label_tables.py": "when labels were saved, to be read by people",
    "hooks/tracking.py": "the date in a run's name, to be read by people",
    "pipelines/reporting.py": "when the report was made, to be read by people",
    "tracking/outbox.py": "once, when the run begins; from then on the monotonic clock",
}
WALL_CLOCK = {"time", "time_ns", "now", "utcnow", "today", "localtime", "gmtime"}


def readings(path: Path) -> list[str]:
    """Calls of the wall clock in a module."""
    return [
        f"{node.func.value.id}.{node.func.attr}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in ("time", "datetime", "date")
        and node.func.attr in WALL_CLOCK
    ]


def test_only_these_modules_read_the_wall_clock():
    found = {path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py") if readings(path)}
    assert found == set(MAY_READ_IT)


@pytest.fixture(params=[-3600, 3600], ids=["back", "forwards"])
def set_clock(request, monkeypatch):
    """A call sets the clock; the monotonic one goes on."""
    jumps = [0]
    wall, wall_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: wall() + jumps[0])
    monkeypatch.setattr(time, "time_ns", lambda: wall_ns() + jumps[0] * 10**9)
    return lambda: jumps.__setitem__(0, request.param)


def test_checkpoints_within_an_epoch_keep_their_ten_minutes(set_clock, monkeypatch):
    callback = checkpoints.Checkpoints(SimpleNamespace(), CheckpointConfig(every_n_minutes=10), None, None)
    trainer = SimpleNamespace(is_global_zero=True, fit_loop=SimpleNamespace(total_batch_idx=0))
    set_clock()
    assert callback._decide_alone(trainer) == checkpoints._GO_ON
    now = time.monotonic() + 601
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert callback._decide_alone(trainer) == checkpoints._WRITE


def test_seconds_of_a_pipeline_are_neither_negative_nor_hours(set_clock, tmp_path):
    catalog = DataCatalog(
        {"pipeline_seconds": LedgerDataset(filepath=str(tmp_path / "seconds.json")), "x": MemoryDataset(1)}
    )
    clock = PipelineClock()
    clock.after_catalog_created(catalog)
    clock.before_pipeline_run()
    node = Node(lambda x: x, "x", "y", name="embed", tags="embedding")
    clock.before_dataset_loaded(node)
    set_clock()
    clock.after_dataset_saved(node)
    assert 0 <= catalog.load("pipeline_seconds")["embedding"] < 1800


def test_the_first_worker_that_failed_is_the_first_that_is_named(set_clock, tmp_path):
    mailbox = Mailbox(str(tmp_path))
    mailbox.put_error(1, ValueError("the cause"))
    set_clock()
    mailbox.put_error(0, ConnectionError("what followed from it"))
    assert [error.rank for error in mailbox.errors()] == [1, 0]
    assert pickle.loads((tmp_path / "error-1.pickle").read_bytes())[0] == 1
