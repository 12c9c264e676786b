"""Published weights, brought into a model of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from synapseclr.errors import CheckpointError, ConfigurationError
from synapseclr.models.checkpoints import Checkpoint, read_checkpoint
from synapseclr.models.config import ModelConfig
from synapseclr.models.mismatch import MEDICALNET, difference, fitting_configuration
from synapseclr.models.weights import EncoderWeights

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["synapseclr", "medicalnet"]

_FIRST = "encoder.conv1.weight"
_HEADS = ("encoder.fc.", "encoder.conv_seg.")
_COUNTER = "num_batches_tracked"


class ImportReport(BaseModel):
    """What became of every tensor of a file; names are those of our state dict.

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

    model_config = ConfigDict(frozen=True, extra="forbid")

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
