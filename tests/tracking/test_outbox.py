"""A tracking server that dies or hangs costs a run nothing, and gets what it missed."""

import json
import logging
import os
import threading
import time

import pytest
from click.testing import CliRunner
from loopback_mlflow import RUN_ID

from synapseclr.cli import cli
from synapseclr.errors import ConfigurationError, UnreachableError
from synapseclr.tracking import Outbox, request_limits
from synapseclr.tracking.outbox import send_unsent


@pytest.fixture
def outbox(server, tmp_path):
    return Outbox(server.uri, RUN_ID, tmp_path / "unsent", "MLFLOW_RUN_ID=x kedro run --nodes=NODE")


def kept(tmp_path):
    return tmp_path / "unsent" / f"{RUN_ID}.json"


def until_away(outbox):
    """Wait until the outbox has noticed: its thread works at its own pace."""
    noticed = threading.Event()
    while not outbox.is_away:
        noticed.wait(0.01)


def test_a_server_that_answers_gets_everything_and_the_end(server, outbox, tmp_path):
    outbox.params({f"p{n}": n for n in range(250)})
    for step in range(1, 41):
        outbox.metrics({"loss": 1 / step, "auc": float("nan")}, step)
    outbox.tags({"pipeline": "pretraining"})
    assert outbox.close("FINISHED")
    assert server.params == {f"p{n}": str(n) for n in range(250)}
    assert server.metrics["loss"] == {step: 1 / step for step in range(1, 41)}
    assert len(server.metrics["auc"]) == 40
    assert server.tags["pipeline"] == "pretraining"
    assert server.status == "FINISHED"
    assert not kept(tmp_path).exists()


@pytest.mark.parametrize("fault", ["dies", "hangs"])
def test_what_a_lost_server_missed_is_kept_and_sent_by_the_command_that_the_run_names(
    server, outbox, tmp_path, caplog, monkeypatch, fault
):
    outbox.metrics({"loss": 1.0}, 1)
    sent = threading.Event()
    while not server.metrics:
        sent.wait(0.01)
    server.die() if fault == "dies" else setattr(server, "hangs", True)
    monkeypatch.setattr("synapseclr.tracking.server.PROBE_SECONDS", 0.2)  # nothing is going to answer
    with caplog.at_level(logging.WARNING, "synapseclr"):
        for step in range(2, 6):
            outbox.metrics({"loss": 1 / step}, step)
        outbox.rerun_later("log_encoder_model")
        assert not outbox.close("FINISHED")
    assert server.status == "RUNNING"
    warnings = [record.getMessage() for record in caplog.records]
    assert [text for text in warnings if "is away" in text] == [warnings[0]]
    assert f"kedro synapseclr mlflow send '{kept(tmp_path)}'" in warnings[-1]
    assert len(warnings) == 2

    if fault == "dies":
        server.start()
    server.hangs = False
    monkeypatch.undo()
    done = CliRunner().invoke(cli, ["synapseclr", "mlflow", "send", str(tmp_path / "unsent")])
    assert done.exit_code == 0, done.output
    assert "Still to be done: MLFLOW_RUN_ID=x kedro run --nodes=log_encoder_model" in done.output
    assert server.metrics["loss"] == {step: 1 / step for step in range(1, 6)}
    assert server.status == "FINISHED"
    assert not kept(tmp_path).exists()


def test_a_server_that_is_back_before_the_end_gets_what_it_missed(server, outbox, tmp_path, caplog):
    server.die()
    outbox.metrics({"loss": 1.0}, 1)
    until_away(outbox)
    server.start()
    outbox.metrics({"loss": 0.5}, 2)
    assert outbox.close("FINISHED")
    assert server.metrics["loss"] == {1: 1.0, 2: 0.5}
    assert server.status == "FINISHED"
    assert not kept(tmp_path).exists()


def test_what_the_server_refuses_is_named_and_stops_nothing(server, outbox, caplog):
    server.refused = {"bad"}
    with caplog.at_level(logging.WARNING, "synapseclr"):
        outbox.params({"good": 1})
        outbox.params({"bad": 2})
        outbox.metrics({"loss": 1.0}, 1)
        assert outbox.close("FINISHED")
    assert server.params == {"good": "1"}
    assert server.metrics["loss"] == {1: 1.0}
    assert [record.getMessage() for record in caplog.records] == ["MLflow does not take bad: " + REFUSAL]


REFUSAL = "INVALID_PARAMETER_VALUE: no such value"


