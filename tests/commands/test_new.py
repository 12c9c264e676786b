"""`synapseclr new`: a project that Kedro runs, with nothing of a clone but what it is made of."""

import shlex
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import warm_process
import yaml
from click.testing import CliRunner
from documentation import PROJECT, shell_variables

from synapseclr.commands.new import DATA_FOLDERS, write_project
from synapseclr.commands.synapseclr import synapseclr
from synapseclr.errors import ConfigurationError


def tracked(*places):
    listed = subprocess.run(["git", "ls-files", *places], cwd=PROJECT, capture_output=True, text=True, check=True)
    return set(listed.stdout.split())


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A new project, and what the command printed."""
    folder = tmp_path_factory.mktemp("lab") / "mine"
    done = CliRunner().invoke(synapseclr, ["new", str(folder)])
    assert done.exit_code == 0, done.output
    return folder, done.output


def test_the_program_is_the_group_of_kedro():
    module, _, name = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["scripts"][
        "synapseclr"
    ].partition(":")
    assert getattr(import_module(module), name) is synapseclr
    assert {"new", "init", "check", "export", "chunks"} <= set(synapseclr.commands)
    assert import_module("synapseclr.cli").cli.commands["synapseclr"] is synapseclr


def test_a_project_has_what_the_repository_has(written):
    folder, _ = written
    assert tracked("conf", "notebooks", "data") <= files(folder)
    for place in ("conf/base/globals.yml", "conf/test/simulation/parameters.yml", "scripts/viz.py"):
        assert (folder / place).read_text() == (PROJECT / place).read_text()
    assert {f"data/{layer}/.gitkeep" for layer in DATA_FOLDERS} == tracked("data")
    assert yaml.safe_load((folder / ".telemetry").read_text()) == {"consent": False}
    assert set((folder / ".gitignore").read_text().split()) <= set((PROJECT / ".gitignore").read_text().split())
    settings = tomllib.loads((folder / "pyproject.toml").read_text())["tool"]["kedro"]
    assert settings["project_name"] == "mine"
    assert settings["package_name"] == "synapseclr"


def test_kedro_takes_it_for_a_project(written):
    """The next command finds configuration and data of the new project, and not those of the clone."""
    folder, printed = written
    assert f"Next: cd {folder}" in printed
    command = [sys.executable, "-m", *shlex.split("kedro synapseclr check --env=test")]
    done = warm_process.run(command, cwd=folder / "notebooks", env=shell_variables(COLUMNS="200"), timeout=120)
    assert f"{folder}/data/01_raw/simulated/synapses.csv" in done.stdout, done.stdout + done.stderr
    assert "Nothing was cut." in done.stderr


def test_credentials_of_a_clone_stay_there(tmp_path):
    clone = tmp_path / "clone"
    for place in ("conf/base/globals.yml", "conf/local/credentials.yml", "notebooks/a.ipynb", "scripts/viz.py"):
        (clone / place).parent.mkdir(parents=True, exist_ok=True)
        (clone / place).write_text("secret: 1")
    write_project(tmp_path / "mine", clone)
    assert "conf/base/globals.yml" in files(tmp_path / "mine")
    assert files(tmp_path / "mine/conf/local") == {".gitkeep"}


def test_nothing_is_overwritten(tmp_path, monkeypatch):
    (tmp_path / "volumes").mkdir()
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(synapseclr, ["new", "."]).exit_code == 0
    (tmp_path / "conf/base/globals.yml").write_text("mine: 1")
    again = CliRunner().invoke(synapseclr, ["new", "."])
    assert again.exit_code == 1
    assert "conf" in again.output
    assert "nothing is overwritten" in again.output
    assert (tmp_path / "conf/base/globals.yml").read_text() == "mine: 1"


def test_an_installation_without_configuration_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"lack conf, notebooks"):
        write_project(tmp_path / "mine", Path(tmp_path))
    assert not (tmp_path / "mine").exists()
