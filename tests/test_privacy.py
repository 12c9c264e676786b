"""Secrets and machine paths are masked, and nothing is reported to anybody."""

import getpass
import importlib
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from synapseclr.commands import pages
from synapseclr.errors import VolumeError
from synapseclr.hooks import LogGuard
from synapseclr.privacy import mask_secrets, project_folder, redact, redact_tree

PROJECT = Path(__file__).resolve().parents[1]
SWITCHES = ("DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY", "KEDRO_DISABLE_TELEMETRY")
CHECK = """
from pathlib import Path
from kedro_viz.integrations.kedro.telemetry import get_heap_app_id
from mlflow.telemetry import get_telemetry_client
from mlflow.telemetry.utils import is_telemetry_disabled
print("> mlflow", is_telemetry_disabled(), get_telemetry_client())
print("> kedro", get_heap_app_id(Path("/nowhere")))  # an id where reporting is on
"""


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("https://ada:pa55@host.org/x", "https://***@host.org/x"),
        ("postgresql://ada:pa/5@5@db:5432/runs", "postgresql://***@db:5432/runs"),
        ("http://token@host", "http://***@host"),
        ("kedro run --params=em.url=https://a:b@host/em,pretraining.epochs=3", None),
        ("https://host/em?X-Amz-Signature=abcdef&part=1", "https://host/em?X-Amz-Signature=***&part=1"),
        ("https://host/em?sv=1&sig=ab%2Fcd#top", "https://host/em?sv=1&sig=***#top"),
        ("storage.password=pa55,data_root=data", "storage.password=***,data_root=data"),
        ("{'password': 'pa 55', 'user': 'ada'}", "{'password': ***, 'user': 'ada'}"),
        ('"aws_secret_access_key": "pa55"', '"aws_secret_access_key": ***'),
        ("Authorization: Bearer abc.def", "Authorization: ***"),
        # What only looks like a secret stays.
        ("http://127.0.0.1:5000/a@b", "http://127.0.0.1:5000/a@b"),
        ("gs://bucket/prefix@v1/em", "gs://bucket/prefix@v1/em"),
        ("git+https://github.com/a/b@main", "git+https://github.com/a/b@main"),
        ("simulation.signature: texture", "simulation.signature: texture"),
        ("n_tokens=5, tokens: 7", "n_tokens=5, tokens: 7"),
        ("write to ada@host.org", "write to ada@host.org"),
    ],
)
def test_secrets_are_masked_and_the_rest_stays(text, masked):
    masked = masked or "kedro run --params=em.url=https://***@host/em,pretraining.epochs=3"
    assert mask_secrets(text) == masked
    assert mask_secrets(masked) == masked


def test_paths_are_relative_to_the_project_or_lose_their_place():
    project, home = str(project_folder()), os.path.expanduser("~")
    assert redact(project) == "."
    assert redact(f"{project}/data/06_models") == "data/06_models"
    assert redact(f"sqlite:///{project}/mlflow.db") == "sqlite:///mlflow.db"
    assert redact(f"root={project}/data, other") == "root=data, other"
    assert redact(f"{home}/my data/em.zarr") == "~/my data/em.zarr"
    assert redact("data_root=/scratch/lab/results") == "data_root=.../results"
    assert redact("{'data_root': '/scratch/lab/results', 'a': 1}") == "{'data_root': '.../results', 'a': 1}"
    assert redact("file:///scratch/lab/artifacts") == "file://.../artifacts"
    assert redact(f"/scratch/{getpass.getuser()}") == ".../user"


@pytest.mark.parametrize(
    "text",
    ["gs://bucket/prefix/em", "pretraining/train_loss", "nm/s", "models:/synapseclr-encoder/1", "a / b", "../shared/x",
     "https://host.org/a/b", "data/06_models", "runs:/0123/encoder", "one and/or two", "<b>x</b>"],
)  # fmt: skip
def test_what_is_no_path_of_this_machine_stays(text):
    assert redact(text) == text


def test_what_stands_behind_the_name_of_a_secret_is_masked_as_a_whole():
    tree = {"credentials": {"key": "k"}, "a": [{"api_key": 5, "url": "s3://a:b@c"}], "n": 3, "token": None}
    assert redact_tree(tree) == {
        "credentials": "***",
        "a": [{"api_key": "***", "url": "s3://***@c"}],
        "n": 3,
        "token": None,
    }


