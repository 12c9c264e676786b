"""Runs in MLflow."""

from __future__ import annotations

import atexit
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path
from typing import Any

from kedro.config import MissingConfigException
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro_mlflow.framework.hooks.mlflow_hook import MlflowHook
from kedro_mlflow.io.catalog.switch_catalog_logging import switch_catalog_logging

from synapseclr.analysis.headline import headline_markdown, headline_metrics
from synapseclr.errors import UnreachableError, VolumeError
from synapseclr.hooks.status import run_options
from synapseclr.parameters import flatten_names, label_parameters
from synapseclr.privacy import project_folder, redact_tree
from synapseclr.storage.addresses import is_local, open_filesystem, plain_address
from synapseclr.storage.atomic_files import locked
from synapseclr.tracking.git import git_state
from synapseclr.tracking.outbox import Outbox, current_outbox, set_current_outbox
from synapseclr.tracking.server import (
    answers,
    end_abandoned,
    keep_requests_short,
    process_tags,
    request_limits,
    runs_page,
    shown,
)
from synapseclr.training.launching import machine_index

_TRAINING = "pretraining"
_ALL_PARAMETERS = "parameters"  # Kedro's name for all of them
_LONGEST_NAME = 120
_DESCRIPTION = "mlflow.note.content"
_PICTURE_PX = (600, 600)
_REPORTING = "reporting"  # folder of artifacts
_PLACES = {"data_root", "results_root"}
_VERSION = ("datastack", "table", "materialization_version", "root_ids_at")  # of a table that a server has versions of
_SYSTEM_METRICS = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"
_SAMPLING_SECONDS, _SAMPLES_A_POINT = "10", "3"  # a point every half minute: 40,000 in two weeks
_SWITCH = "SYNAPSECLR_TRACKING"
_AT_START_SECONDS = 5.0
_BEGUN_AT_ONCE = ("duplicate column", "already exists", "database is locked", "unique constraint", "no such table")
_ATTEMPTS = 5
_LEAVING_SECONDS = 5
_REFUSES = "http://127.0.0.1:9"  # the port named discard: a connection is refused at once