def test_passwords_and_paths_stay_here(server, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # Kedro sessions in this process may have set it
    outbox = Outbox(server.uri.replace("//", "//ada:pa55@"), RUN_ID, tmp_path / "unsent")
    outbox.params({"source": "https://ada:pa55@example.org/em", "root": str(tmp_path / "data"), "token": "pa55"})
    outbox.tags({"runtime_params": {"root": str(tmp_path), "password": "pa55"}})
    server.die()
    outbox.close("FAILED")
    text = kept(tmp_path).read_text() + str(server.params) + str(server.tags)
    assert "pa55" not in text
    assert str(tmp_path) not in text
    with pytest.raises(ConfigurationError, match=r"whose password is not kept. Give the address: --tracking-uri"):
        send_unsent(kept(tmp_path))


def test_sending_stops_where_the_server_does_and_continues(server, outbox, tmp_path):
    server.die()
    outbox.params({"a": 1})
    outbox.params({"b": 2})
    outbox.close("FINISHED")
    with pytest.raises(UnreachableError, match=r"does not answer. Nothing was sent"):
        send_unsent(kept(tmp_path))
    server.start()
    server.refused = {"b"}
    with pytest.raises(UnreachableError, match="took 1 of 2 entries"):
        send_unsent(kept(tmp_path))
    server.params.clear()
    server.refused = set()
    assert send_unsent(kept(tmp_path)).n_entries == 1
    assert server.params == {"b": "2"}


def test_an_artifact_that_has_changed_since_is_left_out(server, outbox, tmp_path, caplog):
    file = tmp_path / "report.html"
    file.write_text("first")
    server.die()
    outbox.artifact(file, "reporting")
    outbox.close("FINISHED")
    file.write_text("of the next run")
    server.start()
    assert send_unsent(kept(tmp_path)).n_entries == 1
    assert "report.html has changed or is gone" in caplog.text


def test_a_folder_of_which_a_file_was_replaced_by_an_older_one_has_changed(server, outbox, tmp_path, caplog):
    folder = tmp_path / "figures"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_text("first")
    server.die()
    outbox.artifact(folder, "reporting")
    outbox.close("FINISHED")
    (folder / "a.png").write_text("older")
    os.utime(folder / "a.png", (0, 0))
    server.start()
    send_unsent(kept(tmp_path))
    assert "figures has changed or is gone" in caplog.text


@pytest.mark.parametrize(("found", "limits"), [("just now", [1.0]), ("long ago", [None]), ("never", [None, 2.0])])
def test_at_the_end_a_server_that_does_not_answer_is_asked_for_a_few_seconds_in_all(
    server, outbox, tmp_path, monkeypatch, found, limits
):
    server.die()
    monkeypatch.setattr("synapseclr.tracking.server.PROBE_SECONDS", 0.2)
    if found != "never":
        outbox.metrics({"loss": 1.0}, 1)
        until_away(outbox)
    if found == "long ago":
        outbox._failed_at -= 3600
    asked = []
    monkeypatch.setattr("synapseclr.tracking.outbox.answers", lambda uri, limit=None: asked.append(limit) or False)
    assert not outbox.close("FINISHED")
    assert [limit for limit in asked if limit] == [limit for limit in limits if limit]
    assert len(asked) <= len(limits) + 1  # the thread may have been asking too
    assert kept(tmp_path).exists()


def test_a_request_that_hangs_when_the_run_ends_is_not_waited_for(server, outbox, tmp_path, monkeypatch):
    monkeypatch.setattr("synapseclr.tracking.server.PROBE_SECONDS", 0.2)
    monkeypatch.setattr("synapseclr.tracking.outbox._LAST_PROBES_SECONDS", (0.2,))
    is_sending, goes_on = threading.Event(), threading.Event()

    def hang(*_):
        is_sending.set()
        goes_on.wait()

    monkeypatch.setattr("synapseclr.tracking.outbox.send", hang)
    outbox.metrics({"loss": 1.0}, 1)
    is_sending.wait()
    server.hangs = True
    assert not outbox.close("FINISHED")  # would last until the request's own limit, or for ever
    goes_on.set()
    assert json.loads(kept(tmp_path).read_text())["entries"][0]["metrics"][0][0] == "loss"


@pytest.mark.parametrize("jump_s", [-3600, 3600], ids=["back", "forwards"])
def test_a_clock_that_is_set_during_a_run_makes_no_duration_wrong(server, outbox, monkeypatch, jump_s):
    began_ms = time.time_ns() // 10**6
    outbox.metrics({"loss": 1.0}, 1)
    jumped = time.time_ns() + jump_s * 10**9
    monkeypatch.setattr("synapseclr.tracking.outbox.time.time_ns", lambda: jumped)
    monkeypatch.setattr("synapseclr.tracking.outbox.time.time", lambda: jumped / 10**9)
    outbox.metrics({"loss": 0.5}, 2)
    assert outbox.close("FINISHED")
    first, second, end = server.times_ms
    assert abs(first - began_ms) < 600_000
    assert first <= second <= end < first + 600_000


@pytest.mark.parametrize("content", ["", "[]", "{}", "[" * 100_000])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ConfigurationError, match=r"x\.json is not a file with what MLflow was not told"):
        send_unsent(tmp_path / "x.json")


def test_limits_that_the_environment_sets_stay(monkeypatch):
    with request_limits(60, 0):
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "60"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "10"
    monkeypatch.setattr("synapseclr.tracking.server._set_here", set())
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "33")
    with request_limits(60):
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "33"
