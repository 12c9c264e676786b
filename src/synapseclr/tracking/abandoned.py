"""Runs whose process was killed: they would stay RUNNING in MLflow for ever, and are marked as KILLED."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from synapseclr.privacy.redaction import project_folder

if TYPE_CHECKING:
    from mlflow import MlflowClient

HOST_TAG, PROCESS_TAG = "synapseclr.host", "synapseclr.process"

logger = logging.getLogger(__name__)


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
    token: str | None = None
    while True:
        page = client.search_runs(
            [experiment_id], f"attributes.status = 'RUNNING' and tags.`{HOST_TAG}` = '{_host()}'", page_token=token
        )
        for run in page:
            if not _is_alive(run.data.tags.get(PROCESS_TAG, "")):
                client.set_terminated(run.info.run_id, "KILLED")
                ended.append(run.info.run_id)
        token = page.token
        if not token:
            break
    if ended:
        logger.info("%d run(s) in MLflow whose process was killed are marked as KILLED.", len(ended))
    return ended


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
