"""What the network sees: random views of some synapses of a store, as pretraining draws them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from synapseclr.augmentation import Augmenter
from synapseclr.training.config import PretrainingConfig
from synapseclr.volumes import ChunkStore


@dataclass(frozen=True)
class AugmentedPairs:
    """Two views of each of n synapses.

    Attributes:
        synapse_id: int64 (n,).
        chunk_ncxyz: uint8 chunks, (n, 2, x, y, z): intensity, mask codes.
        intensity_nvcxyz: float32 in [0, 1], z-scoring undone, (n, 2 views, 1 or 2 channels, size, size, size).
        cleft_nvxyz: Boolean cleft masks, (n, 2 views, size, size, size).
    """

    synapse_id: np.ndarray
    chunk_ncxyz: np.ndarray
    intensity_nvcxyz: np.ndarray
    cleft_nvxyz: np.ndarray


def sample_augmented_pairs(store: ChunkStore, config: PretrainingConfig, n_synapses: int = 16) -> AugmentedPairs:
    """Draw synapses at random and augment them as one batch of pretraining.

    Args:
        store: Chunks.
        config: The run's parameters; its seed decides on synapses and views.
        n_synapses: How many, at most as many as the store holds.
    """
    rng = np.random.default_rng(config.seed)
    rows = np.sort(rng.choice(len(store), size=min(n_synapses, len(store)), replace=False))
    chunk_ncxyz = store.read(rows)
    augmenter = Augmenter(config.augmentation)
    views = augmenter.views(torch.from_numpy(chunk_ncxyz), 2, torch.Generator().manual_seed(config.seed))
    mean, std = config.augmentation.intensity_mean, config.augmentation.intensity_std
    intensity = torch.stack([view.intensity_bcxyz for view in views], dim=1).mul(std).add(mean).clamp(0, 1)
    cleft = torch.stack([view.mask_bcxyz[:, 1] for view in views], dim=1)
    return AugmentedPairs(store.synapse_id[rows], chunk_ncxyz, intensity.numpy(), cleft.numpy())
