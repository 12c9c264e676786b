"""A database or artifact folder that cannot be written to costs a run neither its end nor its results."""

import errno
import json
import logging
import shutil
import sqlite3

import mlflow
import pytest

from synapseclr.hooks.tracking import _leave_run
from synapseclr.tracking import Outbox
from synapseclr.tracking.outbox import send_unsent


@pytest.fixture(scope="module")
def fresh_database(tmp_path_factory):
    """A database of MLflow's with an experiment, made once: that takes seconds."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").create_experiment("synapseclr")
    return path


@pytest.fixture
def database(fresh_database, tmp_path, monkeypatch):
    path = shutil.copy(fresh_database, tmp_path / "mlflow.db")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE experiments SET artifact_location = ?", [(tmp_path / "artifacts").as_uri()])
    monkeypatch.setattr("synapseclr.tracking.outbox._LAST_WAIT_SECONDS", 0.5)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{path}")
    yield path
    mlflow.set_tracking_uri(before)


@pytest.fixture
def run_id(database):
    client = mlflow.MlflowClient()
    return client.create_run(client.get_experiment_by_name("synapseclr").experiment_id).info.run_id


@pytest.fixture
def outbox(database, run_id, tmp_path):
    mlflow.start_run(run_id)
    outbox = Outbox(mlflow.get_tracking_uri(), run_id, tmp_path / "unsent")
    outbox.metrics({"loss": 1.0}, 1)
    outbox.flush()
    return outbox


def lock(database):
    """Another process writes, and does not end."""
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    return other.close


def write_protect(database):
    """The open database has lost its name: sqlite lets nobody write to it any more, root included."""
    kept = database.with_suffix(".kept")
    database.rename(kept)
    return lambda: (database.unlink(missing_ok=True), kept.rename(database))


@pytest.fixture(autouse=True)
def no_run_stays_active():
    yield
    while mlflow.active_run() is not None:
        mlflow.end_run()


@pytest.mark.parametrize("fault", [lock, write_protect])
def test_a_database_that_cannot_be_written_is_one_warning_and_the_run_ends(
    outbox, run_id, database, tmp_path, caplog, fault
):
    mend = fault(database)
    with caplog.at_level(logging.INFO):
        for step in (2, 3):
            outbox.metrics({"loss": 1 / step}, step)
        assert not outbox.close("FINISHED")
        _leave_run("FINISHED", outbox.is_away)
    assert mlflow.active_run() is None
    assert mlflow.get_tracking_uri() == f"sqlite:///{database}"
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert ["is away" in text for text in warnings] == [True, False]  # the second has the command that sends the rest
    assert "kedro synapseclr mlflow send" in warnings[1]
    mend()
    send_unsent(tmp_path / "unsent" / f"{run_id}.json")
    run = mlflow.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert {m.step for m in mlflow.MlflowClient().get_metric_history(run_id, "loss")} == {1, 2, 3}


def test_a_full_disk_in_the_artifact_folder_leaves_the_artifact_for_later_and_the_run_ended(
    outbox, run_id, tmp_path, monkeypatch, caplog
):
    report = tmp_path / "report.html"
    report.write_text("report")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("mlflow.store.artifact.local_artifact_repo.shutil.copyfileobj", full)
    with caplog.at_level(logging.WARNING):
        outbox.artifact(report, "reporting")
        outbox.metrics({"loss": 0.5}, 2)
        assert not outbox.close("FINISHED")
        _leave_run("FINISHED", outbox.is_away)
    monkeypatch.undo()
    run = mlflow.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"loss": 0.5}
    assert caplog.text.count("No space left on device") == 1
    path = tmp_path / "unsent" / f"{run_id}.json"
    (entry,) = json.loads(path.read_text())["entries"]
    assert entry["artifact"][0] == str(report)
    send_unsent(path)
    assert (tmp_path / "artifacts" / run_id / "artifacts/reporting/report.html").read_text() == "report"
