"""An encoder, logged to the active MLflow run as a model, and registered."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synapseclr import __version__
from synapseclr.models.weights import FILE_NAME
from synapseclr.privacy.redaction import redact_tree
from synapseclr.training.compatibility import check_channels
from synapseclr.training.config import EmbeddingPoses
from synapseclr.volumes.store.shards import CHANNELS, MASK_CODES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synapseclr.augmentation import AugmentationConfig
    from synapseclr.models import EncoderWeights
    from synapseclr.volumes import ChunkStore

NAME = "encoder"
"""The model's name in the run: ``runs:/<run id>/encoder``."""

logger = logging.getLogger(__name__)

_CODE = Path(__file__).with_name("mlflow_entry.py")
_NEEDED = ("connected-components-3d", "mlflow", "monai", "numpy", "pandas", "pydantic", "safetensors", "torch")
_MOST_VALUES = 500_000


@dataclass(frozen=True)
class LoggedEncoder:
    """Where MLflow has the model.

    Attributes:
        uri: ``models:/<name>/<version>`` if it is registered, else ``models:/<model id>``.
        registered_version: Its number in the registry.
    """

    uri: str
    registered_version: int | None


def log_encoder(
    weights: EncoderWeights,
    augmentation: AugmentationConfig,
    chunks: ChunkStore,
    registered_model: str | None,
    poses: EmbeddingPoses | None = None,
    run_id: str | None = None,
) -> LoggedEncoder:
    """Log an encoder with what prepares its input to the active MLflow run: uint8 chunks in, features out.

    The artifacts are the safetensors file and the extraction's configuration; nothing is pickled.

    Args:
        weights: What is logged.
        augmentation: Pretraining's; the model applies its extraction form, as the embedding pipeline does.
        chunks: What the encoder was trained on: says the voxel size, and gives the input example.
        registered_model: Name in the registry that gets a new version; None: not registered.
        poses: In which the model embeds, as the embedding pipeline does; default: one.
        run_id: Another run than the active one.

    Raises:
        CheckpointError: If the weights do not fit their architecture.
        ConfigurationError: If the weights' channels are not those of the augmentation.
    """
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    check_channels(weights.model, augmentation)
    poses = poses or EmbeddingPoses()
    n_features = int(weights.build().encoder.n_features) * len(poses.magnifications)  # type: ignore[arg-type]
    extraction = augmentation.for_extraction()
    with tempfile.TemporaryDirectory() as folder:
        names = {"weights": FILE_NAME, "extraction": "extraction.json", "poses": "poses.json"}
        files = {name: Path(folder, file_name) for name, file_name in names.items()}
        files["poses"].write_text(poses.model_dump_json())
        files["weights"].write_bytes(weights.to_bytes())
        files["extraction"].write_text(extraction.model_dump_json(indent=1))
        info = Model.log(
            artifact_path=None,
            name=NAME,
            flavor=_DiscreetFlavor,
            flavor_name="pyfunc.ModelFromCode",
            run_id=run_id,
            tags={"mlflow.user": "-", "mlflow.source.name": "kedro run"},
            python_model=str(_CODE),
            artifacts={name: str(path) for name, path in files.items()},
            signature=ModelSignature(
                inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, len(CHANNELS), -1, -1, -1))]),
                outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, n_features))]),
            ),
            input_example=_example(chunks),
            pip_requirements=[f"{name}=={version(name).split('+')[0]}" for name in _NEEDED],
            registered_model_name=registered_model,
            metadata={
                "synapseclr_version": __version__,
                "weights_sha256": weights.sha256,
                "chunks_sha256": chunks.sha256,
                "channels": CHANNELS,
                "mask_codes": MASK_CODES,
                "voxel_size_nm": [float(length) for length in chunks.voxel_size_nm],
                "chunk_size_vx": [int(length) for length in chunks.chunk_size_vx],
            },
        )
    if registered_model is None:
        return LoggedEncoder(info.model_uri, None)
    number = int(info.registered_model_version)
    return LoggedEncoder(f"models:/{registered_model}/{number}", number)


class _DiscreetFlavor:
    """Saves as ``mlflow.pyfunc`` does, without this machine's paths: MLflow notes where each part of a model lay."""

    @staticmethod
    def save_model(path: str, mlflow_model: Any, **options: Any) -> None:
        """Save the model, then write its description anew."""
        import mlflow.pyfunc
        import yaml
        from mlflow.models.model import MLMODEL_FILE_NAME

        mlflow.pyfunc.save_model(path=path, mlflow_model=mlflow_model, **options)
        flavor = mlflow_model.flavors[mlflow.pyfunc.FLAVOR_NAME]
        flavor["model_code_path"] = Path(flavor["model_code_path"]).name  # loaded from beside the description
        for artifact in flavor["artifacts"].values():
            artifact["uri"] = artifact["path"]
        description = redact_tree(yaml.safe_load(mlflow_model.to_yaml()))
        Path(path, MLMODEL_FILE_NAME).write_text(yaml.safe_dump(description))


def _example(chunks: ChunkStore) -> NDArray[np.uint8] | None:
    """The first chunk; None where that is too much for the text MLflow keeps.

    It is not cut to what a view sees: which pieces of neurite touch the cleft is found in the whole chunk.
    """
    chunk_ncxyz = chunks.read([0])
    if chunk_ncxyz.size > _MOST_VALUES:
        logger.info("A chunk has %d values, too many for an input example in MLflow: none is kept.", chunk_ncxyz.size)
        return None
    return chunk_ncxyz
