"""Untrained encoders, as good as they are without learning: what trained ones are compared with."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from synapseclr.augmentation import Augmenter
from synapseclr.models import EncoderWeights, ModelConfig
from synapseclr.training.config import PretrainingConfig
from synapseclr.training.prepared import prepared_store
from synapseclr.volumes import ChunkStore

N_BATCHES = 4
BATCH_SIZE = 64


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
    return EncoderWeights(dict(network.eval().state_dict()), model, provenance)


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
