"""A tracking server from the client's side: whether it answers, and for how long a request waits for it."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from synapseclr.privacy.redaction import redact

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
