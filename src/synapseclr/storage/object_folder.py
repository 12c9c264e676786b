"""Whole objects below a local folder or a bucket's prefix: read, listed, written all at once, and cached locally.

The caches of fsspec have no bound on their bytes; here a store in a bucket may be larger than the disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from synapseclr.storage.addresses import explained, is_local, open_filesystem, plain_address
from synapseclr.storage.atomic_files import write_whole

_SCRATCH = "chunks/partial"
_VERSION_KEYS = ("size", "mtime", "generation", "etag", "ETag", "LastModified", "updated")
_RECOUNTED_AFTER = 1 / 32  # of the bound
_EMPTIED_TO = 0.9
_PARTIAL = ".partial"


def object_version(info: Mapping[str, Any]) -> str:
    """Tell a file or object from one that was written under the same name at another time.

    Args:
        info: As fsspec's ``info`` or detailed ``ls`` gives it.

    Returns:
        Its size, and the time of writing, generation or etag, whichever its file system knows.
    """
    return " ".join(f"{key} {info[key]}" for key in _VERSION_KEYS if info.get(key) is not None)


@dataclass(frozen=True)
class ObjectFolder:
    """Files below a path, or objects below a URL, by their key relative to it.

    Attributes:
        url: Local path or fsspec URL.
        storage_options: Passed to fsspec for a URL; None for a path.
    """

    url: str
    storage_options: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", plain_address(self.url))
        if not self.is_remote:  # Zarr refuses options for a path
            object.__setattr__(self, "storage_options", None)

    @property
    def is_remote(self) -> bool:
        """Tell whether it is reached through fsspec."""
        return not is_local(self.url)

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "storage_options": self.storage_options}

    @cached_property
    def filesystem(self) -> tuple[Any, str]:
        """The filesystem of fsspec, and the folder's path in it."""
        return open_filesystem(self.url, self.storage_options)

    def address(self, key: str) -> str:
        """Path or URL of an object, for messages."""
        return f"{self.url.rstrip('/')}/{key}"

    def read(self, key: str) -> bytes:
        """Return an object's bytes; raises FileNotFoundError if there is none, UnreachableError if it cannot be had."""
        if not self.is_remote:
            return Path(self.url, key).read_bytes()
        filesystem, root = self.filesystem
        with explained(self.address(key)):
            return bytes(filesystem.cat_file(f"{root}/{key}"))

    def has(self, key: str) -> bool:
        """Tell whether there is an object."""
        if not self.is_remote:
            return Path(self.url, key).is_file()
        filesystem, root = self.filesystem
        with explained(self.address(key)):
            filesystem.invalidate_cache()
            return bool(filesystem.exists(f"{root}/{key}"))

    def write(self, key: str, data: bytes, scratch: str | None = _SCRATCH) -> None:
        """Write an object, replacing an older one: a reader finds either the whole of it or none of it.

        A local file is written under another name, flushed to the disk and renamed; object stores show an object when
        its upload is complete.

        Args:
            key: Of the object.
            data: Its bytes.
            scratch: Folder for unfinished local files; None: that of the file itself.

        Raises:
            OutputError: If a local file cannot be written, as when the disk is full.
            UnreachableError: If an object cannot be written.
        """
        if not self.is_remote:
            write_whole(
                Path(self.url, key), data, is_recorded=False, scratch=Path(self.url, scratch) if scratch else None
            )
            return
        filesystem, root = self.filesystem
        with explained(self.address(key), "written"):
            filesystem.pipe_file(f"{root}/{key}", data)

    def keys(self, prefix: str) -> list[str]:
        """Keys of the objects below a prefix, sorted."""
        if not self.is_remote:
            files = (Path(folder, name) for folder, _, names in os.walk(Path(self.url, prefix)) for name in names)
            return sorted(file.relative_to(self.url).as_posix() for file in files)
        filesystem, root = self.filesystem
        filesystem.invalidate_cache()
        try:
            with explained(self.address(prefix), "listed"):
                found = filesystem.find(f"{root}/{prefix}")
        except FileNotFoundError:
            return []
        start = len(root.rstrip("/")) + 1
        return sorted(path[start:] for path in found)

    def remove_leftovers(self) -> None:
        """Delete what interrupted writes have left, ours and Zarr's. Nothing else may be writing."""
        if self.is_remote:
            return
        shutil.rmtree(Path(self.url, _SCRATCH), ignore_errors=True)
        for folder in (Path(self.url), Path(self.url, "chunks")):
            for file in folder.glob("*.partial"):
                file.unlink(missing_ok=True)

    def delete(self, key: str) -> None:
        """Delete an object; nothing happens if there is none."""
        if not self.is_remote:
            Path(self.url, key).unlink(missing_ok=True)
            return
        filesystem, root = self.filesystem
        try:
            with explained(self.address(key), "deleted"):
                filesystem.rm_file(f"{root}/{key}")
        except FileNotFoundError:
            return

    def clear(self) -> None:
        """Delete everything below, ``zarr.json`` first: what an interruption leaves is no store."""
        self.delete("zarr.json")
        if not self.is_remote:
            shutil.rmtree(self.url, ignore_errors=True)
            return
        filesystem, root = self.filesystem
        filesystem.invalidate_cache()
        with explained(self.url, "deleted"):
            if filesystem.exists(root):
                filesystem.rm(root, recursive=True)


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
