"""Kedro's project settings."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kedro.utils import find_kedro_project

from synapseclr.errors import ConfigurationError
from synapseclr.hooks import (
    DefectExclusion,
    EnvironmentGuard,
    FreedMemory,
    LogGuard,
    OneWriter,
    OutputCare,
    ParameterGuard,
    PipelineClock,
    ReadOnlyGuard,
    RunStatus,
    RunTracking,
    SimulationGuard,
    StorageCredentials,
)

_PROJECT = find_kedro_project(Path.cwd()) or Path(__file__).resolve().parents[2]


def _in_project(path: str) -> str:
    """Resolve a path against the project, whatever the working directory is."""
    return str(_PROJECT / path)


def _mlflow_tracking_uri(default_database: str) -> str:
    """The server that the environment names, or a database in the project."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{_in_project(default_database)}"


def _mlflow_artifacts(default_folder: str) -> str | None:
    """Where artifacts go: left to the server if the environment names one, else a folder in the project."""
    configured = os.environ.get("MLFLOW_ARTIFACT_ROOT")
    return configured or (None if os.environ.get("MLFLOW_TRACKING_URI") else _in_project(default_folder))


def _one_of(parameter: str, name: str, choices: Mapping[str, Any]) -> Any:
    """The choice of a parameter that names one of several."""
    if name not in choices:
        raise ConfigurationError(f"The parameter {parameter} is '{name}'. Choose one of: {', '.join(choices)}.")
    return choices[name]


HOOKS = (
    RunStatus(),  # the last one to be called when a run has ended
    LogGuard(),
    StorageCredentials(),
    ParameterGuard(),
    EnvironmentGuard(),  # the last of those that come first is called first
    SimulationGuard(),
    ReadOnlyGuard(),
    OneWriter(),
    OutputCare(),
    DefectExclusion(),
    PipelineClock(),
    FreedMemory(),
    RunTracking(),
)
DISABLE_HOOKS_FOR_PLUGINS = ("kedro_mlflow",)  # RunTracking extends its hook

CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "merge_strategy": {"parameters": "soft"},
    "default_run_env": "local",
    "custom_resolvers": {
        "mlflow_tracking_uri": _mlflow_tracking_uri,
        "mlflow_artifacts": _mlflow_artifacts,
        "one_of": _one_of,
    },
    "config_patterns": {"mlflow": ["mlflow*", "mlflow*/**", "**/mlflow*"]},
}
