"""The status of a run, without a run."""

import io
import logging

import pytest
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline
from rich.console import Console

from synapseclr.datasets import LedgerDataset
from synapseclr.hooks import RunStatus
from synapseclr.hooks.status import clock
from synapseclr.training import PretrainingConfig

FIRST = Pipeline([Node(lambda: 1, None, "a", name="cut"), Node(lambda a: a, "a", "b", name="view")], tags="first")
SECOND = Pipeline([Node(lambda a: a, "a", "c", name="train")], tags="second")


@pytest.fixture
def times(monkeypatch):
    """Seconds of the clock, which tests set."""
    now = [0.0]
    monkeypatch.setattr("synapseclr.hooks.status.time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def start(tmp_path, monkeypatch, times):
    """A function that starts the status of a run of both pipelines, with the seconds that they took before."""
    monkeypatch.setattr("kedro.framework.project.pipelines", {"first": FIRST, "second": SECOND})

    def begin(before, pipeline=FIRST + SECOND):
        seconds = LedgerDataset(filepath=str(tmp_path / "s.json"))
        seconds.save(before)
        status = RunStatus()
        status.before_pipeline_run({}, pipeline, DataCatalog({"pipeline_seconds": seconds}))
        return status

    return begin


def console_of(monkeypatch, is_terminal):
    console = Console(file=io.StringIO(), force_terminal=is_terminal, width=120)
    monkeypatch.setattr("rich.get_console", lambda: console)
    return console


def walk(status, times, seconds):
    """The status line at the start of every node, and after the last one."""
    for node in (FIRST + SECOND).nodes:
        status.before_dataset_loaded(node)
        yield status.line()
        times[0] += seconds[node.name]


def test_the_line_counts_nodes_and_finished_stages(start, times):
    lines = list(walk(start({"first": 60.0, "second": 120.0}), times, {"cut": 40, "view": 20, "train": 120}))
    assert lines == [
        "Node 1 of 3, first: cut; 0 of 2 stages done (0:00 elapsed, about 3:00 left)",
        "Node 2 of 3, second: train; 0 of 2 stages done (0:40 elapsed, about 2:20 left)",
        "Node 3 of 3, first: view; 1 of 2 stages done (2:40 elapsed, about 0:20 left)",
    ]


def test_a_machine_that_is_slower_than_last_time_stays_so(start, times):
    *_, last = walk(start({"first": 30.0, "second": 120.0}), times, {"cut": 40, "view": 20, "train": 240})
    assert last == "Node 3 of 3, first: view; 1 of 2 stages done (4:40 elapsed, about 0:20 left)"


@pytest.mark.parametrize("before", [{}, {"first": 60.0}, {"first": 60.0, "second": "?"}])
def test_of_a_first_run_nothing_is_known(start, times, before):
    *_, last = walk(start(before), times, {"cut": 40, "view": 20, "train": 120})
    assert last == "Node 3 of 3, first: view; 1 of 2 stages done (2:40 elapsed)"


def test_of_a_part_of_a_stage_nothing_is_known(start):
    status = start({"first": 60.0, "second": 120.0}, (FIRST + SECOND).only_nodes("cut", "train"))
    assert status.remaining_seconds() is None


def test_in_a_file_every_node_is_a_log_line(start, times, monkeypatch, caplog):
    console_of(monkeypatch, is_terminal=False)
    with caplog.at_level(logging.INFO, "synapseclr"):
        lines = list(walk(start({}), times, {"cut": 1, "view": 1, "train": 1}))
    assert [record.getMessage() for record in caplog.records] == lines


def test_on_a_terminal_it_is_one_line_that_goes_when_a_run_fails(start, times, monkeypatch, caplog):
    console = console_of(monkeypatch, is_terminal=True)
    status = start({})
    with caplog.at_level(logging.INFO, "synapseclr"):
        list(walk(status, times, {"cut": 1, "view": 1, "train": 1}))
    assert not caplog.records
    status.on_pipeline_error()
    written = console.file.getvalue()
    assert "Node 3 of 3, first: view; 1 of 2 stages done (0:03 elapsed)" in written
    assert written.endswith("\x1b[?25h\r\x1b[1A\x1b[2K")  # the cursor is back, the line erased


def test_processes_that_draw_bars_of_their_own_have_the_terminal(start, monkeypatch, caplog):
    console_of(monkeypatch, is_terminal=True)
    status = start({})
    (node,) = SECOND.nodes
    with caplog.at_level(logging.INFO, "synapseclr"):
        status.before_node_run(node, {"params:pretraining": PretrainingConfig(devices=2)})
    assert [record.getMessage() for record in caplog.records] == [
        "Node 1 of 3, second: train; 0 of 2 stages done (0:00 elapsed)"
    ]
    status.before_node_run(node, {})
    status.on_pipeline_error()


@pytest.mark.parametrize(("seconds", "text"), [(0.9, "0:00"), (187, "3:07"), (3787, "1:03:07")])
def test_times_are_minutes_and_seconds(seconds, text):
    assert clock(seconds) == text
