"""Messages of a run to MLflow, sent by a thread of their own: a server that is away or hangs costs the run nothing.

What it did not take is kept in a file, whose entries are sent later.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synapseclr.errors import ConfigurationError, OutputError, UnreachableError
from synapseclr.privacy import MASK, mask_secrets, redact, redact_tree
from synapseclr.storage.atomic_files import write_whole
from synapseclr.tracking.server import answers, keep_requests_short, request_limits, shown, warn_of_databases_once

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

_MOST_PER_ENTRY = 90  # MLflow takes 100 parameters and 100 tags a request, and 1,000 metrics
_MOST_METRICS_PER_REQUEST = 900
_LONGEST_PARAMETER = 6000
_LONGEST_TAG = 7500
_UPLOAD_SECONDS = 60
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 5.0, 60.0
_LAST_WAIT_SECONDS = 8.0
_LAST_PROBES_SECONDS = (None, 2.0)  # at the end of a run; the first as long as any other probe
_AWAY_JUST_NOW_SECONDS, _SHORT_PROBE_SECONDS, _ASKED_AGAIN_AFTER_SECONDS = 30.0, 1.0, 3.0
_NO_ANSWER = "it does not answer"
_NOT_PERMANENT = {401, 403, 404, 408, 429}  # 404: something else may listen there for now


@dataclass(frozen=True)
class Entry:
    """Something that a run tells MLflow, in what JSON can hold.

    Attributes:
        metrics: (name, value, time in ms, step); not-a-number and infinities as text.
        params: Value by name.
        tags: Value by name.
        artifact: (local path, folder in the run, fingerprint of the file), if it is one.
    """

    metrics: list[tuple[str, float | str, int, int]] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    artifact: tuple[str, str, str] | None = None

    def fits(self, other: Entry) -> bool:
        """Tell whether both go into one request."""
        return (
            self.artifact is None
            and other.artifact is None
            and len(self.metrics) + len(other.metrics) <= _MOST_METRICS_PER_REQUEST
            and max(len(self.params) + len(other.params), len(self.tags) + len(other.tags)) <= _MOST_PER_ENTRY
        )

    def joined(self, other: Entry) -> Entry:
        """Both as one."""
        return Entry(self.metrics + other.metrics, self.params | other.params, self.tags | other.tags)

    def describe(self) -> str:
        """A few words for a message."""
        if self.artifact is not None:
            return f"the artifact {Path(self.artifact[0]).name}"
        return ", ".join([*(name for name, *_ in self.metrics), *self.params, *self.tags][:5])


class Outbox:
    """Keeps what a run tells MLflow until the server has it.

    Entries are redacted on their way in. A thread sends them, several in a request, and asks after the server first, so
    that one which hangs is found out within seconds. While it is away, the thread tries again after growing pauses.

    Args:
        tracking_uri: MLflow's.
        run_id: Of the run that the entries belong to; it exists.
        unsent_folder: Where `close` writes what could not be sent.
        rerun_command: Command that runs a node again in the same MLflow run; NODE is replaced by its name.
        page: Address of the page with the runs of the experiment, if a server shows it.
    """

    def __init__(
        self, tracking_uri: str, run_id: str, unsent_folder: Path, rerun_command: str = "", page: str = ""
    ) -> None:
        self.run_id = run_id
        self.page = page
        self.is_closed = False
        self._uri = tracking_uri
        self._unsent_folder = unsent_folder
        self._rerun_command = rerun_command
        self._entries: deque[Entry] = deque()
        self._artifacts: deque[Entry] = deque()  # after the entries: they take longer, and fail on their own
        self._params: dict[str, str] = {}
        self._commands: list[str] = []
        self._changed = threading.Condition()
        self._is_away = self._was_away = self._is_uploading = self._is_closing = False
        self._failed_at = 0.0
        self._attempts_left = 1
        self._n_sent = 0
        self._clock_offset_ms = time.time_ns() // 10**6 - time.monotonic_ns() // 10**6
        warn_of_databases_once()
        self._thread = threading.Thread(target=self._send_all, daemon=True, name="mlflow-outbox")
        self._thread.start()

    @property
    def is_away(self) -> bool:
        """True if the server was away at the last attempt."""
        return self._is_away

    def is_reachable(self) -> bool:
        """Ask the server, unless it was away at the last attempt, whether it is there."""
        if not self._is_away and not answers(self._uri):
            self.failed(_NO_ANSWER)
        return not self._is_away

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Add metrics of a step; their time is now."""
        now = self._now_ms()
        rows: list[tuple[str, float | str, int, int]] = [
            (name, float(value) if math.isfinite(value) else str(float(value)), now, step)
            for name, value in values.items()
        ]
        for start in range(0, len(rows), _MOST_PER_ENTRY):
            self._add(Entry(metrics=rows[start : start + _MOST_PER_ENTRY]))

    def params(self, values: Mapping[str, Any]) -> None:
        """Add parameters; those longer than MLflow takes become tags, and known ones are left out."""
        texts = {name: str(value) for name, value in redact_tree(values).items()}
        new = {name: text for name, text in texts.items() if self._params.get(name) != text}
        self._params |= new
        self.tags({name: text for name, text in new.items() if len(text) > _LONGEST_PARAMETER})
        short = [item for item in new.items() if len(item[1]) <= _LONGEST_PARAMETER]
        for start in range(0, len(short), _MOST_PER_ENTRY):
            self._add(Entry(params=dict(short[start : start + _MOST_PER_ENTRY])))

    def tags(self, values: Mapping[str, Any]) -> None:
        """Add tags."""
        rows = [(name, str(value)[:_LONGEST_TAG]) for name, value in redact_tree(values).items()]
        for start in range(0, len(rows), _MOST_PER_ENTRY):
            self._add(Entry(tags=dict(rows[start : start + _MOST_PER_ENTRY])))

    @property
    def copies_folder(self) -> Path:
        """For copies of artifacts that lie elsewhere; removed when they have been sent."""
        return self._unsent_folder / self.run_id

    def artifact(self, path: str | os.PathLike[str], folder: str) -> None:
        """Add a local file or folder, which must stay until it is sent.

        Args:
            path: Of the file or folder.
            folder: Where it goes in the run.
        """
        self._add(Entry(artifact=(os.path.abspath(path), folder, _fingerprint(path))))

    def rerun_later(self, node: str) -> None:
        """Keep the command that runs a node again, which could do nothing while the server was away."""
        self._commands.append(mask_secrets(self._rerun_command.replace("NODE", node)))

    def failed(self, error: BaseException | str) -> None:
        """Note, by whoever asked it something, that the server is away."""
        with self._changed:
            self._note_failure(error)
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait some seconds at most until MLflow has what was added so far, artifacts excepted."""
        with self._changed:
            self._changed.wait_for(lambda: not self._entries or self._is_away, timeout=_LAST_WAIT_SECONDS)

    def close(self, status: str | None) -> bool:
        """Send what is left, and end the run; what cannot be sent is written to a file, with the run's end.

        A server that answers is waited for. One that does not costs a few seconds: it is asked twice, or once if it was
        away, and then only for a second if that was found just now.

        Args:
            status: FINISHED, FAILED or KILLED; None: the run goes on.

        Returns:
            Whether everything was sent and the run ended.
        """
        if self.is_closed:
            return True
        self.is_closed = True
        ended = self._now_ms()
        is_there = self._answers_at_last()
        with self._changed:
            self._is_closing, self._attempts_left = True, (1 if self._is_away else 2) if is_there else 0
            self._changed.notify_all()
        self._wait_until_sent()
        is_ended = is_there and not self._entries and self.end(status, ended)  # artifacts may fail on their own
        if is_ended and not self._artifacts and not self._commands:
            shutil.rmtree(self.copies_folder, ignore_errors=True)
            with suppress(OSError):  # there is what another run could not send
                self._unsent_folder.rmdir()
            return True
        with self._changed:
            left = [*self._entries, *self._artifacts]
            self._entries.clear()
            self._artifacts.clear()
        self._keep(left, status, ended)
        return False

    def end(self, status: str | None, ended_ms: int | None = None) -> bool:
        """End the run in MLflow.

        Args:
            status: As for `close`.
            ended_ms: When, by default now, in milliseconds since the epoch.

        Returns:
            Whether MLflow has taken it.
        """
        if status is None:
            return True
        with request_limits(int(_LAST_WAIT_SECONDS), 0):
            try:
                if answers(self._uri):
                    self._client().set_terminated(self.run_id, status, ended_ms or self._now_ms())
                    return True
            except Exception as error:  # the run's results are saved: nothing that MLflow raises may end it
                self.failed(error)
        return False

    def _answers_at_last(self) -> bool:
        """Ask the server when the run ends; True for a database."""
        limits: tuple[float | None, ...] = _LAST_PROBES_SECONDS
        if self._is_away:
            is_fresh = time.monotonic() - self._failed_at < _AWAY_JUST_NOW_SECONDS
            limits = (_SHORT_PROBE_SECONDS if is_fresh else None,)
        if any(answers(self._uri, limit) for limit in limits):
            return True
        self.failed(_NO_ANSWER)
        return False

    def _wait_until_sent(self) -> None:
        """Wait for the thread, as long as it gets on and the server answers."""
        n_sent, since = self._n_sent, time.monotonic()
        while (self._entries or self._artifacts) and self._attempts_left > 0:
            if self._n_sent != n_sent:
                n_sent, since = self._n_sent, time.monotonic()
            waited = time.monotonic() - since
            limit = _UPLOAD_SECONDS if self._is_uploading else _LAST_WAIT_SECONDS
            if waited > limit or (waited > _ASKED_AGAIN_AFTER_SECONDS and not answers(self._uri)):
                self.failed(f"no answer within {waited:.0f} s")
                self._attempts_left = 0
                return
            with self._changed:
                self._changed.wait(0.5)

    def _now_ms(self) -> int:
        """Milliseconds since the epoch; a clock that is set meanwhile makes no duration wrong or negative."""
        return time.monotonic_ns() // 10**6 + self._clock_offset_ms

    def _add(self, entry: Entry) -> None:
        if self.is_closed:
            return
        with self._changed:
            (self._entries if entry.artifact is None else self._artifacts).append(entry)
            self._changed.notify_all()

    def _send_all(self) -> None:
        """Send until the outbox is closed and empty, or has failed after it was closed."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._entries or self._artifacts or self._is_closing)
                has_entries = self._entries or self._artifacts
                if not has_entries or (self._is_closing and self._attempts_left <= 0):
                    return
            error = self._send_pending()
            with self._changed:
                if error is None:
                    self._note_success()
                    pause = _FIRST_PAUSE_SECONDS
                    continue
                self._note_failure(error)
                if self._is_closing:
                    self._attempts_left -= 1
                    self._changed.notify_all()
                    if self._attempts_left <= 0:
                        return
                    continue
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._is_closing, timeout=pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _send_pending(self) -> BaseException | str | None:
        """Send what has come in so far; return what went wrong, if the server is away."""
        if not answers(self._uri):
            return _NO_ANSWER
        client = self._client()
        while True:
            with self._changed:
                queue = self._entries or self._artifacts
                if not queue:
                    return None
                n_taken, entry = _first(queue)
                self._is_uploading = entry.artifact is not None
            if entry.artifact is not None and not answers(self._uri):
                return _NO_ANSWER
            try:
                send(client, self.run_id, entry)
            except Exception as error:
                if not _is_permanent(error):
                    return error
                if n_taken > 1:
                    self._send_singly(client, queue, n_taken)
                    continue
                logger.warning("MLflow does not take %s: %s", entry.describe(), _in_short(error))
            self._remove(queue, n_taken)

    def _send_singly(self, client: MlflowClient, queue: deque[Entry], n_entries: int) -> None:
        """Send entries one by one, since one of them is refused."""
        for _ in range(n_entries):
            try:
                send(client, self.run_id, queue[0])
            except Exception as error:
                if not _is_permanent(error):
                    return
                logger.warning("MLflow does not take %s: %s", queue[0].describe(), _in_short(error))
            self._remove(queue, 1)

    def _remove(self, queue: deque[Entry], n_entries: int) -> None:
        with self._changed:
            for _ in range(min(n_entries, len(queue))):
                queue.popleft()
            self._n_sent += n_entries
            self._changed.notify_all()

    def _note_success(self) -> None:
        if self._is_away:
            logger.info("%s answers again: what was kept has been sent.", shown(self._uri))
        self._is_away = False

    def _note_failure(self, error: BaseException | str) -> None:
        self._is_away, self._failed_at = True, time.monotonic()
        if not self._was_away:
            self._was_away = True
            logger.warning(
                "MLflow at %s is away (%s). The run goes on; what it logs is kept, and sent when MLflow is back.",
                shown(self._uri),
                _in_short(error),
            )

    def _client(self) -> MlflowClient:
        from mlflow import MlflowClient

        return MlflowClient(self._uri)

    def _keep(self, entries: list[Entry], status: str | None, ended: int) -> None:
        """Write what was not sent beside the run's results."""
        path = self._unsent_folder / f"{self.run_id}.json"
        content = {
            "tracking_uri": mask_secrets(self._uri),
            "run_id": self.run_id,
            "status": status,
            "end_time_ms": ended,
            "entries": [asdict(entry) for entry in entries],
            "commands": self._commands,
        }
        try:
            write_whole(path, json.dumps(content, indent=1).encode(), is_recorded=False)
        except (OSError, OutputError) as error:
            logger.warning("What MLflow was not told could not be kept either (%s): %s", path, error)
            return
        logger.warning(
            "MLflow at %s was not told everything about this run. The rest is kept; when MLflow is back, send it: "
            "kedro synapseclr mlflow send '%s'",
            shown(self._uri),
            path,
        )


