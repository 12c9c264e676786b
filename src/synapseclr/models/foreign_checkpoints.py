"""Foreign PyTorch checkpoints, read as plain tensors and never as code, and fitted into a model of ours."""

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
from typing import TYPE_CHECKING, Any, Literal

from synapseclr.errors import CheckpointError, ConfigurationError
from synapseclr.models.encoders import ENCODER_NAMES, MEDICALNET, ModelConfig, build_encoder
from synapseclr.models.weights import EncoderWeights, read_bytes
from synapseclr.parameters import Parameters
from synapseclr.storage.foreign_files import check_zip_content

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["synapseclr", "medicalnet"]
_FIRST = "encoder.conv1.weight"
_HEADS = ("encoder.fc.", "encoder.conv_seg.")
_COUNTER = "num_batches_tracked"

UNREADABLE = (
    *(RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError, AttributeError, AssertionError, MemoryError),
    *(struct.error, pickle.UnpicklingError),
)
"""Errors of torch.load on bytes that are not, or no longer, a checkpoint."""


class ImportReport(Parameters):
    """Fate of every tensor of a file; names are those of our state dict.

    Attributes:
        source: Path or URL of the file.
        sha256: Digest of the file's bytes.
        kind: ``synapseclr`` or ``medicalnet``.
        matched: Tensors taken from the file.
        initialised: Missing by design (MedicalNet has no projector): drawn from the seed.
        filled: Missing batch counters, set to 0. They have no influence on the network's output.
        unexpected: Tensors of the file that were left out: a classification or segmentation head.
        adapted: Those of ``matched`` that were changed to fit: the first convolution, repeated over two channels.
        other_entries: What the file holds beside its state dict (``epoch``, ``optimizer``); left out.
    """

    source: str
    sha256: str
    kind: Kind
    matched: tuple[str, ...]
    initialised: tuple[str, ...] = ()
    filled: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    adapted: tuple[str, ...] = ()
    other_entries: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """Tensors of the model that the file lacks, all of them replaced."""
        return self.initialised + self.filled


@dataclass(frozen=True)
class ImportedWeights:
    """Weights from a foreign file, and the report about their import."""

    weights: EncoderWeights
    report: ImportReport


def import_checkpoint(
    source: str | Path,
    model: ModelConfig,
    *,
    kind: Kind | None = None,
    repeat_first_convolution: bool = False,
    seed: int = 0,
    storage_options: Mapping[str, Any] | None = None,
) -> ImportedWeights:
    """Read a published SynapseCLR checkpoint or a MedicalNet file. No code from the file is run.

    Args:
        source: Local path or fsspec URL: ``model_checkpoint_<epoch>.pt`` of the published code (encoder and projector)
            or MedicalNet's ``resnet_18.pth`` (encoder only). Keys may have the prefix ``module.``; the state dict may
            be wrapped as ``{'state_dict': ...}``.
        model: The architecture. Pooling leaves no trace in a file: ``resnet18`` and ``resnet18_no_max_pool`` both fit.
        kind: What the file is. Default: ``synapseclr`` if a key begins with ``encoder.`` or ``projector.``, else
            ``medicalnet``.
        repeat_first_convolution: Fit a network for 1 channel to ``in_channels=2``: the first convolution is repeated
            over both and divided by 2, so that two equal channels give what one gave.
        seed: For the projector of MedicalNet, which the file does not have.
        storage_options: Passed to fsspec, such as ``{"token": "anon"}`` for a public bucket.

    Returns:
        Float32 weights with the file's name, digest and kind in their provenance; and the report.

    Raises:
        CheckpointError: If the file is missing, damaged, holds more than tensors, does not fit the model, or has NaN
            or infinite values.
        ConfigurationError: If ``model`` cannot be what the arguments ask for.

    Source: Chen et al. 2019, arXiv:1904.00625 (MedicalNet); Wilson & Babadi 2022, doi:10.1101/2022.06.07.495207.
    """
    if repeat_first_convolution and model.in_channels != 2:
        raise ConfigurationError(
            f"repeat_first_convolution makes a network for 2 channels, but model.in_channels is {model.in_channels}. "
            "Set in_channels to 2, or leave repeat_first_convolution out."
        )
    checkpoint = read_checkpoint(source, storage_options)
    kind = kind or _kind_of(checkpoint)
    if kind == "medicalnet" and model.encoder != MEDICALNET:
        raise ConfigurationError(
            f"{checkpoint.source} has the keys of a bare backbone, as MedicalNet's files have. MedicalNet is dilated, "
            f"and only encoder '{MEDICALNET}' computes what it computed, not '{model.encoder}'. Choose that encoder."
        )
    return _fit(checkpoint, kind, model, repeat_first_convolution, seed)


