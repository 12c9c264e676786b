"""The encoder as an MLflow model that takes chunks as they are stored: loaded, served, logged and registered.

Models that earlier versions logged import this module by its name.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mlflow.pyfunc import PythonModel, PythonModelContext
from numpy.typing import NDArray

from synapseclr import __version__
from synapseclr.augmentation import AugmentationConfig
from synapseclr.errors import CheckpointError, SynapseCLRError
from synapseclr.models import EncoderWeights
from synapseclr.models.simclr import BACKBONE
from synapseclr.models.weights import FILE_NAME
from synapseclr.privacy import redact_tree
from synapseclr.training.config import EmbeddingPoses
from synapseclr.training.extraction import check_channels, embed_batches, pick_device
from synapseclr.volumes.store.shards import CHANNELS, MASK_CODES

if TYPE_CHECKING:
    from synapseclr.models import SimCLR
    from synapseclr.volumes import ChunkStore

logger = logging.getLogger(__name__)

NAME = "encoder"
"""The model's name in the run: ``runs:/<run id>/encoder``."""

_BATCH_SIZE = 64
_LARGEST_CODE = max(MASK_CODES.values())
_CODE = Path(__file__).with_name("mlflow_entry.py")
_NEEDED = ("connected-components-3d", "mlflow", "monai", "numpy", "pandas", "pydantic", "safetensors", "torch")
_MOST_VALUES = 500_000


class EncoderModel(PythonModel):
    """Backbone features of chunks; the GPU is used where there is one.

    The artifacts are ``weights``, a safetensors file of ours; ``extraction``, the augmentation that the embedding
    pipeline applies, as JSON; and ``poses``, in which it embeds (absent: one).
    """

    _model: SimCLR
    _augmentation: AugmentationConfig
    _poses: EmbeddingPoses

    def load_context(self, context: PythonModelContext) -> None:
        """Build the network and read how its input is prepared.

        Raises:
            CheckpointError: If an artifact cannot be read by this version of synapseclr.
        """
        weights, extraction = (Path(context.artifacts[name]) for name in ("weights", "extraction"))
        poses = context.artifacts.get("poses")
        self._poses = EmbeddingPoses.model_validate_json(Path(poses).read_bytes()) if poses else EmbeddingPoses()
        self._model = EncoderWeights.from_bytes(weights.read_bytes(), str(weights)).build()
        try:
            self._augmentation = AugmentationConfig.model_validate_json(extraction.read_bytes())
        except ValueError as error:
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(
                f"{extraction} is not an augmentation that this version can read ({reason}). Load the model with the "
                "version of synapseclr that logged it; the model's metadata name it."
            ) from error

    def predict(
        self, context: PythonModelContext, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> NDArray[np.float32]:
        """Embed chunks, 64 at a time.

        Args:
            context: Not used; MLflow passes it.
            model_input: uint8 (n, 2, x, y, z): intensity, and mask codes 0 background, 1 presynaptic, 2 cleft,
                3 postsynaptic.
            params: Not used; MLflow passes it.

        Returns:
            ``encoder.fc``, float32 (n, n_features): the rows that the embedding pipeline gives.

        Raises:
            SynapseCLRError: If the chunks have another type or shape, or other mask codes.
        """
        chunk_ncxyz = np.asarray(model_input)
        if chunk_ncxyz.ndim == 5 and np.issubdtype(chunk_ncxyz.dtype, np.floating):
            finite_n = np.isfinite(chunk_ncxyz).all(axis=(1, 2, 3, 4))
            if not finite_n.all():
                raise SynapseCLRError(
                    f"Synapse {int(np.argmin(finite_n))} of the input, counted from 0, holds NaN or infinite values. "
                    "Fill what is missing, and give uint8 chunks as synapse_chunks has them."
                )
        if chunk_ncxyz.ndim != 5 or chunk_ncxyz.shape[1] != 2 or chunk_ncxyz.dtype != np.uint8:
            raise SynapseCLRError(
                "The encoder takes uint8 chunks (n, 2, x, y, z) holding intensity and mask codes, found "
                f"{chunk_ncxyz.dtype} {chunk_ncxyz.shape}. Give chunks as synapse_chunks has them."
            )
        largest = int(chunk_ncxyz[:, 1].max(initial=0))
        if largest > _LARGEST_CODE:
            raise SynapseCLRError(
                "The second channel of a chunk holds mask codes 0 background, 1 presynaptic, 2 cleft, 3 postsynaptic; "
                f"found {largest}. Translate segment ids into these codes."
            )
        if not len(chunk_ncxyz):
            n_features = int(self._model.encoder.n_features)  # type: ignore[arg-type]
            return np.empty((0, n_features * len(self._poses.magnifications)), np.float32)
        batches = (chunk_ncxyz[start : start + _BATCH_SIZE] for start in range(0, len(chunk_ncxyz), _BATCH_SIZE))
        device = pick_device("auto")
        return np.asarray(embed_batches(self._model, batches, self._augmentation, device, self._poses)[BACKBONE])


@dataclass(frozen=True)
class LoggedEncoder:
    """Place of the model in MLflow.

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
        with _without_remarks():
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


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Keep MLflow's remarks on what it does from standard error; what goes wrong is raised."""
    from mlflow.utils.logging_utils import disable_logging, enable_logging

    disable_logging()
    try:
        yield
    finally:
        enable_logging()


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