def send(client: MlflowClient, run_id: str, entry: Entry) -> None:
    """Send one entry; an artifact that has changed since is left out with a warning."""
    from mlflow.entities import Metric, Param, RunTag

    if entry.artifact is not None:
        path, folder, fingerprint = entry.artifact
        if _fingerprint(path) != fingerprint:
            logger.warning("%s has changed or is gone since the run logged it: MLflow does not get it.", path)
            return
        with request_limits(_UPLOAD_SECONDS) if os.path.exists(path) else nullcontext():
            if os.path.isdir(path):
                client.log_artifacts(run_id, path, folder)
            else:
                client.log_artifact(run_id, path, folder)
        return
    client.log_batch(
        run_id,
        metrics=[Metric(name, float(value), when, step) for name, value, when, step in entry.metrics],
        params=[Param(name, value) for name, value in entry.params.items()],
        tags=[RunTag(name, value) for name, value in entry.tags.items()],
        synchronous=True,
    )


def current_outbox() -> Outbox | None:
    """The outbox of the Kedro run in progress in this process, if it is tracked."""
    return _current


def set_current_outbox(outbox: Outbox | None) -> None:
    """Make an outbox that of the run in progress."""
    global _current
    _current = outbox


def log_metrics(values: Mapping[str, float], step: int = 0, run_id: str | None = None) -> None:
    """Log metrics to the run in progress: to its outbox, or else to an MLflow run that is active; never raises.

    Args:
        values: By name.
        step: Such as the epoch.
        run_id: Of a run that is active in another thread.
    """
    if _current is not None:
        _current.metrics(values, step)
        return
    _directly("log_metrics", dict(values), step=step, run_id=run_id)


