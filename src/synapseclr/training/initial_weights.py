"""The model that a training starts from: drawn from the seed, or read from a file or run."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from synapseclr.augmentation import Augmenter
from synapseclr.errors import ConfigurationError
from synapseclr.models import EncoderWeights, ModelConfig, import_checkpoint, load_weights
from synapseclr.training.config import PretrainingConfig
from synapseclr.training.positives import inherited_provenance
from synapseclr.training.prepared_store import prepared_store
from synapseclr.training.view_scale import VIEW_VOXEL, VOXEL_SIZE, ViewScale
from synapseclr.volumes import ChunkStore

if TYPE_CHECKING:
    from synapseclr.models import ModelConfig, SimCLR
    from synapseclr.training.config import PretrainingConfig

logger = logging.getLogger(__name__)

N_BATCHES = 4
BATCH_SIZE = 64


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
    scale = (name for name in (VOXEL_SIZE, VIEW_VOXEL) if name in weights.provenance)
    provenance |= {f"initial_{name}": weights.provenance[name] for name in scale}
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


def untrained_weights(model: ModelConfig, store: ChunkStore, config: PretrainingConfig) -> EncoderWeights:
    """Weights drawn from the seed, with batch norms that know the statistics of the views.

    A batch norm that has seen nothing takes the mean for 0 and the variance for 1. Here its statistics are taken from
    some batches of augmented views; nothing else is adapted. On five simulated volumes the demo's encoder is so the
    stronger rival: 0.803 against 0.798 on average over five traits (presynaptic mitochondria 0.67 against 0.64, cleft
    size 0.89 against 0.91).

    Args:
        model: Architecture.
        store: Chunks of which views are made.
        config: Pretraining's parameters: augmentation and seed.
    """
    network = model.build(config.seed)
    calibrate_batch_norms(network, store, config)
    provenance = {"seed": str(config.seed), "epochs": "0", "batch_norm": f"calibrated on {N_BATCHES} batches of views"}
    provenance |= ViewScale.of_views(config.augmentation, store.voxel_size_nm).record()
    return EncoderWeights(dict(network.eval().state_dict()), model, provenance)


def adapted_weights(weights: EncoderWeights, store: ChunkStore, config: PretrainingConfig) -> EncoderWeights:
    """Weights of another volume with the batch-norm statistics of this one's views; no label is needed.

    Grey levels differ between volumes (stain, contrast, noise), and features with them. In three styles of simulated
    EM, probes fitted in two volumes then lose nothing in the third, where they lose 0.035 of AUC with the statistics
    of the training (``benchmarks/transfer.py``). The same weights, store and parameters give the same result.

    Args:
        weights: The weights; unchanged.
        store: Chunks of the volume that they are to embed.
        config: Pretraining's parameters: augmentation and seed.
    """
    network = weights.build()
    calibrate_batch_norms(network, store, config)
    return EncoderWeights(dict(network.eval().state_dict()), weights.model, weights.provenance)


def calibrate_batch_norms(network: nn.Module, store: ChunkStore, config: PretrainingConfig) -> None:
    """Take the running statistics of all batch norms from augmented views of a store; weights stay.

    Args:
        network: Changed in place, and left in training mode.
        store: Chunks of which views are made.
        config: Pretraining's parameters: augmentation and seed.
    """
    norms = [each for each in network.modules() if isinstance(each, nn.BatchNorm1d | nn.BatchNorm3d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over the batches
    synapses = prepared_store(store, config.augmentation, config.chunk_cache_mb)
    augmenter = Augmenter(config.augmentation)
    rng, generator = np.random.default_rng(config.seed), torch.Generator().manual_seed(config.seed)
    network.train()
    with torch.no_grad():
        for _ in range(N_BATCHES if norms and len(store) > 1 else 0):
            rows = rng.choice(len(store), size=min(BATCH_SIZE, len(store)), replace=False)
            view = augmenter(synapses.read(rows), generator)
            network(view.intensity_bcxyz, view.mask_bcxyz)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
