"""The model that a training starts from: drawn from the seed, or read from a file or run."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from synapseclr.errors import ConfigurationError
from synapseclr.models import EncoderWeights, import_checkpoint, load_weights
from synapseclr.training.positives import inherited_provenance

if TYPE_CHECKING:
    from synapseclr.models import ModelConfig, SimCLR
    from synapseclr.training.config import PretrainingConfig

logger = logging.getLogger(__name__)


def initial_model(config: PretrainingConfig) -> tuple[SimCLR, dict[str, str]]:
    """Make the model of a training, in training mode.

    Args:
        config: ``model`` is its architecture, ``seed`` decides on weights that are drawn. ``initial_weights`` names a
            file of ours, an MLflow URI, or a SynapseCLR or MedicalNet checkpoint (``.pt``, ``.pth``); MedicalNet has no
            projector, and that is drawn from the seed. None: all weights are.

    Returns:
        The model; and where its weights are from, for the provenance of those that are trained from it.

    Raises:
        CheckpointError: If there is nothing to read, or a checkpoint does not fit the architecture.
        ConfigurationError: If the weights are of another architecture; names what differs.
    """
    source = config.initial_weights
    if source is None:
        return config.model.build(config.seed), {}
    weights = _read(source, config)
    _check_architecture(weights.model, config.model, source)
    provenance = {"initial_weights": source, "initial_weights_sha256": weights.sha256}
    return weights.build().train(), provenance | inherited_provenance(weights.provenance)


def _read(source: str, config: PretrainingConfig) -> EncoderWeights:
    if not source.endswith((".pt", ".pth", ".ckpt")):
        weights = load_weights(source)
        logger.info("Training starts from %s (%s).", source, weights.sha256[:16])
        return weights
    imported = import_checkpoint(source, config.model, seed=config.seed)
    report = imported.report
    drawn = f"; drawn from the seed: {', '.join(report.initialised)}" if report.initialised else ""
    logger.info("Training starts from %d tensors of %s (%s)%s.", len(report.matched), source, report.kind, drawn)
    return imported.weights


def _check_architecture(found: ModelConfig, expected: ModelConfig, source: str) -> None:
    """Same tensors do not suffice: pooling and dilation leave no trace in them."""
    of_weights, of_run = found.model_dump(), expected.model_dump()
    differing = [
        f"{name} {of_weights[name]} (pretraining.model.{name} is {value})"
        for name, value in of_run.items()
        if of_weights[name] != value
    ]
    if differing:
        raise ConfigurationError(
            f"pretraining.initial_weights, {source}, has {', '.join(differing)}. Set pretraining.model to the "
            "architecture of the weights, or choose others."
        )