def _kind_of(checkpoint: Checkpoint) -> Kind:
    ours = any(name.startswith(("encoder.", "projector.")) for name in checkpoint.tensors)
    return "synapseclr" if ours else "medicalnet"


def _fit(checkpoint: Checkpoint, kind: Kind, model: ModelConfig, repeat: bool, seed: int) -> ImportedWeights:
    expected = dict(model.build(seed).state_dict())
    found = dict(checkpoint.tensors)
    unexpected: tuple[str, ...] = ()
    initialised: tuple[str, ...] = ()
    if kind == "medicalnet":
        found = {f"encoder.{name}": tensor for name, tensor in found.items()}
        unexpected = tuple(name for name in found if name.startswith(_HEADS))
        initialised = tuple(name for name in expected if name.startswith("projector."))
    filled = tuple(
        name for name in expected if name.endswith(_COUNTER) and name not in found and name not in initialised
    )
    adapted = _repeat_first(found) if repeat else ()

    wanted = {name: tensor for name, tensor in expected.items() if name not in {*initialised, *filled}}
    taken = {name: tensor for name, tensor in found.items() if name not in unexpected}
    differing = difference(wanted, taken)
    if differing:
        raise CheckpointError(
            f"{checkpoint.source} does not fit {model.encoder} (in_channels {model.in_channels}, width_factor "
            f"{model.width_factor:g}, projection_dims {model.projection_dims}): {len(differing)} tensors differ. "
            f"{'; '.join(differing[:3])}. {fitting_configuration(checkpoint.tensors, model)}"
        )
    taken = {name: _as(taken[name], wanted[name]) for name in wanted}
    _refuse_non_finite(taken, checkpoint.source)

    provenance = {"source": checkpoint.file_name, "source_sha256": checkpoint.sha256, "kind": kind}
    if initialised:
        provenance |= {"initialised": "projector", "seed": str(seed)}
    if adapted:
        provenance["first_convolution"] = "repeated over 2 channels and divided by 2"
    filler = {name: expected[name].clone() for name in initialised + filled}  # a fresh model's counters are 0
    state_dict = {name: (taken | filler)[name] for name in expected}
    report = ImportReport(
        source=checkpoint.source,
        sha256=checkpoint.sha256,
        kind=kind,
        matched=tuple(wanted),
        initialised=initialised,
        filled=filled,
        unexpected=unexpected,
        adapted=adapted,
        other_entries=checkpoint.other_entries,
    )
    return ImportedWeights(EncoderWeights(state_dict, model, provenance), report)


def _repeat_first(found: dict[str, Tensor]) -> tuple[str, ...]:
    """Repeat the first convolution over two input channels, if it has one; tell what was changed."""
    first = found.get(_FIRST)
    if first is None or first.ndim != 5 or first.shape[1] != 1:
        return ()
    found[_FIRST] = first.repeat(1, 2, 1, 1, 1) / 2
    return (_FIRST,)