logger = logging.getLogger(__name__)

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

    A catalog entry is logged when it is saved if its ``metadata`` has ``mlflow: {artifact: <folder>}`` (the file),
    ``mlflow: {metrics: true}`` (its numbers) or ``mlflow: {summary: true}`` (the headline figures of an evaluation
    document). The last one saved of those with ``mlflow: {picture: true}`` stands in the description of the run.

    MLflow is asked directly when a run starts. From then on everything goes through an `Outbox`: a server that dies or
    hangs costs the run nothing. ``SYNAPSECLR_TRACKING=off`` in the environment leaves MLflow alone.
    """

    _is_mlflow_enabled: bool

    def __init__(self) -> None:
        super().__init__()
        self._is_off = True
        self._is_exit_watched = False
        self._summary: dict[str, float] = {}
        self._picture: Path | None = None  # on this machine

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Set MLflow up, unless the session only looks; what a session before this one has left open ends."""
        import mlflow

        if not _is_tracking.get():
            return
        self.close("KILLED")  # an interrupted session of the same process, as in a notebook
        self.run_id = None
        self._is_off = os.environ.get(_SWITCH, "").lower() in ("off", "false", "0", "no")
        if self._is_off:
            self._is_mlflow_enabled = False
            return
        keep_requests_short()
        uri = mlflow.get_tracking_uri() if mlflow.active_run() is not None else _configured_uri(context)
        if not answers(uri, _AT_START_SECONDS):
            raise UnreachableError(_away(uri))
        with _naming(uri), _first_alone(uri):
            _patiently(lambda: super(RunTracking, self).after_context_created(context))

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Start the run and tag it; end those whose processes were killed."""
        import mlflow

        self._summary, self._picture = {}, None
        if self._is_off:
            switch_catalog_logging(catalog, False)
            return
        uri = str(self.mlflow_config.server.mlflow_tracking_uri)
        names = run_params.get("pipeline_names") or [run_params.get("pipeline_name") or "__default__"]
        tags = {
            "pipeline": "+".join(names),
            "environment": run_params.get("env") or "local",
            "mlflow.source.name": "kedro run",
            "mlflow.source.type": "LOCAL",
            **git_state(),
            **process_tags(),
        }
        disabled = set(self.mlflow_config.tracking.disable_tracking.pipelines)
        with _naming(uri):
            active = mlflow.active_run() if self._already_active_mlflow else None
            found = self.mlflow_config.tracking.experiment._experiment if active is None else active.info
            experiment_id = str(found.experiment_id)
            try:
                end_abandoned(mlflow.MlflowClient(), experiment_id)
            except mlflow.MlflowException as error:  # such as a server where users cannot change the runs of others
                logger.warning("Runs whose process is gone could not be marked as KILLED: %s", error)
            config = self.mlflow_config.tracking.run
            if not self._already_active_mlflow and not disabled & set(names):
                # MLflow's own start of a run tags it with the user's name and the machine's paths.
                config.id = config.id or os.environ.pop("MLFLOW_RUN_ID", None)
                if not config.id:
                    config.name = config.name or _run_name(names, run_params)
                    config.id = _create_run(experiment_id, config.name, tags)
            with _system_metrics(wanted=bool(pipeline.only_nodes_with_tags(_TRAINING).nodes)):
                super().before_pipeline_run(run_params=_told(run_params), pipeline=pipeline, catalog=catalog)
        if not self._is_mlflow_enabled or self.run_id is None:
            return
        rerun = _rerun_command(self.run_id, names, run_params)
        outbox = Outbox(uri, self.run_id, _unsent_folder(catalog), rerun, runs_page(uri, experiment_id))
        outbox.tags(tags)
        set_current_outbox(outbox)
        if not self._is_exit_watched:
            atexit.register(self.close, "KILLED")
            self._is_exit_watched = True

    @hook_impl
    def before_node_run(self, node: Node, catalog: DataCatalog, inputs: dict[str, Any], is_async: bool) -> None:
        """Log the node's parameters; make the run active where the node runs in a thread of its own."""
        import mlflow

        outbox = current_outbox()
        if outbox is None:
            return
        params: dict[str, Any] = {}
        for name, value in inputs.items():
            if name.startswith("params:"):
                params |= flatten_names(value, name.removeprefix("params:"))
            elif name == _ALL_PARAMETERS:  # hundreds, most of them of nodes that log their own
                _log_all_parameters(outbox, value)
        outbox.params({self.sanitize_param_name(name): value for name, value in params.items()})
        if mlflow.active_run() is None and not outbox.is_away:
            try:
                mlflow.start_run(run_id=self.run_id, nested=True)
            except Exception as error:  # nodes of this project do without it
                outbox.failed(error)

    @hook_impl
    def after_node_run(self) -> None:
        """End the tracking on the machines that do not host rank 0; their runs keep a tag and system metrics."""
        outbox = current_outbox()
        if machine_index() > 0 and outbox is not None:
            outbox.tags({"machine": machine_index()})
            self.close("FINISHED")

    @hook_impl
    def after_dataset_loaded(self, dataset_name: str, data: Any) -> None:
        """Tag the run with the digest of the chunks it works on, and with the version of a table of synapses."""
        outbox = current_outbox()
        if outbox is None:
            return
        if dataset_name == "synapse_chunks":
            with suppress(VolumeError):  # no store: the node says so, if it reads from it
                outbox.tags({"data_sha256": data.sha256})
        elif dataset_name == "synapse_table" and (source := getattr(data, "attrs", {}).get("synapse_source")):
            outbox.tags({f"synapse_table.{name}": source[name] for name in _VERSION if name in source})

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Log what the catalog says is to be logged."""
        outbox = current_outbox()
        if outbox is None:
            return
        dataset = self._catalog.get(dataset_name)
        wanted = (getattr(dataset, "metadata", None) or {}).get("mlflow", {})
        if wanted.get("metrics"):
            outbox.metrics(data)
        if wanted.get("summary"):
            self._summary = headline_metrics(data)
            outbox.metrics(self._summary)
        if "artifact" in wanted:
            try:
                logged = _log_artifact(outbox, dataset, wanted["artifact"])
                self._picture = logged if wanted.get("picture") else self._picture
            except Exception as error:  # a bucket may fail while it is read again: the results are saved
                logger.warning("MLflow does not get %s: %s", dataset_name, error)

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Describe the run, send what is left, and end it."""
        outbox = current_outbox()
        if outbox is not None and (self._summary or self._picture):
            outbox.tags({_DESCRIPTION: headline_markdown(self._summary, _small_picture(outbox, self._picture))})
        self.close("FINISHED")

    @hook_impl
    def on_pipeline_error(self) -> None:
        """End the run as failed."""
        self.close("FAILED")

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

    def close(self, status: str) -> None:
        """End the session's run, if one is open; called at exit too, where Ctrl-C and SIGTERM lead past the hooks.

        Args:
            status: FINISHED, FAILED or KILLED.
        """
        outbox = current_outbox()
        if outbox is None:
            return
        set_current_outbox(None)
        is_told = outbox.close(None if self._already_active_mlflow else status)
        if not self._already_active_mlflow:
            _leave_run(status, is_away=outbox.is_away)
            if is_told:
                outbox.end(status)  # MLflow's own end of a run has the clock's time, which may have been set back
        self._is_mlflow_enabled = False
        self.run_id = None


