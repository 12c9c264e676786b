"""Whole objects below a local folder or a bucket's prefix: read, listed, and written all at once or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from synapseclr.errors import UnreachableError
from synapseclr.storage.atomic_files import explained
from synapseclr.volumes.storage_errors import unreachable

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
        storage_options: Passed to fsspec for a URL.
    """

    url: str
    storage_options: dict[str, Any] | None = None

    @property
    def is_remote(self) -> bool:
        """Whether it is reached through fsspec."""
        return "://" in self.url

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "storage_options": self.storage_options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @cached_property
    def filesystem(self) -> tuple[Any, str]:
        """The filesystem of fsspec, and the folder's path in it."""
        import fsspec

        return fsspec.core.url_to_fs(self.url, **(self.storage_options or {}))

    def address(self, key: str) -> str:
        """Path or URL of an object, for messages."""
        return f"{self.url.rstrip('/')}/{key}"

    @contextmanager
    def _naming(self, key: str, what: str) -> Iterator[None]:
        """Say which object an error is about: clients of object stores leave that out."""
        try:
            yield
        except FileNotFoundError:
            raise
        except Exception as error:
            raise UnreachableError(unreachable(self.address(key), error, what)) from error

    def read(self, key: str) -> bytes:
        """Return an object's bytes; raises FileNotFoundError if there is none, UnreachableError if it cannot be had."""
        if not self.is_remote:
            return Path(self.url, key).read_bytes()
        filesystem, root = self.filesystem
        with self._naming(key, "read"):
            return bytes(filesystem.cat_file(f"{root}/{key}"))

    def write(self, key: str, data: bytes) -> None:
        """Write an object, replacing an older one: a reader finds either the whole of it or none of it.

        A local file is written under another name, flushed to the disk and renamed; object stores show an object when
        its upload is complete.

        Raises:
            OutputError: If a local file cannot be written, as when the disk is full.
            UnreachableError: If an object cannot be written.
        """
        if self.is_remote:
            filesystem, root = self.filesystem
            with self._naming(key, "written"):
                filesystem.pipe_file(f"{root}/{key}", data)
            return
        target = Path(self.url, key)
        partial = Path(self.url, _SCRATCH, uuid.uuid4().hex)
        with explained(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            partial.parent.mkdir(parents=True, exist_ok=True)
            self._write_local(target, partial, data)

    @staticmethod
    def _write_local(target: Path, partial: Path, data: bytes) -> None:
        try:
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def keys(self, prefix: str) -> list[str]:
        """Keys of the objects below a prefix, sorted."""
        if self.is_remote:
            filesystem, root = self.filesystem
            filesystem.invalidate_cache()
            try:
                with self._naming(prefix, "listed"):
                    found = filesystem.find(f"{root}/{prefix}")
            except FileNotFoundError:
                return []
            start = len(root.rstrip("/")) + 1
            return sorted(path[start:] for path in found)
        files = (Path(folder, name) for folder, _, names in os.walk(Path(self.url, prefix)) for name in names)
        return sorted(file.relative_to(self.url).as_posix() for file in files)

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
            with self._naming(key, "deleted"):
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
        with self._naming("", "deleted"):
            if filesystem.exists(root):
                filesystem.rm(root, recursive=True)
