"""Redaction of secrets and machine paths, and usage reporting of dependencies, which is switched off."""

from __future__ import annotations

import getpass
import logging
import os
import re
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

MASK = "***"

_SECRET_NAME = (
    r"(?:[\w.\-]*[._\-])?(?:password|passwd|pwd|passphrase|secret|token|api[_\-]?key|access[_\-]?key(?:[_\-]?id)?|"
    r"account[_\-]?key|secret[_\-]?key|private[_\-]?key|credentials?|authorization)"
)
_IS_SECRET = re.compile(_SECRET_NAME, re.IGNORECASE)
# scheme://user:password@host. A password may hold '@', and, unlike a port, '/' after the colon.
_USER = re.compile(
    r"\b([a-z][a-z0-9+.\-]*://)(?:[^\s/'\"<>]*|[^\s/:@'\"<>]*:(?!\d+(?:/|\?|$))[^\s'\"<>]*)@", re.IGNORECASE
)
# Signed addresses: ?sig=..., &X-Amz-Signature=...
_QUERY = re.compile(r"([?&](?:sig|signature|key|auth|x-(?:amz|goog)-[\w\-]+)=)[^\s&#'\"<>]+", re.IGNORECASE)
# name=value, name: value, "name": "value".
_ASSIGNED = re.compile(
    rf"(?<![\w.\-])({_SECRET_NAME}[\"']?\s*[=:]\s*)(?:(bearer|basic)\s+)?"
    r"(\"[^\"]*\"|'[^']*'|[^\s&,;'\"<>}\])]+)",
    re.IGNORECASE,
)
_PATH_CHARACTERS = r"[^\s/'\"<>|,;:()\[\]{}=&?*`]+"
_PATH = re.compile(rf"(?<![\w.~:/\\\-<>*])/{_PATH_CHARACTERS}(?:/{_PATH_CHARACTERS})*/?")
_PATH_IN_URL = re.compile(rf"\b(file://|sqlite(?:\+\w+)?:///)(/{_PATH_CHARACTERS}(?:/{_PATH_CHARACTERS})*)")
SWITCHES = {
    "DO_NOT_TRACK": "1",  # kedro-telemetry, and with it kedro-viz; any text will do
    "MLFLOW_DISABLE_TELEMETRY": "true",  # MLflow, its server and its page: of DO_NOT_TRACK it takes only "true"
}
"""Environment variables, which processes that are started later inherit, and what switches reporting off."""


def mask_secrets(text: str) -> str:
    """Replace passwords, tokens and signatures, in URLs and after telling names, by ``***``.

    For log lines and errors on this machine, which should name paths in full.
    """
    text = _USER.sub(rf"\g<1>{MASK}@", text)
    text = _QUERY.sub(rf"\g<1>{MASK}", text)
    return _ASSIGNED.sub(rf"\g<1>{MASK}", text)


def redact(text: str) -> str:
    """Mask secrets, and shorten paths so that they tell nothing private about this machine.

    For texts that leave the machine: MLflow and reports. Paths in the project are relative to it, those in the home
    folder begin with ``~``; of others the last part stays, behind ``...``. Addresses of buckets and servers stay.
    """
    text = mask_secrets(text)
    if "/" not in text and "\\" not in text:
        return text
    if text.startswith("/") and "\n" not in text and len(text) < 4096:
        return _shorten(text)  # a path as a whole, perhaps with spaces
    text = _PATH_IN_URL.sub(lambda found: found[1] + _shorten(found[2]), text)
    for folder, short in ((str(project_folder()), "."), (os.path.expanduser("~"), "~")):
        if len(folder) > 1:  # a path with spaces in it is found as a whole only
            text = re.sub(rf"(?<![\w.~\-]){re.escape(folder)}(?=/|[\s'\",;:)\]}}]|$)", short, text)
    text = re.sub(r"(?<![\w.~/\-])\./(?=\w)", "", text)
    return _PATH.sub(lambda found: _shorten(found[0]), text)


def redact_tree(value: Any) -> Any:
    """Redact every text in nested mappings and lists; values of keys named like a secret are masked."""
    if isinstance(value, Mapping):
        return {
            redact(name) if isinstance(name, str) else name: MASK
            if isinstance(name, str) and inner is not None and _IS_SECRET.fullmatch(name)
            else redact_tree(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [redact_tree(inner) for inner in value]
    return redact(value if isinstance(value, str) else str(value)) if isinstance(value, str | os.PathLike) else value


def mask_exception(error: BaseException) -> None:
    """Mask secrets in the texts of an exception, and of those that led to it: other packages quote addresses."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        found = waiting.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        masked = tuple(mask_secrets(part) if isinstance(part, str) else part for part in found.args)
        if masked != found.args:
            found.args = masked
        for name in ("strerror", "filename"):  # of OSError, whose text is not made of its arguments
            if isinstance(text := getattr(found, name, None), str) and isinstance(found, OSError):
                setattr(found, name, mask_secrets(text))
        waiting += [found.__cause__, found.__context__]


class SecretsFilter(logging.Filter):
    """Masks secrets in log records, whoever writes them."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace the record's message where it shows a secret; every record passes."""
        text = record.getMessage()
        masked = mask_secrets(text)
        if masked != text:
            record.msg, record.args = masked, None
        return True


@cache
def project_folder() -> Path:
    """The Kedro project that the working directory is in, else the working directory."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "pyproject.toml").is_file() and (folder / "conf").is_dir():
            return folder
    return here


def _shorten(path: str) -> str:
    """Write a path relative to the project or the home folder; elsewhere as its last part."""
    plain = Path(os.path.normpath(path))
    if plain.is_relative_to(project_folder()):
        return plain.relative_to(project_folder()).as_posix()
    home = Path(os.path.expanduser("~"))
    if len(home.parts) > 1 and plain.is_relative_to(home):
        return str("~" / plain.relative_to(home))
    if len(plain.parts) < 3 and not plain.exists():
        return path  # such as /s, or an endpoint /health
    name = plain.name
    return f".../{'user' if name == _user() else name}"


@cache
def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's process may have no name
        return ""


def switch_off() -> None:
    """Set the variables of :data:`SWITCHES`, but those that the environment has: a choice of one's own counts."""
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
    if "mlflow.telemetry" in sys.modules:  # MLflow was imported before this package, and has begun to report
        from mlflow.telemetry import set_telemetry_client

        set_telemetry_client()
