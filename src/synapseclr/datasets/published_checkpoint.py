"""Weights in a published form, as a Kedro dataset that is only read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from kedro.io import AbstractDataset, DatasetError

if TYPE_CHECKING:
    import pandas as pd

    from synapseclr.models import EncoderWeights


class PublishedCheckpointDataset(AbstractDataset[None, "EncoderWeights"]):
    """Loads a SynapseCLR checkpoint (``model_checkpoint_<epoch>.pt``) or a MedicalNet file as our weights.

    Args:
        filepath: Local path or fsspec URL.
        model: The architecture: fields of :class:`synapseclr.models.ModelConfig`.
        credentials: Passed to fsspec.
    """

    read_only = "It holds published weights."

    def __init__(
        self,
        *,
        filepath: str,
        model: dict[str, Any],
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._filepath = filepath
        self._model = model
        self._storage_options = credentials
        self.metadata = metadata

    def load(self) -> EncoderWeights:
        """Read the file as tensors; raises CheckpointError when it does not fit the architecture."""
        from synapseclr.models import ModelConfig, import_checkpoint

        return import_checkpoint(
            self._filepath, ModelConfig(**self._model), storage_options=self._storage_options
        ).weights

    def save(self, data: None) -> NoReturn:
        """Not possible: a published file stays as it is."""
        raise DatasetError(f"{self._filepath} holds published weights and is never written.")

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "model": self._model}


class NoTrainingDataset(AbstractDataset[None, "pd.DataFrame"]):
    """Loads as a training history without epochs: the weights or features were made elsewhere."""

    read_only = "It says that weights were trained elsewhere."

    def __init__(self, *, metadata: dict[str, Any] | None = None) -> None:
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        """Return the columns that every history has, and no rows."""
        import pandas as pd

        return pd.DataFrame({"epoch": pd.Series(dtype="int64"), "train_loss": pd.Series(dtype="float64")})

    def save(self, data: None) -> NoReturn:
        """Not possible."""
        raise DatasetError("A run that uses published weights has no training history to save.")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {}