def set_tags(values: Mapping[str, Any]) -> None:
    """Set tags of the run in progress, likewise."""
    if _current is not None:
        _current.tags(values)
        return
    _directly("set_tags", redact_tree(values))


def _directly(function: str, values: dict[str, Any], **options: Any) -> None:
    """Log to a run that was started without Kedro."""
    import mlflow

    if not values or (mlflow.active_run() is None and options.get("run_id") is None):
        return
    try:
        getattr(mlflow, function)(values, **options)
    except Exception as error:  # as above: tracking never ends a training
        logger.warning("MLflow was not told %s: %s", ", ".join(list(values)[:5]), _in_short(error))


def _first(queue: deque[Entry]) -> tuple[int, Entry]:
    """The entries at a queue's head that go into one request: their number, and all as one."""
    joined, n_taken = queue[0], 1
    for entry in list(queue)[1:]:
        if not joined.fits(entry):
            break
        joined, n_taken = joined.joined(entry), n_taken + 1
    return n_taken, joined


def _fingerprint(path: str | os.PathLike[str]) -> str:
    """Size and time of a file, or of all files in a folder; empty if there is none."""
    if os.path.isdir(path):
        files = sorted(os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)
        states = [(os.path.relpath(file, path), os.stat(file)) for file in files]
        told = "\n".join(f"{name} {state.st_size} {state.st_mtime_ns}" for name, state in states)
        return f"{len(files)} files, {hashlib.sha256(told.encode()).hexdigest()}"
    try:
        found = os.stat(path)
    except OSError:
        return ""
    return f"{found.st_size} bytes, {found.st_mtime_ns}"


def _is_permanent(error: BaseException) -> bool:
    """Tell whether the same request would fail again: it is the request that is wrong, not the server."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        status = int(error.get_http_status_code())
    else:
        status = int(getattr(getattr(error, "response", None), "status_code", 0))  # of artifacts: requests' own errors
    return isinstance(error, FileNotFoundError | TypeError) or (400 <= status < 500 and status not in _NOT_PERMANENT)


def _in_short(error: BaseException | str) -> str:
    """The line of an error that names it, as a rule its first, redacted, no longer than a line of text."""
    lines = str(error).strip().split("\n")
    text = redact(next((line for line in lines if line.startswith("(sqlite3.")), lines[0]))
    return text if len(text) <= 200 else f"{text[:200]}..."


_current: Outbox | None = None


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
