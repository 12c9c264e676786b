"""Commands that serve the pages of plugins, as the command line finds them; the graph itself is in test_viz."""

from pathlib import Path

import click
import pytest
from kedro.framework.cli.cli import KedroCLI

from synapseclr.commands.pages import ui
from synapseclr.tracking.server import runs_page

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def find(monkeypatch):
    """A function that looks a command up as `kedro` does."""
    monkeypatch.chdir(PROJECT)
    command = KedroCLI(PROJECT)

    def look_up(*names):
        found = command
        for name in names:
            found = found.get_command(click.Context(found), name)
        return found

    return look_up


def test_mlflows_page_is_started_by_our_command_beside_the_plugins_others(find):
    assert find("mlflow", "ui") is ui
    assert find("mlflow", "init").name == "init"
    assert {"ui", "init"} <= set(find("mlflow").list_commands(click.Context(find("mlflow"))))


def test_the_graphs_page_has_the_plugins_options_and_asks_nobody_for_versions(find):
    from kedro_viz.api.rest.responses.version import get_version_response
    from kedro_viz.launchers.cli.run import run as original

    command = find("viz", "run")
    assert command is not original
    assert [option.name for option in command.params] == [option.name for option in original.params]
    with pytest.raises(ValueError, match="does not exist"):
        command.callback(**{option.name: "/no such file" for option in original.params})
    found = get_version_response()
    assert (found.latest, found.is_outdated) == (found.installed, False)


@pytest.mark.parametrize(
    ("uri", "page"),
    [
        ("http://127.0.0.1:5000/", "http://127.0.0.1:5000/#/experiments/3/runs"),
        ("https://ada:pa55@host", "https://***@host/#/experiments/3/runs"),
        ("sqlite:///mlflow.db", ""),
    ],
)
def test_the_page_of_runs(uri, page):
    assert runs_page(uri, "3") == page
