"""Whole objects below a local folder or a bucket's prefix: read, listed, and written all at once or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from synapseclr.storage.addresses import is_local, open_filesystem, plain_address
from synapseclr.storage.atomic_files import write_whole
from synapseclr.storage.storage_errors import explained

_SCRATCH = "chunks/partial"
_VERSION_KEYS = ("size", "mtime", "generation", "etag", "ETag", "LastModified", "updated")


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

    def write(self, key: str, data: bytes) -> None:
        """Write an object, replacing an older one: a reader finds either the whole of it or none of it.

        A local file is written under another name, flushed to the disk and renamed; object stores show an object when
        its upload is complete.

        Raises:
            OutputError: If a local file cannot be written, as when the disk is full.
            UnreachableError: If an object cannot be written.
        """
        if not self.is_remote:
            write_whole(Path(self.url, key), data, is_recorded=False, scratch=Path(self.url, _SCRATCH))
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
