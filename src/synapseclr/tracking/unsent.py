"""Sending of entries that runs kept while MLflow was away."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from synapseclr.errors import ConfigurationError, UnreachableError
from synapseclr.privacy import MASK
from synapseclr.storage.atomic_files import write_whole
from synapseclr.tracking.outbox import Entry, send
from synapseclr.tracking.server import answers, keep_requests_short, shown


@dataclass(frozen=True)
class Sent:
    """Outcome of sending a file of unsent entries.

    Attributes:
        run_id: The run in MLflow.
        n_entries: Entries sent.
        commands: Commands for what else is left to do.
    """

    run_id: str
    n_entries: int
    commands: tuple[str, ...]


def find_unsent(place: Path) -> list[Path]:
    """The files with unsent entries at a path: itself, or those in a folder.

    Raises:
        ConfigurationError: If there are none.
    """
    found = sorted(place.glob("*.json")) if place.is_dir() else [place]
    if not found or not all(file.is_file() for file in found):
        raise ConfigurationError(
            f"Nothing that waits for MLflow lies at {place}. Give the file that the run's last warning names, or its "
            "folder."
        )
    return found


def send_unsent(path: Path, tracking_uri: str | None = None) -> Sent:
    """Send a file's entries to the run that they belong to, end the run, and remove the file.

    What has been sent is taken out of the file if the rest fails: the same command continues.

    Args:
        path: Written by `Outbox.close`.
        tracking_uri: Where the run is; the file says it unless there was a password in it.

    Raises:
        ConfigurationError: If the file cannot be read, or does not say where the run is.
        UnreachableError: If MLflow does not answer, or lacks the run.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    content = _read(path)
    uri = tracking_uri or content["tracking_uri"]
    if MASK in uri:
        uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        raise ConfigurationError(
            f"{path} belongs to {content['tracking_uri']}, whose password is not kept. Give the address: "
            "--tracking-uri=..., or MLFLOW_TRACKING_URI in the environment."
        )
    keep_requests_short()
    if not answers(uri):
        raise UnreachableError(f"MLflow at {shown(uri)} does not answer. Nothing was sent; try again when it is back.")
    client = MlflowClient(uri)
    run_id = content["run_id"]
    entries = [_entry(item) for item in content["entries"]]
    n_sent = 0
    try:
        client.get_run(run_id)
        for entry in entries:
            send(client, run_id, entry)
            n_sent += 1
        if content["status"] is not None:
            client.set_terminated(run_id, content["status"], content["end_time_ms"])
    except (MlflowException, OSError) as error:
        if n_sent:
            left = [asdict(entry) for entry in entries[n_sent:]]
            write_whole(path, json.dumps({**content, "entries": left}, indent=1).encode(), is_recorded=False)
        raise UnreachableError(
            f"MLflow at {shown(uri)} took {n_sent} of {len(entries)} entries of the run {run_id}, then: "
            f"{str(error).strip()} The rest stays in {path}."
        ) from error
    path.unlink()
    shutil.rmtree(path.with_suffix(""), ignore_errors=True)
    return Sent(run_id, n_sent, tuple(content["commands"]))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
        if missing := {"tracking_uri", "run_id", "status", "end_time_ms", "entries", "commands"} - set(content):
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ConfigurationError(f"{path} is not a file with what MLflow was not told: {error}.") from error
    return dict(content)


def _entry(item: dict[str, Any]) -> Entry:
    artifact = item["artifact"]
    return Entry(
        metrics=[tuple(row) for row in item["metrics"]],
        params=item["params"],
        tags=item["tags"],
        artifact=None if artifact is None else (artifact[0], artifact[1], artifact[2]),
    )


def send_all(place: Path, tracking_uri: str | None = None) -> Iterator[Sent]:
    """Send all files at a path, one after the other."""
    for path in find_unsent(place):
        yield send_unsent(path, tracking_uri)
