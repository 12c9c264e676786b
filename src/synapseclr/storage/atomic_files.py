"""Files and folders that take their names only when they are whole, and that are checked when they are read again.

A file is written beside its target, flushed to the disk and renamed. What it has to hold is kept in
``.written/<name>.json`` in the same folder. A folder is written beside its target and gets a list of its files with
their digests, ``.written.json``, last of all; then the old folder is renamed, the new one takes its place, and the old
one is deleted. Whatever moment a process is killed at, the old or the new one is there, whole.

Small JSON files that a run keeps about itself are locked, replaced as a whole, and never worth a run's end.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from synapseclr.errors import OutputError
from synapseclr.storage.addresses import explained, plain_address

logger = logging.getLogger(__name__)

MANIFEST = ".written.json"
RECORDS = ".written"
_PARTIAL, _OLD = ".partial", ".old"
_ABANDONED_AFTER_S = 86_400.0  # leftovers of processes on other machines, which cannot be asked

pipeline_at_work: ContextVar[str] = ContextVar("pipeline_at_work", default="")
"""Pipeline whose outputs are being saved; messages about a damaged output name it."""

_ours: set[str] = set()  # what this process is writing now
_PATIENCE_SECONDS = 30.0  # for the lock of a file that several runs change


@contextmanager
def written_whole(target: str | Path, *, is_recorded: bool = True, scratch: Path | None = None) -> Iterator[Path]:
    """Write a file under another name, and give it its own when it is whole.

    Args:
        target: Path of the file; its folder is made.
        is_recorded: Keep its digest, which :func:`check_file` compares when it is read again.
        scratch: Folder for the unfinished file, on the same disk; None: that of the file itself.

    Yields:
        Path to write to.

    Raises:
        OutputError: If it cannot be written: no room, no right, or the target is write-protected. What lay there
            before is untouched.
    """
    target = _resolved(target)
    check_writable(target)  # a rename would replace a file that its owner has protected
    with explained(target, "written"):
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        if scratch is not None:
            scratch.mkdir(parents=True, exist_ok=True)
    partial = _beside((scratch or target.parent) / target.name, _PARTIAL)
    _ours.add(partial.name)
    try:
        with explained(target, "written"):
            yield partial
            _flush(partial)
            with _alone_in(target.parent):
                if is_recorded:
                    _record(target, partial)
                os.replace(partial, target)
            _flush(target.parent)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        _ours.discard(partial.name)


def write_whole(target: str | Path, data: bytes, *, is_recorded: bool = True, scratch: Path | None = None) -> None:
    """Write bytes to a file, all at once or not at all; arguments and errors as of :func:`written_whole`."""
    with written_whole(target, is_recorded=is_recorded, scratch=scratch) as partial:
        partial.write_bytes(data)


def check_file(path: str | Path) -> None:
    """Compare a file with what was written; nothing is known of files that :func:`written_whole` has not recorded.

    Raises:
        OutputError: If it is cut short or has changed.
    """
    path = _resolved(path)
    record = _read_json(_record_path(path))
    while record is not None and path.is_file():
        versions, state = _versions(record), _state(path)
        if not versions or state in versions:
            return
        again = _read_json(_record_path(path))
        if again == record:  # another run may replace both meanwhile
            raise OutputError(_damage(path, state, versions[0], record))
        record = again


@contextmanager
def folder_written_whole(target: str | Path) -> Iterator[Path]:
    """Write a folder under another name, and let it replace the old one when it is whole.

    Args:
        target: Path of the folder; its parent is made.

    Yields:
        Path of the new folder, not made yet.

    Raises:
        OutputError: If it cannot be written or the old one cannot be moved. The old one is untouched.
    """
    target = _resolved(target)
    with explained(target, "written"):
        target.parent.mkdir(parents=True, exist_ok=True)
    settle_folder(target)
    partial = _beside(target, _PARTIAL)
    _ours.add(partial.name)
    try:
        with explained(target, "written"):
            yield partial
            write_manifest(partial)
            replace_folder(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        _ours.discard(partial.name)


def replace_folder(new: Path, target: Path) -> None:
    """Let a whole folder take the place of an older one, which is deleted afterwards.

    Raises:
        OSError: If one of them cannot be renamed; the old one is in its place then.
    """
    old = _beside(target, _OLD)
    had_old = target.exists()
    if had_old:
        os.rename(target, old)
    try:
        os.rename(new, target)
    except OSError:
        if had_old:
            os.rename(old, target)
        raise
    _flush(target.parent)
    if had_old:
        _delete(old)


def settle_folder(target: str | Path) -> None:
    """Finish or take back a replacement that was killed between its two renames; nothing happens otherwise."""
    target = _resolved(target)
    if target.exists() or not target.parent.is_dir():
        return
    candidates = [path for path in _leftovers(target.parent, target.name) if path.is_dir() and _is_abandoned(path)]
    new = [path for path in candidates if path.suffix == _PARTIAL and (path / MANIFEST).is_file()]
    old = [path for path in candidates if path.suffix == _OLD]
    if new or old:
        logger.warning("%s was being replaced when a run was killed; it is put in its place.", target)
        os.rename(max(new or old, key=_modified), target)


def write_manifest(folder: Path, known: Mapping[str, list[Any]] | None = None) -> None:
    """List the files of a folder with their digests; the folder is whole from then on.

    Args:
        folder: Local path.
        known: Size and digest of files that need not be read again, by their name relative to the folder.
    """
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        key = path.relative_to(folder).as_posix()
        if key == MANIFEST:  # of an earlier attempt
            continue
        files[key] = (known or {}).get(key) or _state(path)
        _flush(path)
    content = {"pipeline": pipeline_at_work.get(), "files": files}
    write_whole(folder / MANIFEST, json.dumps(content).encode(), is_recorded=False)


def check_folder(folder: str | Path, address: str = "", *, is_read: bool = True) -> None:
    """Compare a folder with its manifest; nothing is known of a folder without one.

    Args:
        folder: Local path.
        address: For messages, if the folder is a copy of something remote.
        is_read: Compare digests too, for which every byte is read; False: that all files are there in their sizes.

    Raises:
        OutputError: If a file is missing, cut short or has changed.
    """
    folder, address = Path(folder), address or str(folder)
    if not (folder / MANIFEST).is_file():
        return
    manifest = _read_json(folder / MANIFEST)
    if manifest is None or not isinstance(manifest.get("files"), dict):
        raise OutputError(f"{address}/{MANIFEST} is damaged. {_again({})}")
    for key, expected in manifest["files"].items():
        path = folder / key
        if not path.is_file():
            problem = f"has lost its file {key}, which would be read as zeros"
        elif path.stat().st_size < expected[0]:
            problem = f"is damaged: {key} is cut short, to {path.stat().st_size} of {expected[0]} bytes"
        elif path.stat().st_size != expected[0] or (is_read and _state(path) != expected):
            problem = f"is damaged: {key} has changed since it was written"
        else:
            continue
        raise OutputError(
            f"{address} {problem}. {_again(manifest)} If you have changed it on purpose, delete {address}/{MANIFEST}."
        )


def check_writable(target: str | Path) -> None:
    """Look if an output can be written, without writing anything.

    Raises:
        OutputError: If it is write-protected, or its folder takes no new file.
    """
    target = _resolved(target)
    with explained(target, "written"):
        if target.exists() and not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, "it is write-protected")
        parent = next(folder for folder in target.parents if folder.exists())
        if not parent.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{parent} is a file")
        if not os.access(parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, f"the folder {parent} is write-protected")


def remove_leftovers(folder: str | Path) -> None:
    """Delete what killed processes have left of files and folders that they were writing into a folder.

    What a process that still runs is writing is left alone. Folders that were being replaced are settled first.
    """
    folder = _resolved(folder)
    if not folder.is_dir():
        return
    leftovers = [path for path in _leftovers(folder) if _is_abandoned(path)]
    for name in {_target_name(path) for path in leftovers if path.is_dir()}:
        settle_folder(folder / name)
    for path in leftovers:
        if path.exists():
            _delete(path)
    if (folder / RECORDS).is_dir():
        remove_leftovers(folder / RECORDS)


def _resolved(address: str | Path) -> Path:
    return Path(os.path.realpath(plain_address(address)))


def _beside(target: Path, suffix: str) -> Path:
    """A name that tells who is writing: ``.<target>.<machine>.<process>.<number><suffix>``."""
    machine = socket.gethostname().replace(".", "-")
    return target.with_name(f".{target.name}.{machine}.{os.getpid()}.{uuid.uuid4().hex[:8]}{suffix}")


def _leftovers(folder: Path, name: str = "") -> list[Path]:
    """Names of what is being written, or was, below a folder; of one target if its name is given."""
    found = (path for path in folder.iterdir() if path.suffix in (_PARTIAL, _OLD) and path.name.startswith("."))
    return [path for path in found if path.name.count(".") >= 5 and name in ("", _target_name(path))]


def _target_name(path: Path) -> str:
    return path.name[1:].rsplit(".", 4)[0]


def _is_abandoned(path: Path) -> bool:
    """Tell whether the process that was writing is gone."""
    machine, process = path.name.rsplit(".", 4)[1:3]
    if path.name in _ours or not process.isdigit():
        return False
    if machine != socket.gethostname().replace(".", "-"):
        return time.time() - _modified(path) > _ABANDONED_AFTER_S
    return int(process) == os.getpid() or not _is_running(int(process))


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()


def _delete(path: Path) -> None:
    """Delete a file or folder that nothing needs any more; what cannot be deleted is tried again at the next start."""
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("%s cannot be deleted (%s). Nothing needs it; delete it by hand.", path, error.strerror)


def _damage(path: Path, found: list[Any], expected: list[Any], record: dict[str, Any]) -> str:
    what = "has changed since it was written"
    if found[0] < expected[0]:
        what = f"is cut short: it has {found[0]} of the {expected[0]} bytes that were written"
    return f"{path} {what}. {_again(record)} If you have changed the file on purpose, delete {_record_path(path)}."


def _versions(record: dict[str, Any]) -> list[list[Any]]:
    """Size and digest of what a file may hold, the last one written first; empty if the record is damaged."""
    versions = record.get("versions")
    if not isinstance(versions, list):
        return []
    return [pair for pair in versions if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], int)]


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes from replacing a file and its record in a folder, where the file system has locks."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _record_path(path: Path) -> Path:
    return path.parent / RECORDS / f"{path.name}.json"


def _record(target: Path, partial: Path) -> None:
    """Keep what a file will hold beside what it holds now, since it may be killed before the rename."""
    now = _state(partial)
    before = _versions(_read_json(_record_path(target)) or {}) if target.exists() else []
    content = {"pipeline": pipeline_at_work.get(), "versions": [now, *before[:1]]}
    write_whole(_record_path(target), json.dumps(content).encode(), is_recorded=False)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _again(record: dict[str, Any]) -> str:
    pipeline = record.get("pipeline")
    return f"Run `kedro run --pipeline={pipeline}` again." if pipeline else "Run the pipeline that writes it again."


def _state(path: Path) -> list[Any]:
    """Size in bytes and digest of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return [file.tell(), digest]


def _flush(path: Path) -> None:
    """Have a file's content, or a folder's entries, reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
