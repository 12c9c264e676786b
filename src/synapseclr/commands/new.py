"""``synapseclr new``: write a project, so that an installed package needs no clone of the repository."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import click

from synapseclr import __version__
from synapseclr.errors import ConfigurationError

DATA_FOLDERS = (
    "01_raw",
    "02_intermediate",
    "03_primary",
    "04_feature",
    "05_model_input",
    "06_models",
    "07_model_output",
    "08_reporting",
)
"""Kedro's layers, below ``data``."""

_COPIED = ("conf", "notebooks", "scripts/viz.py")  # as in [tool.hatch.build.targets.wheel.sources] of pyproject.toml
_PRIVATE = ("local", "__pycache__", ".ipynb_checkpoints")  # of a clone: credentials, leftovers
_KEPT_EMPTY = ("conf/local", "src", *(f"data/{layer}" for layer in DATA_FOLDERS))

_PYPROJECT = """\
# A project of synapseclr {version}. Commands of `kedro` that are typed in this folder read conf/ and write data/.
[tool.kedro]
package_name = "synapseclr"
project_name = {name}
kedro_init_version = "{kedro_version}"
source_dir = "src"    # modules of your own, which a configuration may name
"""
_GITIGNORE = """\
.venv/
__pycache__/
.ipynb_checkpoints/
.viz/
build/
conf/local/*
!conf/local/.gitkeep
data/**
!data/*/
!data/*/.gitkeep
mlflow.db*
mlflow_unsent/
.*.lock
mlartifacts/
mlruns/
info.log
"""


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def new(folder: Path) -> None:
    """Write a project into FOLDER: configuration, notebooks and folders for data.

    The configuration is that of the installed version, with the environments of public volumes. Nothing that is in
    FOLDER already is overwritten.
    """
    try:
        write_project(folder)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"written: {folder} with conf/, data/, notebooks/, scripts/, src/, pyproject.toml")
    if folder.resolve() != Path.cwd():
        click.echo(f"Next: cd {folder}")
    click.echo("Next: kedro run --pipeline=demo    # or, for volumes of your own: synapseclr init --help")


def write_project(folder: Path, origin: Path | None = None) -> None:
    """Write a project that Kedro runs with the installed package.

    Args:
        folder: Its place, which need not exist.
        origin: Folder with what is copied; by default the installed wheel's, or the clone.

    Raises:
        ConfigurationError: If the folder has a file or folder of the project's already, or the installation lacks
            ``conf``.
    """
    origin, files = _origin(origin), _files(folder.resolve().name)
    names = {place.split("/")[0] for place in (*_COPIED, *_KEPT_EMPTY, *files)}
    if present := sorted(name for name in names if (folder / name).exists()):
        raise ConfigurationError(
            f"{folder} has {', '.join(present)} already, and nothing is overwritten. Name a new folder."
        )
    for place in _COPIED:
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        if (origin / place).is_dir():
            shutil.copytree(origin / place, folder / place, ignore=shutil.ignore_patterns(*_PRIVATE))
        else:
            shutil.copyfile(origin / place, folder / place)
    for place in _KEPT_EMPTY:
        (folder / place).mkdir(parents=True)
        (folder / place / ".gitkeep").touch()
    for place, text in files.items():
        (folder / place).write_text(text)


def _files(name: str) -> Mapping[str, str]:
    """Text of the files that are not copied."""
    from kedro import __version__ as kedro_version

    return {
        "pyproject.toml": _PYPROJECT.format(version=__version__, name=json.dumps(name), kedro_version=kedro_version),
        ".gitignore": _GITIGNORE,
        ".telemetry": "consent: false\n",
    }


def _origin(named: Path | None) -> Path:
    """The folder with what is copied: ``synapseclr/project`` of an installed wheel, or the clone."""
    package = Path(__file__).resolve().parents[1]
    places = (named,) if named else (package / "project", package.parents[1])
    for folder in places:
        if all((folder / place).exists() for place in _COPIED):
            return folder
    raise ConfigurationError(
        f"{' and '.join(map(str, places))} lack {', '.join(_COPIED)}. Install synapseclr again: its wheel, or a clone."
    )