def test_our_errors_do_not_show_passwords():
    error = VolumeError("https://ada:pa55@host/em cannot be read.", 3)
    assert error.args == ("https://***@host/em cannot be read.", 3)


def test_the_log_shows_no_passwords_whoever_writes(capsys, monkeypatch):
    handler = logging.StreamHandler()
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    LogGuard().after_context_created()
    LogGuard().after_context_created()
    assert len(handler.filters) == 1
    logger = logging.getLogger("another package")
    logger.warning("reading %s, %d%% done", "https://ada:pa55@host/em", 5)
    logger.warning("%d%% done", 5)
    assert capsys.readouterr().err.splitlines() == ["reading https://***@host/em, 5% done", "5% done"]


def test_an_error_of_another_package_is_shown_without_the_password_in_it():
    error = RuntimeError("dataset https://ada:pa55@host/em failed")
    error.__cause__ = OSError(5, "cannot connect to https://ada:pa55@host/em")
    error.__cause__.__context__ = error
    LogGuard().on_pipeline_error(error)
    assert str(error) == "dataset https://***@host/em failed"
    assert str(error.__cause__) == "[Errno 5] cannot connect to https://***@host/em"


def reported(code, **variables):
    """What a process prints whose environment says nothing of reporting, nor that it is a test or runs in CI."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", code], env=kept | variables, capture_output=True, text=True, timeout=120, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    return [line.removeprefix("> ") for line in done.stdout.splitlines() if line.startswith("> ")]


def test_without_the_package_mlflow_and_kedro_would_report():
    mlflow, kedro = reported(CHECK, DO_NOT_TRACK="")
    assert mlflow.startswith("mlflow False <")
    assert re.fullmatch(r"kedro \d+", kedro)


def test_importing_the_package_switches_all_of_it_off_even_if_mlflow_came_first():
    assert reported("import mlflow, kedro_mlflow, synapseclr" + CHECK) == ["mlflow True None", "kedro None"]


def test_processes_that_it_starts_inherit_the_switches():
    code = "import synapseclr, subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[0] or INNER])"
    inner = "import os; print('>', os.environ['DO_NOT_TRACK'], os.environ['MLFLOW_DISABLE_TELEMETRY'])"
    assert reported(code.replace("sys.argv[0] or INNER", repr(inner)))[0] == "1 true"


def test_a_choice_of_the_environments_counts():
    code = "import os, synapseclr; print('>', os.environ['MLFLOW_DISABLE_TELEMETRY'], os.environ['DO_NOT_TRACK'])"
    assert reported(code, MLFLOW_DISABLE_TELEMETRY="false")[0] == "false 1"


def test_the_graph_does_not_ask_for_a_newer_version(monkeypatch):
    import requests
    from kedro_viz.api.rest.responses import version
    from kedro_viz.integrations import pypi

    def refuse(*_, **__):
        raise AssertionError("a request was made")

    importlib.reload(pypi)  # as installed: the commands of this project have quietened it
    importlib.reload(version)
    monkeypatch.setattr(requests, "get", refuse)
    monkeypatch.setattr(version, "get_latest_version", version.get_latest_version)  # undone at the end
    with pytest.raises(AssertionError, match="a request was made"):
        version.get_version_response()
    pages.ask_nobody_for_versions()
    assert version.get_version_response().is_outdated is False


def test_the_makefile_starts_jupyter_without_news_and_updates():
    from jupyterlab.labapp import LabApp

    (line,) = re.findall(r"kedro jupyter lab(.*?)notebooks", (PROJECT / "Makefile").read_text(), re.S)
    options = re.findall(r"--LabApp.(\w+)=(\S+)", line)
    assert dict(options) == {"check_for_updates_class": "jupyterlab.NeverCheckForUpdate", "news_url": "None"}
    app = LabApp()
    app.parse_command_line([f"--LabApp.{name}={value}" for name, value in options])
    assert app.check_for_updates_class.__name__ == "NeverCheckForUpdate"
    assert app.news_url is None
