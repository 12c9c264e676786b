"""Every command in the README is run by a test, and the README's links lead somewhere."""

import os
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from synapseclr.pipeline_registry import register_pipelines

PROJECT = Path(__file__).resolve().parents[1]
README = (PROJECT / "README.md").read_text()

# What each `make` target runs, and the test that runs the same: a piece of the recipe, a test, and what its file has.
TARGETS = {
    "demo": ("kedro run --pipeline=demo", "conftest.py::demo", 'runner("--pipeline=demo")'),
    "test": ("-m pytest", "test_readme.py::test_every_command_is_run_by_a_test", "pytest"),
    "explore": ("kedro explore", "explorer/test_browser.py::test_a_click_shows_the_synapse", "open_page"),
    "viz": ("scripts/viz.py --port=4141", "pipelines/test_viz.py::test_every_node_of_the_demo", "scripts/viz.py"),
    "mlflow": ("kedro mlflow ui", "test_readme.py::test_servers_that_kedro_starts_answer", '"mlflow", "ui"'),
    "jupyter": ("kedro jupyter lab", "test_readme.py::test_servers_that_kedro_starts_answer", '"jupyter", "lab"'),
    "docs": ("mkdocs build", "test_docs.py::test_no_page_fetches_anything", '"mkdocs", "build"'),
}
# `kedro run` in an environment of one's own, as a whole and step by step.
RUNS = {
    None: ("pipelines/test_real_em.py::test_all_28_synapses_are_embedded", 'environment="fib25"'),
    "preprocessing": ("pipelines/test_runs.py::test_each_pipeline_runs_alone", "preprocessing"),
    "pretraining": ("pipelines/test_runs.py::test_pretraining_alone_with_another_parameter", "pretraining"),
    "embedding": ("pipelines/test_runs.py::test_each_pipeline_runs_alone", "embedding"),
    "analysis": ("pipelines/test_runs.py::test_each_pipeline_runs_alone", "analysis"),
}


def _commands():
    blocks = re.findall(r"^```\n(.*?)^```", README, re.S | re.M)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [shlex.split(line) for line in lines if line]


def _has_test(name, text):
    path, _, test = name.partition("::")
    source = (PROJECT / "tests" / path).read_text()
    return re.search(rf"^def {re.escape(test)}", source, re.M) is not None and text in source


@pytest.mark.parametrize("command", _commands(), ids=" ".join)
def test_every_command_is_run_by_a_test(command):
    if command[0] == "make":
        recipe, test, text = TARGETS[command[1]]
        makefile = (PROJECT / "Makefile").read_text()
        assert recipe in makefile.partition(f"\n{command[1]}:")[2].partition("\n\n")[0]
        assert _has_test(test, text)
        return
    assert command[:2] == ["kedro", "run"]
    options = dict(part.removeprefix("--").split("=", 1) for part in command[2:])
    assert set(options) <= {"env", "pipeline", "params"}
    assert _has_test(*RUNS[options.get("pipeline")])
    assert options.get("pipeline", "__default__") in register_pipelines()


def test_parameters_in_the_readme_exist():
    from synapseclr.training import PretrainingConfig

    given = re.findall(r"pretraining\.(\w+)=(\w+)", README)
    assert given
    PretrainingConfig.model_validate(dict(given))


@pytest.mark.parametrize("path", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(path):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", (PROJECT / path).read_text())
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (PROJECT / link).exists()] == []


@pytest.mark.parametrize(("command", "page"), [(["mlflow", "ui"], "health"), (["jupyter", "lab"], "api")])
def test_servers_that_kedro_starts_answer(command, page, demo, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    more = [] if command[0] == "mlflow" else ["--ip=127.0.0.1", "--no-browser", "--allow-root", "notebooks"]
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    settings = demo.variables | {"PATH": search, "JUPYTER_DATA_DIR": str(tmp_path / "jupyter")}
    log = tmp_path / "server.log"
    with log.open("w") as stream:
        line = [sys.executable, "-m", "kedro", *command, f"--port={port}", *more]
        options = {"cwd": PROJECT, "env": settings, "stdout": stream, "stderr": subprocess.STDOUT}
        server = subprocess.Popen(line, start_new_session=True, **options)
        try:
            for _ in range(240):
                assert server.poll() is None, log.read_text()
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=5) as answer:
                        assert answer.status == 200
                    return
                except (urllib.error.URLError, ConnectionError):
                    time.sleep(0.5)
            pytest.fail(f"No answer: {log.read_text()}")
        finally:
            os.killpg(server.pid, 15)
            server.wait(timeout=30)