def _configured_uri(context: KedroContext) -> str:
    try:
        return str((context.config_loader["mlflow"].get("server") or {}).get("mlflow_tracking_uri") or "")
    except MissingConfigException:
        return ""


@contextmanager
def _naming(uri: str) -> Iterator[None]:
    """Turn what MLflow, its database or the network raises into one sentence."""
    import requests
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, requests.RequestException, OSError) as error:
        if isinstance(error, UnreachableError):
            raise
        text = str(error).strip() or type(error).__name__
        raise UnreachableError(_away(uri, text.split("\n")[0])) from error


def _away(uri: str, reason: str = "it does not answer") -> str:
    return (
        f"MLflow at {shown(uri)} cannot be used: {reason.rstrip('.')}. Start it, or go on without it: in front of the "
        f"command, MLFLOW_TRACKING_URI=sqlite:///mlflow.db records the run in a database in the project, {_SWITCH}=off "
        "records nothing."
    )


def _first_alone(uri: str) -> AbstractContextManager[None]:
    """Let one process at a time make a fresh SQLite database and its experiment."""
    if not uri.startswith("sqlite:///"):
        return nullcontext()
    return locked(uri.removeprefix("sqlite:///").partition("?")[0], patience_seconds=60.0)


def _patiently(set_up: Callable[[], None]) -> None:
    """Try again where another process, which knows nothing of our lock, has made the same table or experiment."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            set_up()
            return
        except Exception as error:
            if attempt == _ATTEMPTS or not any(sign in str(error).lower() for sign in _BEGUN_AT_ONCE):
                raise
            time.sleep(attempt)


def _run_name(pipelines: list[str], run_params: dict[str, Any]) -> str:
    """Date, pipelines, environment and changed parameters: ``2026-01-31 14:05 demo, test: epochs=3``."""
    changed = {
        name: value
        for name, value in flatten_names(redact_tree(run_params.get("runtime_params") or {})).items()
        if name not in _PLACES
    }
    subject = ", ".join(["+".join(pipelines), *([run_params["env"]] if run_params.get("env") else [])])
    name = f"{datetime.now():%Y-%m-%d %H:%M} {subject}{': ' if changed else ''}{label_parameters(changed)}"
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3]}..."


def _create_run(experiment_id: str, name: str, tags: dict[str, str]) -> str:
    import mlflow

    told = {"mlflow.user": "-", **{key: str(value) for key, value in redact_tree(tags).items()}}
    return str(mlflow.MlflowClient().create_run(experiment_id, tags=told, run_name=name).info.run_id)


def _told(run_params: dict[str, Any]) -> dict[str, Any]:
    """The run's arguments that MLflow gets: those that Kedro's hook sets as tags."""
    kept = {name: value for name, value in run_params.items() if name not in ("project_path", "runner", "run_id")}
    return dict(redact_tree(kept))


def _unsent_folder(catalog: DataCatalog) -> Path:
    """Folder of the entries that MLflow did not get: beside the run's results, or in the project if they are remote."""
    dataset = catalog.get("pipeline_seconds") if "pipeline_seconds" in catalog else None
    path = getattr(dataset, "local_path", None)
    return (project_folder() if path is None else path.parent) / "mlflow_unsent"


