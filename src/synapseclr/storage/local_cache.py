"""A bounded cache of small objects in a local folder, shared by processes.

The caches of fsspec have no bound on their bytes; here a store in a bucket may be larger than the disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
from pathlib import Path

_RECOUNTED_AFTER = 1 / 32  # of the bound
_EMPTIED_TO = 0.9
_PARTIAL = ".partial"


class LocalCache:
    """Files by key; those used longest ago are deleted when there are too many bytes of them.

    Processes that share a folder count its bytes each for themselves, again and again after having written a 32nd of
    the bound: by so much each of them may exceed it for a while. What cannot be written is not kept, which is no error.

    Args:
        folder: Made when the first object is kept.
        max_bytes: The bound.
    """

    def __init__(self, folder: str | Path, max_bytes: int) -> None:
        self.folder = Path(folder).expanduser()
        self.max_bytes = max_bytes
        self._uncounted = float("inf")  # bytes written since the folder was counted: never yet

    def get(self, key: str) -> bytes | None:
        """An object, or None if it is not kept."""
        path = self._path(key)
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        return data

    def put(self, key: str, data: bytes) -> None:
        """Keep an object; a reader finds either the whole of it or none."""
        if len(data) > self.max_bytes * _RECOUNTED_AFTER:
            return
        path = self._path(key)
        partial = path.with_name(f"{uuid.uuid4().hex}{_PARTIAL}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(data)
            partial.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            return
        self._uncounted += len(data)
        if self._uncounted > self.max_bytes * _RECOUNTED_AFTER:
            self._make_room()

    def _make_room(self) -> None:
        self._uncounted = 0
        found = []
        for path in self.folder.glob("*/*"):
            with contextlib.suppress(OSError):
                state = path.stat()
                found.append((state.st_mtime_ns, state.st_size, path))
        total = sum(size for _, size, _ in found)
        if total <= self.max_bytes * (1 - _RECOUNTED_AFTER):
            return
        for _, size, path in sorted(found):
            with contextlib.suppress(OSError):
                path.unlink()
                total -= size
            if total <= self.max_bytes * _EMPTIED_TO:
                return

    def _path(self, key: str) -> Path:
        digest = hashlib.sha256(key.encode()).hexdigest()
        return self.folder / digest[:2] / digest[2:]
