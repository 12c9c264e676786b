"""Nothing is reported to anybody: every dependency with a switch has it off as soon as the package is imported."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
SWITCHES = ("DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY", "KEDRO_DISABLE_TELEMETRY")
CHECK = """
from pathlib import Path
from kedro_viz.integrations.kedro.telemetry import get_heap_app_id
from mlflow.telemetry import get_telemetry_client
from mlflow.telemetry.utils import is_telemetry_disabled
print("> mlflow", is_telemetry_disabled(), get_telemetry_client())
print("> kedro", get_heap_app_id(Path("/nowhere")))  # an id where reporting is on
"""


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

    def refuse(*_, **__):
        raise AssertionError("a request was made")

    monkeypatch.setattr(requests, "get", refuse)
    monkeypatch.setattr(version, "get_latest_version", version.get_latest_version)  # undone at the end
    with pytest.raises(AssertionError, match="a request was made"):
        version.get_version_response()
    spec = importlib.util.spec_from_file_location("viz", PROJECT / "scripts/viz.py")
    viz = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(viz)
    viz.ask_nobody_for_versions()
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
