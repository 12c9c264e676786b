"""What MLflow loads and serves: an encoder that takes chunks as they are stored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mlflow.pyfunc import PythonModel, PythonModelContext
from numpy.typing import NDArray

from synapseclr.augmentation import AugmentationConfig
from synapseclr.errors import CheckpointError, SynapseCLRError
from synapseclr.models import EncoderWeights
from synapseclr.training.config import EmbeddingPoses
from synapseclr.training.extraction import embed_batches, pick_device

if TYPE_CHECKING:
    from synapseclr.models import SimCLR

BATCH_SIZE = 64
LAYER = "encoder.fc"
LARGEST_CODE = 3


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
        if largest > LARGEST_CODE:
            raise SynapseCLRError(
                "The second channel of a chunk holds mask codes 0 background, 1 presynaptic, 2 cleft, 3 postsynaptic; "
                f"found {largest}. Translate segment ids into these codes."
            )
        if not len(chunk_ncxyz):
            n_features = int(self._model.encoder.n_features)  # type: ignore[arg-type]
            return np.empty((0, n_features * len(self._poses.magnifications)), np.float32)
        batches = (chunk_ncxyz[start : start + BATCH_SIZE] for start in range(0, len(chunk_ncxyz), BATCH_SIZE))
        device = pick_device("auto")
        return np.asarray(embed_batches(self._model, batches, self._augmentation, device, self._poses)[LAYER])