def _as(tensor: Tensor, like: Tensor) -> Tensor:
    """A contiguous copy that shares no memory with others from the file, in our precision."""
    return tensor.detach().to(dtype=like.dtype, copy=True).contiguous()


def _refuse_non_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    counts = {name: int((~tensor.isfinite()).sum()) for name, tensor in tensors.items()}
    bad = [f"{name} ({n} of {tensors[name].numel()} values)" for name, n in counts.items() if n]
    if bad:
        raise CheckpointError(
            f"{source} has NaN or infinite values in {len(bad)} tensors: {', '.join(bad[:3])}. Its training diverged, "
            "or the file is damaged: use the checkpoint of an earlier epoch, or copy the file anew."
        )


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


def _unpickle(data: bytes, source: str) -> Any:
    import torch

    try:
        check_zip_content(data, source)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except UNREADABLE as error:
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


def difference(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """Describe every tensor that is missing, unexpected, of another shape, or not of floating point where it must be.

    Args:
        expected: Tensors of the model, in its order.
        found: Tensors of the file, under the same names.

    Returns:
        ``name: expected (64, 1, 7, 7, 7), found none``, the model's tensors first.
    """
    return [
        f"{name}: expected {_describe(expected.get(name))}, found {_describe(found.get(name), expected.get(name))}"
        for name in (*expected, *(name for name in found if name not in expected))
        if _differs(expected.get(name), found.get(name))
    ]


def _differs(expected: Tensor | None, found: Tensor | None) -> bool:
    if expected is None or found is None:
        return True
    return expected.shape != found.shape or expected.is_floating_point() != found.is_floating_point()


def _describe(tensor: Tensor | None, other: Tensor | None = None) -> str:
    if tensor is None:
        return "none"
    same_kind = other is None or other.is_floating_point() == tensor.is_floating_point()
    return f"{tuple(tensor.shape)}" + ("" if same_kind else f" of {tensor.dtype}")


def fitting_configuration(tensors: Mapping[str, Tensor], model: ModelConfig) -> str:
    """Say what to do: the configurations that a file would fit, found by comparing shapes.

    Args:
        tensors: Tensors of the file, with ``encoder.`` before the encoder's names or without.
        model: The configuration that does not fit.
    """
    prefixed = any(name.startswith("encoder.") for name in tensors)
    shapes = {
        name.removeprefix("encoder."): tuple(tensor.shape)
        for name, tensor in tensors.items()
        if name.startswith("encoder.") == prefixed and not name.startswith(("projector.", "fc.", "conv_seg."))
    }
    first = shapes.get("conv1.weight", ())
    names = _fitting_encoders(shapes) if len(first) == 5 and first[1] in (1, 2) else []
    if not prefixed:
        names = [name for name in names if name == MEDICALNET]
    if not names:
        return "It fits none of our encoders at any width: check that it is the file that you meant."
    settings = [f"encoder {' or '.join(names)}", f"in_channels {first[1]}", f"width_factor {first[0] / 64:g}"]
    hidden, out = tensors.get("projector.mlp.0.weight"), tensors.get("projector.mlp.3.weight")
    if hidden is not None and out is not None:
        settings.append(f"projection_dims ({hidden.shape[0]}, {out.shape[0]})")
    advice = f"The file is one of {', '.join(settings)}: set these"
    if first[1] == 1 and model.in_channels == 2:
        advice += ", or ask for two channels by repeat_first_convolution=True"
    return advice + "."


def _fitting_encoders(shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    import torch

    out_channels, in_channels = shapes["conv1.weight"][:2]
    counted = {name: shape for name, shape in shapes.items() if not name.endswith("num_batches_tracked")}
    names = []
    for name in ENCODER_NAMES:
        with torch.device("meta"):
            state = build_encoder(name, in_channels, out_channels / 64).state_dict()
        if counted == {k: tuple(v.shape) for k, v in state.items() if not k.endswith("num_batches_tracked")}:
            names.append(name)
    return names
