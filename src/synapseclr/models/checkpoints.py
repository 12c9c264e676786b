"""Foreign PyTorch checkpoints: read as plain tensors, never as code."""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from synapseclr.errors import CheckpointError
from synapseclr.storage.addresses import open_filesystem
from synapseclr.storage.declared_sizes import check_zip_content

if TYPE_CHECKING:
    from torch import Tensor

_DAMAGED = (
    RuntimeError,
    EOFError,
    OSError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    MemoryError,
    struct.error,
    pickle.UnpicklingError,
)
"""What torch.load raises on bytes that are not, or no longer, a checkpoint."""


@dataclass(frozen=True)
class Checkpoint:
    """A state dict as it lies in a file.

    Attributes:
        source: Path or URL as given.
        file_name: Last part of the source.
        sha256: Digest of the file's bytes.
        tensors: Tensors on the CPU by key; a leading ``module.`` (DataParallel) is taken off.
        other_entries: What a wrapped file holds beside its ``state_dict``, such as ``epoch``.
    """

    source: str
    file_name: str
    sha256: str
    tensors: dict[str, Tensor]
    other_entries: tuple[str, ...]


def read_checkpoint(source: str | Path, storage_options: Mapping[str, Any] | None = None) -> Checkpoint:
    """Read a bare state dict, or one under the key ``state_dict``.

    Args:
        source: Local path or fsspec URL (``gs://bucket/model_checkpoint_99.pt``).
        storage_options: Passed to fsspec, such as ``{"token": "anon"}`` for a public bucket.

    Returns:
        The tensors, and where they are from.

    Raises:
        CheckpointError: If the file is missing, damaged, or holds anything but named tensors.
    """
    source = str(source)
    data = read_bytes(source, storage_options)
    tensors, other_entries = _state_dict(_unpickle(data, source), source)
    name = PurePosixPath(source.replace("\\", "/")).name
    return Checkpoint(source, name, hashlib.sha256(data).hexdigest(), tensors, other_entries)


def locate(source: str, storage_options: Mapping[str, Any] | None = None) -> tuple[Any, str]:
    """Find the file system of a path or URL, and the path in it; a CheckpointError tells what it lacks."""
    try:
        filesystem, path = open_filesystem(source, storage_options)
    except (ValueError, ImportError) as error:
        raise CheckpointError(
            f"{source} is no path or URL that can be read here ({error}). Give a local path, or a URL such as "
            "gs://bucket/name."
        ) from error
    return filesystem, path


def read_bytes(source: str, storage_options: Mapping[str, Any] | None = None) -> bytes:
    """Read a file through fsspec; a CheckpointError tells which one is missing."""
    filesystem, path = locate(source, storage_options)
    try:
        data: bytes = filesystem.cat_file(path)
    except OSError as error:
        raise CheckpointError(
            f"{source} cannot be read ({type(error).__name__}: {error}). Check the path and your access to it."
        ) from error
    return data


def _unpickle(data: bytes, source: str) -> Any:
    import torch

    try:
        check_zip_content(data, source)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except _DAMAGED as error:
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        if refused:
            raise CheckpointError(
                f"{source} is refused: reading it would call '{refused.group(1)}', and a checkpoint is read as tensors "
                "only. If you trust it, load it where it was made and save it anew with "
                "torch.save(model.state_dict(), path)."
            ) from error
        lines = [line for line in str(error).splitlines() if line and not line.startswith("Check the documentation")]
        reason = f"{type(error).__name__}: {lines[-1][:200].rstrip('.')}" if lines else type(error).__name__
        raise CheckpointError(
            f"{source} ({len(data)} bytes) is not a readable PyTorch checkpoint: it is truncated, damaged, or another "
            f"kind of file ({reason}). Copy it anew and compare its size with the original's."
        ) from error


def _state_dict(content: Any, source: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    import torch

    other_entries: tuple[str, ...] = ()
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        other_entries = tuple(sorted(str(key) for key in content if key != "state_dict"))
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(
            f"{source} holds {'nothing' if isinstance(content, Mapping) else f'a {type(content).__name__}'}, expected "
            "a state dict, or a dictionary with a 'state_dict'. Save one with torch.save(model.state_dict(), path)."
        )
    tensors: dict[str, Tensor] = {}
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise CheckpointError(
                f"{source}: entry {key!r} is a {type(value).__name__}, expected a tensor under a name. Give the bare "
                "state dict, or wrap it as {'state_dict': ...}."
            )
        name = key
        while name.startswith("module."):
            name = name.removeprefix("module.")
        if name in tensors:
            raise CheckpointError(
                f"{source}: '{name}' occurs with and without the prefix 'module.'. Keep one of the two."
            )
        _check_storage(value, key, source)
        tensors[name] = value
    return tensors, other_entries


def _check_storage(tensor: Tensor, key: str, source: str) -> None:
    """Refuse a tensor that declares more numbers than are stored, such as a view that repeats one of them."""
    import torch

    if tensor.layout != torch.strided or tensor.is_meta:
        raise CheckpointError(f"{source}: '{key}' is {tensor.layout} on {tensor.device}, expected a dense tensor.")
    declared, stored = tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
    if declared > stored:
        raise CheckpointError(
            f"{source}: '{key}' declares {tuple(tensor.shape)}, {declared} bytes, but {stored} are there: it "
            "repeats them. Save a copy, tensor.contiguous(), where it was made."
        )
