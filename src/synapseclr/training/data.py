"""Chunks on their way from the store to the training step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from synapseclr.augmentation import PreparedChunks
from synapseclr.errors import ConfigurationError
from synapseclr.training.checkpoints.stopping import ignore_stop_signals
from synapseclr.training.config import PretrainingConfig
from synapseclr.training.positives import NeuriteTable, make_partners
from synapseclr.training.prepared import PreparedStore, prepared_store
from synapseclr.training.sampling import EpochBatchSampler
from synapseclr.training.views_ahead import draw_ahead
from synapseclr.volumes import ChunkStore


class SynapseDataset(Dataset[Tensor | PreparedChunks]):
    """Chosen synapses, read in whole batches, as their views need them.

    Args:
        synapses: All synapses.
        indices: Positions of the chosen ones.
    """

    def __init__(self, synapses: PreparedStore, indices: NDArray[np.int64]) -> None:
        self.synapses = synapses
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Tensor | PreparedChunks:
        return self.__getitems__([position])

    def __getitems__(self, positions: list[int]) -> Tensor | PreparedChunks:
        return self.synapses.read(self.indices[positions])


class EpochLoader(DataLoader[Any]):
    """A loader whose position within an epoch is part of Lightning's checkpoints.

    The position counts the batches that were handed out; what workers have read ahead, or what was drawn ahead, is
    read or drawn again.
    """

    batch_sampler: EpochBatchSampler
    _n_handed_out = 0
    _draw: Callable[[int, Any, int], Any] | None = None
    _draw_threads = 0

    def draw_ahead(self, draw: Callable[[int, Any, int], Any], n_threads: int) -> None:
        """Hand out ``draw(epoch, batch, index)`` instead of batches, drawn by so many threads one batch ahead."""
        self._draw, self._draw_threads = draw, n_threads

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        self._n_handed_out = self.batch_sampler.first_batch
        batches: Iterator[Any] = super().__iter__()
        if self._draw is not None:
            draw = partial(self._draw, self.batch_sampler.epoch)
            batches = draw_ahead(batches, draw, self.batch_sampler.first_batch, self._draw_threads)
        for batch in batches:
            self._n_handed_out += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """The epoch, from 0, and how many of its batches were handed out, of how many."""
        return {"epoch": self.batch_sampler.epoch, "batches": self._n_handed_out, "of": len(self)}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Let the epoch begin where the state was taken.

        Raises:
            ConfigurationError: If the epoch had another number of batches then.
        """
        if state_dict["of"] != len(self):
            raise ConfigurationError(
                f"The checkpoint was written after batch {state_dict['batches']} of {state_dict['of']} of an epoch, "
                f"which has {len(self)} batches now: it ran on another number of processes. Continue with the same "
                "pretraining.devices and nodes, or train from the start with pretraining.resume: false."
            )
        self.batch_sampler.enter_at(state_dict["epoch"], state_dict["batches"])


class ChunkDataModule(lightning.LightningDataModule):
    """Splits the synapses into training and validation and batches them.

    The order of an epoch depends on the seed and the epoch only, so a resumed run sees what an uninterrupted one sees.

    Args:
        store: The chunks.
        config: Batch size, seed, validation fraction.
        excluded: Store indices that stay out of both sets.
        neurites: Needed for positives of the same neurite.

    Attributes:
        synapses: The synapses as their views need them.
        partners: Draws the partners of training synapses among each other; None under ``augment``.
    """

    def __init__(
        self,
        store: ChunkStore,
        config: PretrainingConfig,
        excluded: NDArray[np.int64],
        neurites: NeuriteTable | None = None,
    ) -> None:
        super().__init__()
        self.store = store
        self.config = config
        self.synapses = prepared_store(store, config.augmentation, config.chunk_cache_mb)
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
        self.partners = make_partners(config.positives, neurites, self.training_indices, config.batch_size)

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled batches of one size; the incomplete last one is left out, as contrast depends on the batch size."""
        loader = self._loader(self.training_indices, shuffle=True, batch_size=self.config.batch_size)
        n_threads = self.config.view_threads
        trainer: Any = self.trainer
        on_cpu = trainer is not None and trainer.strategy.root_device.type == "cpu"
        if on_cpu and 0 < n_threads < torch.get_num_threads():
            loader.draw_ahead(trainer.lightning_module.training_views, n_threads)
        return loader

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """The held-out synapses in batches of nearly one size, always in the same order."""
        n = len(self.validation_indices)
        if n == 0:
            return []
        world_size = self.trainer.world_size if self.trainer else 1
        n_batches = math.ceil(n / (self.config.batch_size * world_size))
        batch_size = math.ceil(math.ceil(n / world_size) / n_batches)
        return self._loader(self.validation_indices, shuffle=False, batch_size=batch_size)

    def _loader(self, indices: NDArray[np.int64], shuffle: bool, batch_size: int) -> EpochLoader:
        trainer = self.trainer
        dataset = SynapseDataset(self.synapses, indices)
        self.synapses.fill(indices, show_progress=trainer is None or trainer.is_global_zero)
        world_size = trainer.world_size if trainer else 1
        sampler = EpochBatchSampler(
            len(dataset),
            batch_size,
            self.config.seed,
            shuffle,
            rank=trainer.global_rank if trainer else 0,
            world_size=world_size,
            drop_last=shuffle,
            partners=self.partners if shuffle else None,
        )
        if not len(sampler):
            raise ConfigurationError(
                f"pretraining.batch_size is {batch_size} in each of {world_size} processes, but only "
                f"{len(indices)} synapses are left for training. Make the batch smaller, or use fewer processes."
            )
        workers = self.config.num_workers
        return EpochLoader(
            dataset,
            batch_sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            prefetch_factor=self.config.prefetch_factor if workers else None,
            multiprocessing_context="forkserver" if workers else None,
            worker_init_fn=ignore_stop_signals,
            pin_memory=trainer is not None and trainer.strategy.root_device.type == "cuda",
            collate_fn=_as_is,
        )


def _as_is(batch: Any) -> Tensor | PreparedChunks:
    """The data set reads whole batches; nothing is left to collate."""
    assert isinstance(batch, Tensor | PreparedChunks)
    return batch
