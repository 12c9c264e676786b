"""Runs in MLflow."""

from __future__ import annotations

import atexit
import logging
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro_mlflow.framework.hooks.mlflow_hook import MlflowHook
from pydantic import BaseModel

from synapseclr.training.scale import machines

_TRAINING = "pretraining"
_SYSTEM_METRICS = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"
_SAMPLING_SECONDS, _SAMPLES_A_POINT = "10", "3"  # a point every half minute: 40,000 in two weeks


_is_tracking: ContextVar[bool] = ContextVar("is_tracking", default=True)


@contextmanager
def untracked() -> Iterator[None]:
    """Sessions that begin here only look at outputs: they make no experiment, hence no empty database."""
    token = _is_tracking.set(False)
    try:
        yield
    finally:
        _is_tracking.reset(token)


class RunTracking(MlflowHook):
    """kedro-mlflow's hook, with flattened typed parameters, provenance tags, and artifacts named in the catalog.

    A catalog entry is logged when it is saved if its ``metadata`` has ``mlflow: {artifact: <folder>}`` (the file) or
    ``mlflow: {metrics: true}`` (its numbers).
    """

    _is_mlflow_enabled: bool

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Set MLflow up, unless the session only looks."""
        if _is_tracking.get():
            super().after_context_created(context)

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Start the run and tag it."""
        import mlflow

        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # the nodes have bars of their own
        with _system_metrics(wanted=bool(pipeline.only_nodes_with_tags(_TRAINING).nodes)):
            super().before_pipeline_run(run_params=run_params, pipeline=pipeline, catalog=catalog)
        if self._is_mlflow_enabled:
            run = mlflow.active_run()
            if run is not None:
                atexit.register(end_as_killed, run.info.run_id)
            names = run_params.get("pipeline_names") or [run_params.get("pipeline_name") or "__default__"]
            mlflow.set_tags(
                {"pipeline": "+".join(names), "environment": run_params.get("env") or "local", **_git_state()}
            )

    @hook_impl
    def after_node_run(self) -> None:
        """End the tracking on the machines that do not host rank 0; their runs keep a tag and system metrics."""
        import mlflow

        if machines.index > 0 and self._is_mlflow_enabled:
            mlflow.set_tag("machine", machines.index)
            while mlflow.active_run() is not None:  # kedro-mlflow enters the run once more at every node
                mlflow.end_run()
            self._is_mlflow_enabled = False
            self.run_id = None

    @hook_impl
    def after_dataset_loaded(self, dataset_name: str, data: Any) -> None:
        """Tag the run with the digest of the chunks it works on."""
        import mlflow

        if dataset_name == "synapse_chunks" and mlflow.active_run() is not None:
            mlflow.set_tag("data_sha256", data.sha256)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Log what the catalog says is to be logged."""
        import mlflow

        dataset = self._catalog.get(dataset_name)
        wishes = (getattr(dataset, "metadata", None) or {}).get("mlflow", {})
        if not wishes or mlflow.active_run() is None:
            return
        if wishes.get("metrics"):
            mlflow.log_metrics(data)
        if "artifact" in wishes:
            _log_artifact(dataset, wishes["artifact"])

    @hook_impl
    def after_catalog_created(  # noqa: D102
        self,
        catalog: DataCatalog,
        conf_catalog: dict[str, Any],
        conf_creds: dict[str, Any],
        parameters: dict[str, Any],
        save_version: str,
        load_versions: dict[str, str],
    ) -> None:
        self._catalog = catalog

    def _log_param(self, name: str, value: Any) -> None:
        if isinstance(value, BaseModel):
            import mlflow

            mlflow.log_params(_flatten(name, value.model_dump(mode="json")))
        else:
            super()._log_param(name, value)


@contextmanager
def _system_metrics(wanted: bool) -> Iterator[None]:
    """Let MLflow sample processor, memory and GPU in runs that start here, unless the environment decides otherwise.

    ``MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING`` switches it on or off for all runs. The sampling thread belongs to the run
    that starts it and ends with it; runs that are opened again, as for a node in another thread, start none.
    """
    if not wanted or _SYSTEM_METRICS in os.environ:
        yield
        return
    import mlflow

    logging.getLogger("mlflow.system_metrics").setLevel(logging.WARNING)
    os.environ.setdefault("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", _SAMPLING_SECONDS)
    os.environ.setdefault("MLFLOW_SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING", _SAMPLES_A_POINT)
    mlflow.enable_system_metrics_logging()
    try:
        yield
    finally:
        os.environ.pop(_SYSTEM_METRICS)


def end_as_killed(run_id: str) -> None:
    """Mark an MLflow run as killed if it is still active: Ctrl-C and SIGTERM end a process past the other hooks.

    Called when the process exits, before MLflow's own handler, which would mark the run as finished.
    """
    import mlflow

    active = mlflow.active_run()
    if active is not None and active.info.run_id == run_id:
        mlflow.end_run("KILLED")


def _flatten(prefix: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {key: leaf for name, inner in value.items() for key, leaf in _flatten(f"{prefix}.{name}", inner).items()}


def _git_state() -> dict[str, str]:
    """Commit of the working directory, and whether it has changes; empty outside of git."""
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10)
        changes = subprocess.run(
            ["git", "status", "--porcelain"], capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"git_commit": commit.stdout.strip(), "git_dirty": str(bool(changes.stdout.strip())).lower()}


def _log_artifact(dataset: Any, folder: str) -> None:
    """Log a dataset's file or folder, fetching it first if it is remote."""
    import tempfile

    import fsspec
    import mlflow

    path = str(getattr(dataset, "_filepath"))  # noqa: B009
    protocol = getattr(dataset, "_protocol", "file")
    if protocol == "file" and "://" not in path:
        (mlflow.log_artifacts if os.path.isdir(path) else mlflow.log_artifact)(path, artifact_path=folder)
        return
    url = path if "://" in path else f"{protocol}://{path}"
    with tempfile.TemporaryDirectory() as local:
        filesystem, remote = fsspec.core.url_to_fs(url)
        filesystem.get(remote, f"{local}/{Path(remote).name}", recursive=True)
        mlflow.log_artifacts(local, artifact_path=folder)
