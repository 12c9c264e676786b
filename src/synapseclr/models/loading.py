"""Our weights, loaded from wherever they lie: a path, a bucket, a run in MLflow."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synapseclr.errors import CheckpointError
from synapseclr.models.checkpoints import locate, read_bytes
from synapseclr.models.weights import FILE_NAME, EncoderWeights
from synapseclr.privacy.redaction import mask_secrets

if TYPE_CHECKING:
    from synapseclr.models.simclr import SimCLR

_MLFLOW = ("runs:/", "models:/", "mlflow-artifacts:/")


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
