"""What happens around every run: guards, the clock, and tracking in MLflow."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path, PurePosixPath
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro_mlflow.framework.hooks.mlflow_hook import MlflowHook
from pydantic import BaseModel

from synapseclr.errors import ConfigurationError

SIMULATED = "simulated"
_SECONDS = "pipeline_seconds"


class ParameterGuard:
    """Stops a run whose ``--params`` name something that no pipeline takes, before any node runs."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Compare the top-level names; what is below them, the parameters' own models check."""
        from kedro.framework.project import pipelines

        given = run_params.get("runtime_params") or run_params.get("extra_params") or {}
        known = {
            name.removeprefix("params:").split(".")[0]
            for p in pipelines.values()
            for name in p.inputs()
            if name.startswith("params:")
        }
        known |= {"data_root", "augmentation"}  # these are resolved in the configuration, not read by nodes
        unknown = sorted(set(given) - known)
        if unknown:
            raise ConfigurationError(f"Unknown parameter {', '.join(unknown)}. Known are {', '.join(sorted(known))}.")


class SimulationGuard:
    """Keeps the simulation from writing where somebody's own raw data lie."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Every output of the simulation must lie below a folder named ``simulated``."""
        for name in pipeline.only_nodes_with_tags("simulation").all_outputs():
            path = getattr(catalog.get(name), "_filepath", None)
            if path is not None and SIMULATED not in PurePosixPath(str(path)).parts:
                raise ConfigurationError(
                    f"The simulation would overwrite {name} at {path}. It only writes below a folder named "
                    f"'{SIMULATED}'. Run the pipelines on your own data without it: `kedro run`."
                )


class PipelineClock:
    """Measures the seconds that each pipeline's nodes take, loading and saving included."""

    def __init__(self) -> None:
        self._catalog: DataCatalog | None = None
        self._started: dict[str, float] = {}
        self._seconds: dict[str, float] = {}

    @hook_impl
    def after_catalog_created(self, catalog: DataCatalog) -> None:
        """Keep the catalog, to which the figures go."""
        self._catalog = catalog

    @hook_impl
    def before_dataset_loaded(self, node: Node) -> None:
        """A node begins with its first input."""
        self._started.setdefault(node.name, time.monotonic())

    @hook_impl
    def after_dataset_saved(self, node: Node) -> None:
        """A node ends, so far, with this output: renew its pipeline's figure, keep those of pipelines run earlier."""
        now = time.monotonic()
        pipeline = min(node.tags, default="")
        self._seconds[pipeline] = self._seconds.get(pipeline, 0.0) + now - self._started.get(node.name, now)
        self._started[node.name] = now
        dataset = self._catalog.get(_SECONDS) if self._catalog is not None and _SECONDS in self._catalog else None
        if dataset is not None:
            known = dataset.load() if dataset.exists() else {}
            dataset.save({**known, **{name: round(value, 2) for name, value in self._seconds.items()}})


class RunTracking(MlflowHook):
    """kedro-mlflow's hook, with flattened typed parameters, provenance tags, and artifacts named in the catalog.

    A catalog entry is logged when it is saved if its ``metadata`` has ``mlflow: {artifact: <folder>}`` (the file) or
    ``mlflow: {metrics: true}`` (its numbers).
    """

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Start the run and tag it."""
        import mlflow

        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # the nodes have bars of their own
        super().before_pipeline_run(run_params=run_params, pipeline=pipeline, catalog=catalog)
        if self._is_mlflow_enabled:
            names = run_params.get("pipeline_names") or [run_params.get("pipeline_name") or "__default__"]
            mlflow.set_tags(
                {"pipeline": "+".join(names), "environment": run_params.get("env") or "local", **_git_state()}
            )

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
