"""A tracking server from the client's side: whether it answers, how long requests wait, runs whose process is gone."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from synapseclr.privacy import project_folder, redact

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

PROBE_SECONDS = 3.0
_TIMEOUT, _RETRIES = "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
_DEFAULTS = {
    _TIMEOUT: "10",  # MLflow waits 120 s, and tries seven times more
    _RETRIES: "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # it may hold a password
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # the nodes have bars of their own
}
_changing = threading.RLock()
_set_here: set[str] = set()
HOST_TAG, PROCESS_TAG = "synapseclr.host", "synapseclr.process"


def keep_requests_short() -> None:
    """Have MLflow's requests end within seconds, unless the environment sets its own limits."""
    for name, value in _DEFAULTS.items():
        if name not in os.environ:
            os.environ[name] = value
            _set_here.add(name)


def warn_of_databases_once() -> None:
    """Leave what a database refuses to the outbox's one warning: MLflow logs every attempt with its traceback."""
    logging.getLogger("mlflow.store.db.utils").addFilter(_is_no_error)  # added once, however often


def _is_no_error(record: logging.LogRecord) -> bool:
    return record.levelno < logging.ERROR


@contextmanager
def request_limits(timeout_seconds: int, n_retries: int = 1) -> Iterator[None]:
    """Set the limits of MLflow's requests that begin in here, unless the environment sets its own.

    The limits are the process's: requests of other threads that begin meanwhile have them too.

    Args:
        timeout_seconds: For a connection, and for an answer.
        n_retries: Further attempts.
    """
    wanted = {_TIMEOUT: str(timeout_seconds), _RETRIES: str(n_retries)}
    with _changing:
        before = {name: os.environ.get(name) for name in wanted}
        ours = [name for name in wanted if name in _set_here or before[name] is None]
        os.environ.update({name: wanted[name] for name in ours})
    try:
        yield
    finally:
        with _changing:
            for name in ours:
                if (value := before[name]) is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def answers(uri: str, seconds: float | None = None) -> bool:
    """Tell whether a tracking server answers anything at all; True for databases and folders, which are not asked.

    Args:
        uri: Tracking URI.
        seconds: Limit for all of it: name resolution, connection and answer; by default `PROBE_SECONDS`.
    """
    if not uri.startswith(("http://", "https://")):
        return True
    import mlflow.utils.rest_utils  # noqa: F401 - seconds that are not the server's

    limit = PROBE_SECONDS if seconds is None else seconds
    found: list[bool] = []
    probe = threading.Thread(target=lambda: found.append(_health(uri, limit)), daemon=True, name="mlflow-probe")
    try:
        probe.start()
    except RuntimeError:  # the interpreter is ending
        return _health(uri, limit)
    probe.join(limit + 0.5)  # looking a name up knows no time-out of its own
    return bool(found and found[0])


def _health(uri: str, seconds: float) -> bool:
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    try:
        answer = http_request(
            get_default_host_creds(uri), "/health", "GET", max_retries=0, timeout=seconds, raise_on_status=False
        )
    except Exception:  # whatever it is, it is not an answer
        return False
    return bool(answer.status_code < 500)


def shown(uri: str) -> str:
    """A tracking URI as it may be shown: without a password, and relative to the project."""
    return redact(uri)


def runs_page(uri: str, experiment_id: str) -> str:
    """Address of the list of an experiment's runs on the page of a server; empty for databases and folders.

    Args:
        uri: Of the server, such as ``http://127.0.0.1:5000``.
        experiment_id: The experiment.
    """
    return f"{shown(uri).rstrip('/')}/#/experiments/{experiment_id}/runs" if uri.startswith("http") else ""


def process_tags() -> dict[str, str]:
    """Tags that say which process of which machine and project a run is, without their names."""
    return {HOST_TAG: _host(), PROCESS_TAG: f"{os.getpid()}/{_started(os.getpid())}"}


def end_abandoned(client: MlflowClient, experiment_id: str) -> list[str]:
    """Mark runs of this project on this machine as KILLED if they are RUNNING in MLflow and their process is gone.

    Args:
        client: Of the tracking server.
        experiment_id: The experiment looked at.

    Returns:
        The ids of the marked runs.
    """
    ended: list[str] = []
    for run in find_runs(client, experiment_id, f"attributes.status = 'RUNNING' and tags.`{HOST_TAG}` = '{_host()}'"):
        if not _is_alive(run.data.tags.get(PROCESS_TAG, "")):
            client.set_terminated(run.info.run_id, "KILLED")
            ended.append(run.info.run_id)
    if ended:
        logger.info("%d run(s) in MLflow whose process was killed are marked as KILLED.", len(ended))
    return ended


def find_runs(client: MlflowClient, experiment_id: str, condition: str) -> Iterator[Run]:
    """Yield all runs of an experiment that meet a condition in MLflow's query language, page by page."""
    token: str | None = None
    while True:
        page = client.search_runs([experiment_id], condition, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _host() -> str:
    """A digest of machine, process namespace (containers have their own) and project."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return hashlib.sha256("\n".join([socket.gethostname(), namespace, str(project_folder())]).encode()).hexdigest()[:16]


def _is_alive(process: str) -> bool:
    pid, _, started = process.partition("/")
    if not pid.isdigit():
        return True  # not ours to judge
    return bool(started) and _started(int(pid)) == started


def _started(pid: int) -> str:
    """Start of a process, in a form that neither a reused id nor a changed clock repeats; empty if it is gone."""
    import psutil

    try:
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
        return "" if state in "ZX" else f"{boot}-{ticks}"
    except (OSError, IndexError):
        pass
    try:
        return "" if Path("/proc/self/stat").exists() else f"{psutil.Process(pid).create_time():.2f}"
    except psutil.Error:
        return ""
