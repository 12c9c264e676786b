"""Chunks on their way from the store to the training step."""

from __future__ import annotations

import math
from typing import Any

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from synapseclr.errors import ConfigurationError
from synapseclr.training.config import PretrainingConfig
from synapseclr.volumes import ChunkStore


class ChunkDataset(Dataset[Tensor]):
    """Chunks of chosen synapses, read in whole batches: uint8 (b, 2, x, y, z).

    Args:
        store: Where the chunks are.
        indices: Positions in the store of the chosen synapses.
        cached: Whether to read the chosen chunks once and hold them in memory.
    """

    def __init__(self, store: ChunkStore, indices: NDArray[np.int64], cached: bool) -> None:
        self.store = store
        self.indices = indices
        self._chunk_ncxyz = torch.from_numpy(store.read(indices)) if cached else None

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Tensor:
        return self.__getitems__([position])[0]

    def __getitems__(self, positions: list[int]) -> Tensor:
        if self._chunk_ncxyz is not None:
            return self._chunk_ncxyz[positions]
        return torch.from_numpy(self.store.read(self.indices[positions]))


class ChunkDataModule(lightning.LightningDataModule):
    """Splits the synapses into training and validation and batches them.

    The order of an epoch depends on the seed and the epoch only, so a resumed run sees what an uninterrupted one sees.

    Args:
        store: The chunks.
        config: Batch size, seed, validation fraction.
        excluded: Store indices that stay out of both sets.
    """

    def __init__(self, store: ChunkStore, config: PretrainingConfig, excluded: NDArray[np.int64]) -> None:
        super().__init__()
        self.store = store
        self.config = config
        usable = np.setdiff1d(np.arange(len(store)), excluded)
        order = np.random.default_rng(config.seed).permutation(usable)
        n_validation = round(config.validation_fraction * len(order))
        if 0 < n_validation < 2:
            n_validation = 0
        self.validation_indices = np.sort(order[:n_validation])
        self.training_indices = np.sort(order[n_validation:])
        if len(self.training_indices) < config.batch_size:
            raise ConfigurationError(
                f"pretraining.batch_size is {config.batch_size}, but only {len(self.training_indices)} synapses are "
                f"left for training ({len(store)} stored, {len(store) - len(usable)} excluded, "
                f"{n_validation} held out). Make the batch smaller."
            )

    def train_dataloader(self) -> DataLoader[Tensor]:
        """Shuffled batches of one size; the incomplete last one is left out, as contrast depends on the batch size."""
        return self._loader(self.training_indices, shuffle=True, batch_size=self.config.batch_size)

    def val_dataloader(self) -> DataLoader[Tensor] | list[Tensor]:
        """The held-out synapses in batches of nearly one size, always in the same order."""
        n = len(self.validation_indices)
        if n == 0:
            return []
        n_batches = max(1, math.ceil(n / self.config.batch_size))
        return self._loader(self.validation_indices, shuffle=False, batch_size=math.ceil(n / n_batches))

    def _loader(self, indices: NDArray[np.int64], shuffle: bool, batch_size: int) -> DataLoader[Tensor]:
        total_mb = len(self.store) * 2 * np.prod(self.store.chunk_size_vx, dtype=np.int64) / 2**20
        dataset = ChunkDataset(self.store, indices, cached=bool(total_mb <= self.config.chunk_cache_mb))
        trainer = self.trainer
        sampler: DistributedSampler[Tensor] = DistributedSampler(
            dataset,
            num_replicas=trainer.world_size if trainer else 1,
            rank=trainer.global_rank if trainer else 0,
            shuffle=shuffle,
            seed=self.config.seed,
            drop_last=shuffle,
        )
        workers = self.config.num_workers
        return DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            drop_last=shuffle,
            num_workers=workers,
            persistent_workers=workers > 0,
            multiprocessing_context="forkserver" if workers else None,
            pin_memory=torch.cuda.is_available(),
            collate_fn=_as_is,
        )


def _as_is(batch: Any) -> Tensor:
    """The data set reads whole batches; nothing is left to collate."""
    assert isinstance(batch, Tensor)
    return batch
