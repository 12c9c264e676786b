"""Runs of processes that were killed do not stay RUNNING."""

import subprocess
import sys

import mlflow
import pytest

from synapseclr.tracking.server import HOST_TAG, PROCESS_TAG, end_abandoned, process_tags

KILLED = """
import os, signal, sys
import mlflow
from synapseclr.tracking.server import process_tags
client = mlflow.MlflowClient(sys.argv[1])
print(client.create_run("0", tags=process_tags()).info.run_id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    return mlflow.MlflowClient(f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db")


def status(client, run_id):
    return client.get_run(run_id).info.status


def test_a_run_whose_process_was_killed_is_ended_at_the_next_start(client):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, client.tracking_uri], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == -9
    run_id = done.stdout.split()[-1]
    assert status(client, run_id) == "RUNNING"
    assert end_abandoned(client, "0") == [run_id]
    assert status(client, run_id) == "KILLED"


@pytest.mark.parametrize(
    "tags",
    [
        process_tags(),  # this process, which lives
        {},  # somebody's, without tags
        {**process_tags(), HOST_TAG: "another machine or project", PROCESS_TAG: "1/gone"},
        {**process_tags(), PROCESS_TAG: "not ours"},
    ],
    ids=["alive", "without tags", "elsewhere", "unreadable"],
)
def test_runs_that_live_or_are_not_ours_stay(client, tags):
    run_id = client.create_run("0", tags=tags).info.run_id
    end_abandoned(client, "0")
    assert status(client, run_id) == "RUNNING"


def test_a_process_that_took_the_number_of_one_that_is_gone_is_not_taken_for_it(client):
    pid = process_tags()[PROCESS_TAG].partition("/")[0]
    run_id = client.create_run("0", tags={**process_tags(), PROCESS_TAG: f"{pid}/earlier"}).info.run_id
    assert run_id in end_abandoned(client, "0")


def test_neither_the_machine_nor_the_project_is_named():
    import socket
    from pathlib import Path

    told = " ".join(process_tags().values())
    assert socket.gethostname() not in told
    assert Path.cwd().name not in told