def _rerun_command(run_id: str, pipelines: list[str], run_params: dict[str, Any]) -> str:
    """A command that runs one of the run's nodes once more in the same MLflow run; NODE stands for its name."""
    options = [f"--pipeline={','.join(pipelines)}"] if pipelines != ["__default__"] else []
    return " ".join([f"MLFLOW_RUN_ID={run_id} kedro run --nodes=NODE", *options, *run_options(run_params)])


def _leave_run(status: str, is_away: bool) -> None:
    """Make MLflow's active run of this thread inactive, whatever the server says to that.

    MLflow always asks the server first, and would wait for one that is away, or for a locked database: nobody is asked
    then.
    """
    import mlflow

    uri = mlflow.get_tracking_uri()
    with request_limits(_LEAVING_SECONDS, 0):
        if is_away:
            mlflow.set_tracking_uri(_REFUSES)
        try:
            while mlflow.active_run() is not None:
                try:
                    mlflow.end_run(status)
                except Exception as error:  # the outbox has told, or kept, the run's end
                    logger.debug("MLflow did not take the end of a run: %s", error)
        finally:
            if is_away:
                mlflow.set_tracking_uri(uri)


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

    logging.getLogger("mlflow.system_metrics").setLevel(logging.ERROR)  # a server that is away is told of once
    os.environ.setdefault("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", _SAMPLING_SECONDS)
    os.environ.setdefault("MLFLOW_SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING", _SAMPLES_A_POINT)
    mlflow.enable_system_metrics_logging()
    try:
        yield
    finally:
        os.environ.pop(_SYSTEM_METRICS)


def _log_all_parameters(outbox: Outbox, parameters: dict[str, Any]) -> None:
    """Log all parameters as one file."""
    copy = outbox.copies_folder / "parameters.json"
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(json.dumps(redact_tree(parameters), indent=2, default=str))
    except OSError as error:
        logger.warning("MLflow does not get the file of all parameters: %s", error)
        return
    outbox.artifact(copy, _REPORTING)


def _small_picture(outbox: Outbox, picture: Path | None) -> str | None:
    """Log a picture at the width of MLflow's column for descriptions, which shows pictures at their own size.

    Returns:
        Its address on the page of a run.
    """
    from PIL import Image

    if picture is None:
        return None
    copy = outbox.copies_folder / "picture.png"
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(picture) as image:
            image.thumbnail(_PICTURE_PX)
            image.save(copy)
    except OSError as error:  # such as a full disk
        logger.debug("The run's description has no picture: %s", error)
        return None
    outbox.artifact(copy, _REPORTING)
    return f"get-artifact?path={_REPORTING}/{copy.name}&run_uuid={outbox.run_id}"


def _log_artifact(outbox: Outbox, dataset: Any, folder: str) -> Path:
    """Log a dataset's file or folder, fetching it first if it is remote; return its path on this machine."""
    path = str(getattr(dataset, "_filepath"))  # noqa: B009
    protocol = getattr(dataset, "_protocol", "file")
    url = f"{protocol}://{path}" if protocol != "file" and is_local(path) else path  # Kedro's own leave it out
    if is_local(url):
        outbox.artifact(plain_address(url), folder)
        return Path(plain_address(url))
    filesystem, remote = open_filesystem(url)
    copy = outbox.copies_folder / folder / Path(remote).name
    copy.parent.mkdir(parents=True, exist_ok=True)
    filesystem.get(remote, str(copy), recursive=True)
    outbox.artifact(copy, folder)
    return copy
