"""Small files that a run keeps about itself: written whole or not at all, and never worth a run's end."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from synapseclr.storage.atomic_files import write_whole

logger = logging.getLogger(__name__)

_PATIENCE_SECONDS = 30.0


@contextlib.contextmanager
def locked(path: str | os.PathLike[str], patience_seconds: float = _PATIENCE_SECONDS) -> Iterator[None]:
    """Hold a file's lock among processes, ``.<name>.lock`` beside it; go on without it where it cannot be had.

    The lock is the operating system's: it ends with the process that holds it, however that ends.
    """
    from filelock import FileLock, Timeout

    target = Path(path)
    lock = FileLock(target.with_name(f".{target.name}.lock"))
    with contextlib.ExitStack() as held:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(lock.acquire(timeout=patience_seconds))
        except (OSError, NotImplementedError, Timeout) as error:
            logger.debug("Going on without the lock of %s: %s", path, error)
        yield


def read_json_object(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a JSON object; empty if there is no such file, or, with a warning, if it is damaged."""
    try:
        return parse_json_object(Path(path).read_bytes(), str(path))
    except FileNotFoundError:
        return {}


def parse_json_object(content: bytes, name: str) -> dict[str, Any]:
    """Parse a JSON object; empty, with a warning that has the name, if it is damaged."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        return found
    logger.warning("%s is damaged, and is begun anew.", name)
    return {}


def update_json(path: str | os.PathLike[str], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Change entries of a JSON object that other processes may be changing too, and return the whole of it."""
    with locked(path):
        merged = {**read_json_object(path), **changes}
        write_whole(Path(path), json.dumps(merged).encode(), is_recorded=False)
    return merged
