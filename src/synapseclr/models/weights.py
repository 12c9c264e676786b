"""Weights together with the architecture that they fit: one safetensors file, loaded from wherever it lies."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synapseclr.errors import CheckpointError
from synapseclr.models.encoders import ModelConfig
from synapseclr.privacy import mask_secrets
from synapseclr.storage.addresses import open_filesystem
from synapseclr.storage.foreign_files import parse_json

if TYPE_CHECKING:
    from torch import Tensor

    from synapseclr.models.simclr import SimCLR

FILE_NAME = "encoder_weights.safetensors"
"""The name under which the pipeline logs weights and :func:`synapseclr.models.export` writes them."""

_FORMAT = "synapseclr-1"
_MLFLOW = ("runs:/", "models:/", "mlflow-artifacts:/")


@dataclass(frozen=True)
class EncoderWeights:
    """A SimCLR state dict and its architecture.

    Attributes:
        state_dict: Tensors under the published keys (``encoder.conv1.weight``, ..., ``projector.mlp.3.weight``).
        model: Architecture.
        provenance: Free text values that travel in the file's header (seed, epochs, run id, ...).
    """

    state_dict: dict[str, Tensor]
    model: ModelConfig
    provenance: dict[str, str]

    @property
    def sha256(self) -> str:
        """Digest over names, shapes and bytes of all tensors, independent of the provenance."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict.items()):
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def build(self) -> SimCLR:
        """Make the model with these weights, in evaluation mode.

        Raises:
            CheckpointError: If the weights do not fit the architecture; names the first differing tensors.
        """
        model = self.model.build(seed=0)
        expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        found = {name: tuple(tensor.shape) for name, tensor in self.state_dict.items()}
        if expected != found:
            differing = sorted(name for name in expected | found if expected.get(name) != found.get(name))
            first = "; ".join(f"{n}: expected {expected.get(n)}, found {found.get(n)}" for n in differing[:3])
            raise CheckpointError(
                f"The weights do not fit {self.model.encoder} (width {self.model.width_factor}): {len(differing)} "
                f"tensors differ. {first}. Use the configuration that the weights were trained with."
            )
        model.load_state_dict(self.state_dict)
        return model.eval()

    def to_bytes(self) -> bytes:
        """Serialise as safetensors with the architecture in the header."""
        from safetensors.torch import save

        header = {"format": _FORMAT, "model": self.model.model_dump_json(), "provenance": json.dumps(self.provenance)}
        return save({name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict.items()}, header)

    @classmethod
    def from_bytes(cls, data: bytes, source: str) -> EncoderWeights:
        """Read what :meth:`to_bytes` wrote; ``source`` names the file in errors."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            state_dict = load(data)
            header_length = int.from_bytes(data[:8], "little")
            metadata = parse_json(data[8 : 8 + header_length]).get("__metadata__", {})
        except (SafetensorError, ValueError) as error:
            raise CheckpointError(
                f"{source} is not a readable safetensors file ({error}). Train or copy it anew."
            ) from error
        if metadata.get("format") != _FORMAT:
            raise CheckpointError(
                f"{source} holds tensors but not a SynapseCLR model: its header lacks format '{_FORMAT}'. "
                "Write it with synapseclr.models.EncoderWeights."
            )
        try:
            return cls(
                state_dict,
                ModelConfig.model_validate_json(metadata["model"]),
                parse_json(metadata["provenance"]),
            )
        except (KeyError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(
                f"{source} has a header that this version cannot read ({reason}). Load it with the version of "
                "synapseclr that wrote it."
            ) from error


def load_encoder(source: str | Path, storage_options: Mapping[str, Any] | None = None) -> SimCLR:
    """Load a model that is ready to embed: on the CPU, in evaluation mode.

    Its forward takes masked, normalised intensities ``(b, c, x, y, z)`` and returns ``encoder.fc`` (b, n_features),
    ``projector.mlp.0`` (b, hidden) and ``projector.mlp.3`` (b, out) by name.

    Args:
        source: One of

            - a path or fsspec URL of a ``.safetensors`` file of ours, or of the folder that has it;
            - an MLflow URI of the file, its folder, or the model that is served: ``runs:/<run id>/model`` and
              ``runs:/<run id>/encoder`` (where ``kedro run`` logs them), ``models:/<name>/<version>``,
              ``mlflow-artifacts:/<path>``. The tracking server is MLflow's current one: set
              ``MLFLOW_TRACKING_URI``, or call ``mlflow.set_tracking_uri``.
        storage_options: Passed to fsspec; not used for MLflow URIs.

    Returns:
        The model.

    Raises:
        CheckpointError: If there is nothing to read at the source, or it is not one of our files.
    """
    return load_weights(source, storage_options).build()


def load_weights(source: str | Path, storage_options: Mapping[str, Any] | None = None) -> EncoderWeights:
    """Load weights with their architecture and provenance; takes what :func:`load_encoder` takes."""
    source = str(source)
    if source.startswith(_MLFLOW):
        return _from_mlflow(source)
    if source.endswith((".pt", ".pth", ".ckpt")):
        raise CheckpointError(
            f"{source} is a PyTorch checkpoint, expected our safetensors, which tell their architecture. Read it with "
            "synapseclr.models.import_checkpoint(source, ModelConfig(...))."
        )
    if not source.endswith(".safetensors"):
        filesystem, path = locate(source, storage_options)
        if filesystem.isdir(path):
            source = f"{source.rstrip('/')}/{FILE_NAME}"
    return EncoderWeights.from_bytes(read_bytes(source, storage_options), source)


def _from_mlflow(uri: str) -> EncoderWeights:
    import mlflow
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as folder:
        try:
            fetched = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder))
        except (MlflowException, OSError) as error:
            server = mask_secrets(mlflow.get_tracking_uri())
            raise CheckpointError(
                f"{uri} cannot be fetched from MLflow at {server} ({error}). Check the run or version and the path; "
                "MLFLOW_TRACKING_URI says where the runs are."
            ) from error
        files = [fetched] if fetched.is_file() else _candidates(fetched)
        if len(files) != 1:
            names = ", ".join(sorted(str(file.relative_to(fetched)) for file in files)) or "none"
            raise CheckpointError(
                f"{uri} should have one file of weights, {FILE_NAME}, and has {names}. Give the URI of the file itself."
            )
        return EncoderWeights.from_bytes(files[0].read_bytes(), uri)


def _candidates(folder: Path) -> list[Path]:
    files = list(folder.rglob("*.safetensors"))
    return [file for file in files if file.name == FILE_NAME] or files


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
