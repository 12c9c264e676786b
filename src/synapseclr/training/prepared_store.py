"""Synapses as their views need them, prepared once and kept in memory where they fit; and some views to look at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synapseclr.augmentation import AugmentationConfig, Augmenter, PreparedChunks
from synapseclr.augmentation.preparation import N_CHANNELS
from synapseclr.training.config import PretrainingConfig
from synapseclr.volumes import ChunkStore

BATCH_SIZE = 32
MIB = 2**20
_last: PreparedStore | None = None


class PreparedStore:
    """Synapses of a store, prepared for their views.

    Under corrected fidelity that is a decoded volume with distance maps, which takes longer to make than a view: it is
    made when a synapse is first asked for, and kept if all of the store's fit into ``cache_mb``. Published views are
    made of the chunks as they are stored.

    Args:
        store: The chunks.
        augmentation: Of the views.
        cache_mb: All synapses are held in memory if they fit into this many MiB.
    """

    def __init__(self, store: ChunkStore, augmentation: AugmentationConfig, cache_mb: float) -> None:
        self.store = store
        self.augmenter = Augmenter(augmentation)
        self._is_published = augmentation.fidelity == "published"
        x, y, z = store.chunk_size_vx
        self._shape_xyz = (int(x), int(y), int(z))
        row: tuple[int, ...] = (*self.augmenter.preparation.prepared_shape(self._shape_xyz), N_CHANNELS)
        if self._is_published:
            row = (2, *self._shape_xyz)
        self.is_cached = len(store) * float(np.prod(row)) <= cache_mb * MIB
        # Tensors, since workers of a loader share the memory of tensors.
        self._row_n = torch.empty((len(store), *row) if self.is_cached else (0,), dtype=torch.uint8)
        self._is_here_n = torch.zeros(len(store), dtype=torch.bool)

    def __len__(self) -> int:
        return len(self.store)

    def read(self, indices: range | list[int] | NDArray[np.int64]) -> Tensor | PreparedChunks:
        """Synapses at positions of the store: prepared, or chunks (b, 2, x, y, z) where views are made of these."""
        if not self.is_cached:
            return self.augmenter.prepare(torch.from_numpy(self.store.read(np.asarray(indices, dtype=np.int64))))
        index_b = torch.as_tensor(np.asarray(indices, dtype=np.int64))
        missing = index_b[~self._is_here_n[index_b]].unique()
        for part in missing.split(BATCH_SIZE) if len(missing) else ():
            prepared = self.augmenter.prepare(torch.from_numpy(self.store.read(part.numpy())))
            self._row_n[part] = prepared if isinstance(prepared, Tensor) else prepared.volume_bxyzc
            self._is_here_n[part] = True
        rows = self._row_n[index_b]
        return rows if self._is_published else PreparedChunks(rows, self._shape_xyz)

    def fill(self, indices: NDArray[np.int64], show_progress: bool) -> None:
        """Prepare synapses in advance, with a progress bar, where they are kept."""
        if not self.is_cached or bool(self._is_here_n[torch.from_numpy(indices)].all()):
            return
        from rich.progress import track

        starts = range(0, len(indices), BATCH_SIZE)
        for start in track(starts, description="Preparing synapses", disable=not show_progress):
            self.read(indices[start : start + BATCH_SIZE])


def prepared_store(store: ChunkStore, augmentation: AugmentationConfig, cache_mb: float) -> PreparedStore:
    """The synapses of a store for views of a configuration; a run's training and embeddings share the last one made.

    Nodes open the store each for themselves; its digest tells that it holds the same chunks. What does not fit into
    ``cache_mb`` is read from the store each time, and is neither shared nor kept.
    """
    global _last
    synapses, shared = PreparedStore(store, augmentation, cache_mb), _last
    if not synapses.is_cached:
        return synapses
    if (
        shared is not None
        and shared.store.sha256 == store.sha256
        and shared.augmenter.preparation == synapses.augmenter.preparation
        and shared.augmenter.config.fidelity == augmentation.fidelity
    ):
        return shared
    _last = synapses
    return _last


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
